"""The inserting side: psql and the Python producer, with the time (seconds since 1970) around each COMMIT."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .terms import PRODUCER, DemoFault, demo_url, environment


@dataclass(frozen=True)
class Commit:
    """When a COMMIT was sent, and when its success was known."""

    sent: float
    returned: float


def psql_program() -> str:
    folder = os.environ.get("POSTGRES_BIN")
    found = shutil.which(Path(folder, "psql") if folder else "psql")
    if not found:
        raise DemoFault("psql is not installed (Debian: apt-get install postgresql-client)")
    return found


class Psql:
    """One session of psql that stays open: statements go in by a pipe, as from someone who types them."""

    def __init__(self) -> None:
        target = conninfo_to_dict(demo_url())
        # Not on the command line, where everybody could read it.
        password = target.pop("password", None)
        secret = {"PGPASSWORD": password} if password else {}
        self.process = subprocess.Popen(
            [psql_program(), "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", make_conninfo(**target)],
            env={**environment(), **secret}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.run("SELECT 'ready'")

    def run(self, statement: str) -> Commit:
        """Runs one statement that answers with one line. It is a transaction of its own."""
        sent = time.time()
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its stderr says why
            self.process.stdin.write(statement + ";\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        returned = time.time()
        if not answer:
            raise DemoFault(f"psql: {self.process.stderr.read().strip()}")
        return Commit(sent, returned)

    def close(self) -> None:
        self.process.communicate()


def place_orders(customer: str, amount_cents: int, count: int = 1) -> dict[str, Commit]:
    """Runs the producer; the orders' keys with their commits."""
    done = _producer(customer, amount_cents, count)
    if done.returncode != 0:
        raise DemoFault(f"producer.py: {done.stderr.strip()}")
    orders = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(order["order_id"]): Commit(order["commit_began"], order["commit_returned"]) for order in orders}


def refused_order(customer: str, amount_cents: int) -> str:
    """Runs the producer with an order that the database refuses after both rows were inserted; what it said."""
    done = _producer(customer, amount_cents, 1)
    if done.returncode != 1 or "order refused" not in done.stderr:
        raise DemoFault(f"producer.py placed an order that should have been refused: {done.stdout}{done.stderr}".strip())
    return done.stderr.strip()


def _producer(customer: str, amount_cents: int, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PRODUCER, "--customer", customer, "--amount-cents", str(amount_cents)]
    command += ["--count", str(count), "--json"]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
