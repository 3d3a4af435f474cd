#!/usr/bin/env python3
"""Adds up orders per customer, from Kafka into PostgreSQL; an event that comes twice counts once.

For each record, in this order:
  1. one database transaction: claim the event in the inbox; if no transaction did so before, apply the effect;
  2. after that has committed: commit the offset to Kafka.
Killed before 1, nothing has happened and the record comes again. Killed between 1 and 2, the record comes again and
the inbox knows it. So nothing is lost and nothing counts twice, whenever this program dies.
"""

import argparse
import json
import os
import signal
import sys
import threading
import uuid
from dataclasses import dataclass

import psycopg
from confluent_kafka import Consumer, KafkaException, Message


class Unreadable(Exception):
    """A record that will never make sense, however often it is read."""


@dataclass(frozen=True)
class Event:
    """What a record of Doorbell says."""

    id: uuid.UUID
    type: str
    payload: bytes | None


def read_event(record: Message) -> Event:
    # Only Doorbell sets this header: a row's own of the same name is left out.
    headers: dict[str, bytes | None] = {}
    for name, value in record.headers() or []:
        headers.setdefault(name, value)
    if headers.get("id") is None:
        raise Unreadable("no header `id`: not an event of an outbox, and its duplicates could not be detected")
    return Event(uuid.UUID(headers["id"].decode()), (headers.get("type") or b"").decode(), record.value())


def read_order(payload: bytes) -> tuple[str, int]:
    match json.loads(payload):
        case {"customer": str(customer), "amount_cents": int(amount_cents)}:
            return customer, amount_cents
    raise Unreadable("payload: an OrderPlaced has the text `customer` and the number `amount_cents`")


def apply(database: psycopg.Connection, event: Event) -> str:
    if event.type != "OrderPlaced":
        return "not for us"
    if event.payload is None:
        # A tombstone tells Kafka to forget a key when it compacts the topic. What was ordered was ordered.
        return "tombstone"
    customer, amount_cents = read_order(event.payload)
    database.execute(
        """INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES (%s, 1, %s)
           ON CONFLICT (customer) DO UPDATE
           SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents""",
        (customer, amount_cents),
    )
    return "applied"


# ANCHOR: take_in
def take_in(database: psycopg.Connection, event: Event) -> str:
    """Step 1, to be called in a transaction: the claim and the effect share its fate."""
    claim = database.execute("SELECT doorbell.first_time('order-totals', %s)", (event.id,))
    return apply(database, event) if claim.fetchone() == (True,) else "seen before"
# ANCHOR_END: take_in


def set_aside(database: psycopg.Connection, record: Message, reason: Exception) -> str:
    database.execute(
        """INSERT INTO set_aside (topic, partition, position, reason, key, value) VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT DO NOTHING""",
        (record.topic(), record.partition(), record.offset(), str(reason), record.key(), record.value()),
    )
    return f"set aside ({reason})"


def handle(database: psycopg.Connection, record: Message) -> str:
    try:
        event = read_event(record)
        with database.transaction():
            return take_in(database, event)
    except (Unreadable, ValueError, psycopg.DataError) as reason:
        # Not JSON, or a text or number that the database cannot hold: it would fail the same way each time.
        with database.transaction():
            return set_aside(database, record, reason)


def commit_offset(consumer: Consumer, record: Message) -> None:
    try:
        consumer.commit(message=record, asynchronous=False)
    except KafkaException as error:
        # The partition has moved to another consumer, or the broker is unreachable: the record comes again, and the inbox knows it.
        print(f"offset not committed: {error.args[0].str()}", file=sys.stderr, flush=True)


def consume(consumer: Consumer, database: psycopg.Connection, stop: threading.Event) -> None:
    while not stop.is_set():
        record = consumer.poll(0.2)
        if record is None:
            continue
        if record.error():
            if record.error().fatal():
                raise KafkaException(record.error())
            print(f"kafka: {record.error().str()}", file=sys.stderr, flush=True)
            continue
        outcome = handle(database, record)
        commit_offset(consumer, record)
        print(f"{record.topic()}[{record.partition()}]@{record.offset()} {outcome}", flush=True)


def kafka_settings(options: argparse.Namespace) -> dict[str, str | bool]:
    settings = {
        "bootstrap.servers": options.kafka_brokers,
        "group.id": options.group,
        # The offset follows the effect. Committed by a timer, it could run ahead of it, and an event would be lost.
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    if options.instance:
        settings["group.instance.id"] = options.instance
    return settings


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Add up orders per customer; an event that comes twice counts once.")
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="default: $DATABASE_URL")
    parser.add_argument("--kafka-brokers", default=os.environ.get("KAFKA_BROKERS"), help="default: $KAFKA_BROKERS")
    parser.add_argument("--topic", default="outbox", help="default: %(default)s")
    parser.add_argument("--group", default="order-totals", help="consumer group (default: %(default)s)")
    parser.add_argument(
        "--instance",
        help="a fixed name of this copy within its group: started again after a crash, it has its partitions back at "
        "once, where a nameless one waits until Kafka has given up the dead one (45 s)",
    )
    options = parser.parse_args()
    if not options.database_url:
        parser.error("no database: give --database-url or set DATABASE_URL")
    if not options.kafka_brokers:
        parser.error("no Kafka: give --kafka-brokers or set KAFKA_BROKERS")
    return options


def main() -> None:
    options = arguments()
    stop = threading.Event()
    # The record at hand is finished first; then the group is left in order.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())

    try:
        with psycopg.connect(options.database_url, autocommit=True, application_name="order-totals") as database:
            consumer = Consumer(kafka_settings(options))
            try:
                consumer.subscribe([options.topic])
                consume(consumer, database, stop)
            finally:
                consumer.close()
    except psycopg.Error as error:
        # The record's offset was not committed: this program continues with that record when it is started again.
        sys.exit(f"database: {str(error).strip()}")
    except KafkaException as error:
        sys.exit(f"kafka: {error.args[0].str()}")


if __name__ == "__main__":
    main()
