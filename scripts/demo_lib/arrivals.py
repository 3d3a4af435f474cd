"""The watcher as a process, and what it has reported."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from .terms import DemoFault
from .watch import Event

LIMIT = 60


class Arrivals:
    """Runs the watcher beside us: a process of its own, so that nothing we do makes an arrival look late."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` fails when there is no use in waiting on."""
        self._check = check
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo_lib.watch", "--json"], start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if not self.process.stdout.readline().startswith("watching "):
            raise DemoFault(self.process.stderr.read().strip())
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.events.append(Event(**json.loads(line)))
                self._changed.notify_all()

    def take(self, keys: set[str]) -> dict[str, Event]:
        """Waits for the events with these keys."""
        deadline = time.monotonic() + LIMIT
        with self._changed:
            while missing := keys - {event.key for event in self.events}:
                if self._changed.wait(1):
                    continue
                self._check()
                if self.process.poll() is not None:
                    said = self.process.stderr.read().strip()
                    raise DemoFault(f"the watcher ended with exit code {self.process.returncode}: {said}")
                if time.monotonic() > deadline:
                    raise DemoFault(f"{len(missing)} of {len(keys)} events did not arrive within {LIMIT} s")
            return {event.key: event for event in self.events if event.key in keys}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
