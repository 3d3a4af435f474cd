"""What the tests of the examples share: waiting, the topic, and the programs under test as processes."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = REPOSITORY / "examples" / "python"

# Far above what anything here takes: it only ends a test that hangs.
LIMIT = 60.0


def required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise RuntimeError(f"{variable} is not set: run scripts/test-examples, which sets it")
    return value


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {LIMIT:.0f} s in vain: {what}")
        time.sleep(0.005)


def order_event(customer: str = "ada", amount_cents: int = 1250) -> bytes:
    return json.dumps({"order_id": 1, "customer": customer, "amount_cents": amount_cents}).encode()


@dataclass(frozen=True)
class Topic:
    """One topic with one partition, and the consumer group `totals` on it."""

    brokers: str
    name: str

    @property
    def group(self) -> str:
        return f"totals-{self.name}"

    def send(self, value: bytes | None, event_id: str | None = None, event_type: str = "OrderPlaced", seq: int = 1) -> None:
        """Sends what Doorbell sends for an event; without an id, what some other program might."""
        headers = []
        if event_id is not None:
            headers = [("id", event_id.encode()), ("seq", str(seq).encode()), ("type", event_type.encode())]
        self.send_raw(value, headers)

    def send_raw(self, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        producer = Producer({"bootstrap.servers": self.brokers, "acks": "all"})
        producer.produce(self.name, value=value, key="1", headers=headers)
        assert producer.flush(30) == 0

    def send_orders(self, count: int, copies: int = 1) -> None:
        """Sends `count` orders of one cent, each of them `copies` times."""
        producer = Producer({"bootstrap.servers": self.brokers, "acks": "all"})
        for _ in range(count):
            headers = [("id", str(uuid.uuid4()).encode()), ("type", b"OrderPlaced")]
            for _ in range(copies):
                producer.produce(self.name, value=order_event(amount_cents=1), key="1", headers=headers)
        assert producer.flush(30) == 0

    def send_again(self) -> None:
        """Sends each record of the topic once more, as a relay does after a fault."""
        reader = Consumer({"bootstrap.servers": self.brokers, "group.id": f"again-{self.name}"})
        _, end = reader.get_watermark_offsets(TopicPartition(self.name, 0), timeout=30)
        reader.assign([TopicPartition(self.name, 0, 0)])
        records = [reader.poll(30) for _ in range(end)]
        reader.close()
        for record in records:
            self.send_raw(record.value(), record.headers())

    def committed(self) -> int:
        """The group's committed offset, 0 if there is none."""
        reader = Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        try:
            (partition,) = reader.committed([TopicPartition(self.name, 0)], timeout=30)
            return max(partition.offset, 0)
        finally:
            reader.close()


class ConsumerProcess:
    """consumer.py as a process that can be killed and started again."""

    def __init__(self, database_url: str, topic: Topic) -> None:
        self.topic = topic
        self.command = [
            sys.executable, PROGRAMS / "consumer.py",
            "--database-url", database_url, "--kafka-brokers", topic.brokers,
            "--topic", topic.name, "--group", topic.group, "--instance", "the-only-one",
        ]  # fmt: skip
        self.process: subprocess.Popen[str] | None = None

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.stdout.close()

    def start(self) -> "ConsumerProcess":
        if self.process:
            self.process.stdout.close()
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Asks it to stop; returns its exit code and what it said since its start."""
        self.process.send_signal(signum)
        said, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, said

    def until_committed(self, offset: int) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, f"the consumer ended with exit code {self.process.returncode}"
            return self.topic.committed() >= offset

        until(reached, f"offset {offset} committed")


def until_consumer_waits(database: psycopg.Connection, statement: str) -> None:
    """Waits until the consumer's session waits for a lock, in a statement that begins with these words."""
    query = """SELECT EXISTS (SELECT FROM pg_stat_activity
                              WHERE datname = current_database() AND application_name = 'order-totals'
                                AND wait_event_type = 'Lock' AND starts_with(query, %s))"""
    until(lambda: database.execute(query, (statement,)).fetchone()[0], f"the consumer waits in {statement}")


def until_consumer_session_ends(database: psycopg.Connection) -> None:
    query = """SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                                  WHERE datname = current_database() AND application_name = 'order-totals')"""
    until(lambda: database.execute(query).fetchone()[0], "the killed consumer's session ends")


def totals(database: psycopg.Connection, customer: str = "ada") -> tuple[int, int]:
    """Orders and cents that have taken effect for a customer."""
    query = "SELECT orders, amount_cents FROM order_totals WHERE customer = %s"
    return database.execute(query, (customer,)).fetchone() or (0, 0)
