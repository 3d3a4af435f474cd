"""The life of one service of one instance: launch, wait until it answers, stop, kill."""

import contextlib
import os
import signal
import subprocess
import time

from .common import Fault, as_user, children, is_alive, port_is_free, remembered_ports, say

# For a loaded machine with two cores; a healthy start takes two seconds, a healthy stop less.
START_LIMIT = 120
STOP_LIMIT = 60


class Service:
    """What PostgreSQL and Kafka share. A subclass says how to fetch, configure, ask and name it."""

    what = ""  # its name on the command line
    title = ""  # its name for people
    port_names = ()
    stop_signal = signal.SIGTERM

    def __init__(self, folder, name):
        self.services = folder
        self.name = name
        self.instance = folder / "instances" / name
        self.home = self.instance / self.what
        self.log = self.home / "log"

    def fetch(self):
        """Installs the programs unless they are there."""
        raise NotImplementedError

    def prepare(self):
        """Creates the data on the first start, writes the settings for this one, and returns the command."""
        raise NotImplementedError

    def add(self, lines):
        """Adds lines to the settings of the next starts."""
        raise Fault(f"{self.title} takes no added settings")

    def pid(self):
        """The running process, or None."""
        raise NotImplementedError

    def answers(self):
        raise NotImplementedError

    def variables(self):
        """The KEY=VALUE lines of a running service."""
        raise NotImplementedError

    def user(self):
        """The account it runs as; None: the caller's."""

    def launched(self, pid):
        """Called with the process id right after the launch."""

    @property
    def port(self):
        return remembered_ports(self.instance)[self.port_names[0]]

    def launch(self):
        """Starts the process in a session of its own, so that neither the end of this script nor Ctrl-C ends it."""
        command = [str(word) for word in self.prepare()]
        # The caller's PGPORT, PGOPTIONS or locale must not affect our server.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
        env["LC_ALL"] = "C"
        with open(self.log, "ab") as log:
            process = subprocess.Popen(command, cwd=self.home, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True, **as_user(self.user()))
        self.launched(process.pid)
        return process

    def start(self):
        """Launches and returns a function that waits for the first answer, so that several can come up together."""
        process = self.launch()
        return lambda: self._await_answer(process)

    def _await_answer(self, process):
        began = time.monotonic()
        relaunches = 0
        while not self.answers():
            if process.poll() is not None:
                taken = not all(port_is_free(remembered_ports(self.instance)[name]) for name in self.port_names)
                if not taken or relaunches == 2:
                    raise Fault(f"{self.title} ended while starting:\n{self._end_of_log()}")
                relaunches += 1  # another program took the port between our check and its bind
                process = self.launch()
            if time.monotonic() - began > START_LIMIT:
                raise Fault(f"{self.title} does not answer after {START_LIMIT} s:\n{self._end_of_log()}")
            time.sleep(0.1)
        self.say_running()

    def say_running(self):
        say(f"{self.title} runs ({self.name}, port {self.port}, pid {self.pid()}, log {self.log})")

    def _end_of_log(self):
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"  the end of {self.log}:"] + ["  | " + line for line in lines[-20:]])

    def stop(self):
        """A clean stop; a service that does not follow is killed, and that is said."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, self.stop_signal)
        if not _gone([pid], STOP_LIMIT):
            say(f"{self.title} ({self.name}, pid {pid}) did not stop in {STOP_LIMIT} s")
            self.kill()
            return
        say(f"{self.title} stopped ({self.name})")

    def kill(self):
        """SIGKILL to the process and its children: what a power failure leaves behind."""
        pid = self.pid()
        if pid is None:
            return
        # Each PostgreSQL backend leads a process group of its own, so the group alone would miss them. The parent
        # goes first: it cannot fork or clean up any more.
        family = [pid] + children(pid)
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        if not _gone(family, STOP_LIMIT):
            raise Fault(f"{self.title} ({self.name}, pid {pid}) survives SIGKILL")
        say(f"{self.title} killed ({self.name})")


def _gone(pids, limit):
    until = time.monotonic() + limit
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
