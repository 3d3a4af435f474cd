# shellcheck shell=bash
# Sourced by the scripts that build or check: the repository as working folder, Rust on PATH, stages with their times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup installs here and edits the profile of later shells only.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# Options of Java for a Kafka that tests start and stop again: the better code of Java's second compiler and of its parallel
# collector does not pay for itself in seconds.
# shellcheck disable=SC2034  # for the scripts that source this
short_lived="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

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
