# shellcheck shell=bash
# Sourced by the scripts that build or check: the repository as working folder, Rust on PATH, stages with their times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup installs here and edits the profile of later shells only.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# stage NAME COMMAND...: runs the command under a heading and says how long it took
stage() {
  local name=$1 began=$SECONDS code=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || code=$?
  if [ "$code" = 0 ]; then
    printf '== %s: ok (%d s)\n' "$name" $((SECONDS - began))
  else
    printf '== %s: FAILED with exit code %d (%d s)\n' "$name" "$code" $((SECONDS - began))
  fi
  return "$code"
}
