"""The relay as a process: start it, wait until it leads, stop it. As a program: stop the one that a demo left running."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from services_lib.common import is_alive, runs

from .terms import TOPIC, DemoFault, environment, folder, say

START_LIMIT = 60
STOP_LIMIT = 60
LEADS = re.compile(r": leading\b")


class Relay:
    """`doorbell run` on the demo's database. It outlives this program where that is wanted."""

    def __init__(self, binary: Path) -> None:
        self.log = folder() / "relay.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "run", "--topic", TOPIC], env=environment(), cwd=folder(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        _pid_file().write_text(f"{self.process.pid} {binary}")
        try:
            self._until_it_leads()
        except BaseException:
            self.abandon()
            raise

    def _until_it_leads(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not LEADS.search(self.log.read_text(errors="replace")):
            self.check()
            if time.monotonic() > deadline:
                raise DemoFault(f"the relay does not lead after {START_LIMIT} s; {self._last_words()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Fails if the relay has ended."""
        if self.process.poll() is not None:
            raise DemoFault(f"the relay ended with exit code {self.process.returncode}; {self._last_words()}")

    def stop(self) -> None:
        """SIGTERM; the relay finishes what is in flight and exits 0, or this is a fault."""
        self.check()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise DemoFault(f"the relay did not stop {STOP_LIMIT} s after SIGTERM; {self._last_words()}") from None
        _pid_file().unlink()
        if code != 0:
            raise DemoFault(f"the relay ended with exit code {code} after SIGTERM; {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["(nothing)"]
        return f"{self.log} ends with: {lines[-1]}"

    def abandon(self) -> None:
        """Ends the relay of a demo that failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        _pid_file().unlink(missing_ok=True)


def _pid_file() -> Path:
    return folder() / "relay.pid"


def stop_former() -> bool:
    """Stops the relay that a former demo left running; false: there is none."""
    try:
        pid, binary = _pid_file().read_text().split(maxsplit=1)
    except FileNotFoundError:
        return False
    # The process id may be another program's by now.
    found = runs(pid, binary)
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT
        while is_alive(pid):
            if time.monotonic() > deadline:
                raise DemoFault(f"the relay of a former demo (pid {pid}) does not stop")
            time.sleep(0.02)
    _pid_file().unlink()
    return found


if __name__ == "__main__":
    if stop_former():
        say("demo: the relay is stopped; services that still run: scripts/services status, scripts/services stop")
    else:
        say("demo: no relay of a demo is running")
