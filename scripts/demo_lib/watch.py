"""The receiving side: a Kafka consumer that notes when each event arrived, and prints it."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from .terms import TOPIC


@dataclass(frozen=True)
class Event:
    """A record as this consumer received it, and the time (seconds since 1970) when it did."""

    topic: str
    partition: int
    offset: int
    key: str | None
    headers: dict[str, str | None]
    payload: str | None
    timestamp: float
    arrived: float

    def lines(self) -> list[str]:
        # What Doorbell adds comes first, then what the row brought along.
        headers = "  ".join(f"{name} {value}" for name, value in self.headers.items())
        return [f"{self.topic}[{self.partition}]@{self.offset}  key {self.key}", headers, f"{self.payload}"]


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def event(record: Message, arrived: float) -> Event:
    headers = {name: text(value) for name, value in record.headers() or []}
    timestamp = record.timestamp()[1] / 1000
    return Event(
        record.topic(), record.partition(), record.offset(),
        text(record.key()), headers, text(record.value()), timestamp, arrived,
    )  # fmt: skip


def at_the_end(consumer: Consumer, topic: str) -> None:
    """Reads what comes from now on. Without a group, since to join one takes time and there is nothing to remember."""
    known = consumer.list_topics(topic, timeout=30).topics[topic]
    if known.error:
        raise KafkaException(known.error)
    ends = []
    for partition in known.partitions:
        _first, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        ends.append(TopicPartition(topic, partition, end))
    consumer.assign(ends)


def events(consumer: Consumer, stop: threading.Event) -> Iterator[list[Event]]:
    """Everything that has arrived, as soon as no more is waiting: the time of arrival is noted before anything is
    printed, so that to print one event does not make the next look late."""
    received: list[tuple[Message, float]] = []
    while not stop.is_set():
        record = consumer.poll(0 if received else 0.2)
        if record is None:
            if received:
                yield [event(*one) for one in received]
                received = []
        elif not record.error():
            received.append((record, time.time()))
        elif record.error().fatal() or record.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(record.error())
        # A broker that is away for a moment: the client finds it again by itself.


def show(one: Event) -> None:
    age = (one.arrived - one.timestamp) * 1000
    print("\n".join([*one.lines(), f"{age:.0f} ms after its transaction began", ""]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/demo watch", description="Print events as they arrive in Kafka.")
    parser.add_argument("--topic", default=TOPIC, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object for each event")
    options = parser.parse_args()

    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())

    consumer = Consumer({"bootstrap.servers": os.environ["KAFKA_BROKERS"], "group.id": "doorbell-demo-watch"})
    try:
        at_the_end(consumer, options.topic)
        print(f"watching {options.topic}", flush=True)
        for batch in events(consumer, stop):
            for one in batch:
                if options.json:
                    print(json.dumps(asdict(one)), flush=True)
                else:
                    show(one)
    except KafkaException as error:
        sys.exit(f"watch: {error.args[0].str()}")
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
