#!/usr/bin/env python3
"""Orders as streams of events: place, pay, cancel. The state is folded from the events, and the topic is the read side.

  event_sourcing.py place 17 --amount-cents 1250      appends to the stream order-17, whose events leave by the outbox
  event_sourcing.py pay 17
  event_sourcing.py cancel 17
  event_sourcing.py project                           keeps the table order_status, from the topic, until it is stopped
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

import psycopg
from confluent_kafka import Consumer, KafkaException, Message


class Refused(Exception):
    """A command that the rules of an order do not allow."""


@dataclass(frozen=True)
class Order:
    """The state after the event with this version; -1 is an order without events."""

    version: int = -1
    status: str = "none"
    amount_cents: int = 0

    def after(self, version: int, event_type: str, payload: dict) -> "Order":
        match event_type:
            case "OrderPlaced":
                return Order(version, "placed", payload["amount_cents"])
            case "OrderPaid":
                return replace(self, version=version, status="paid")
            case "OrderCancelled":
                return replace(self, version=version, status="cancelled")
        return replace(self, version=version)  # an event of a later program: no concern of this one


def fold(events: Iterable[tuple[int, str, str | None]]) -> Order:
    order = Order()
    for version, event_type, payload in events:
        order = order.after(version, event_type, json.loads(payload or "{}"))
    return order


def decide(order: Order, command: str, amount_cents: int) -> list[tuple[str, dict]]:
    """The rules: which events a command leads to. Knows no database."""
    match command, order.status:
        case "place", "none" if amount_cents > 0:
            return [("OrderPlaced", {"amount_cents": amount_cents})]
        case "pay", "placed":
            return [("OrderPaid", {"amount_cents": order.amount_cents})]
        case "cancel", "placed" | "paid":
            refund = [("RefundDue", {"amount_cents": order.amount_cents})] if order.status == "paid" else []
            return [("OrderCancelled", {}), *refund]
    raise Refused(f"cannot {command} an order that is {order.status}")


def handle(database: psycopg.Connection, order_id: str, command: str, amount_cents: int = 0) -> int:
    """Reads, decides, appends. A command that loses a race decides again. Returns the version."""
    stream = f"order-{order_id}"
    while True:
        try:
            with database.transaction():
                events = database.execute("SELECT version, type, payload FROM doorbell.read_stream(%s)", (stream,))
                order = fold(events.fetchall())
                decided = decide(order, command, amount_cents)
                (version,) = database.execute(
                    "SELECT doorbell.append(%s, %s, %s, %s)",
                    (stream, order.version, [name for name, _ in decided], [json.dumps(it) for _, it in decided]),
                ).fetchone()
            return version
        except psycopg.Error as error:
            # DB409: another command has appended meanwhile. 40001: the same, as the stricter isolation levels say it.
            if error.sqlstate not in ("DB409", "40001"):
                raise


def project(database: psycopg.Connection, record: Message) -> None:
    """Takes one event into the read side. The version in the header makes a record that comes twice harmless."""
    headers = dict(record.headers() or [])
    version = int(headers["stream-version"])
    row = database.execute("SELECT version, status, amount_cents FROM order_status WHERE stream = %s", (record.key().decode(),))
    order = Order(*(row.fetchone() or ()))
    if version <= order.version:
        return
    order = order.after(version, headers["type"].decode(), json.loads(record.value() or b"{}"))
    database.execute(
        """INSERT INTO order_status (stream, version, status, amount_cents) VALUES (%s, %s, %s, %s)
           ON CONFLICT (stream) DO UPDATE SET (version, status, amount_cents) = (excluded.version, excluded.status, excluded.amount_cents)""",
        (record.key().decode(), order.version, order.status, order.amount_cents),
    )


READ_SIDE = """CREATE TABLE IF NOT EXISTS order_status
    (stream text PRIMARY KEY, version bigint NOT NULL, status text NOT NULL, amount_cents bigint NOT NULL)"""


def keep_read_side(database: psycopg.Connection, consumer: Consumer, stop: threading.Event) -> None:
    database.execute(READ_SIDE)
    while not stop.is_set():
        record = consumer.poll(0.2)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        project(database, record)
        consumer.commit(message=record, asynchronous=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["place", "pay", "cancel", "project"])
    parser.add_argument("order", nargs="?", help="the order's number")
    parser.add_argument("--amount-cents", type=int, default=0)
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="default: $DATABASE_URL")
    parser.add_argument("--kafka-brokers", default=os.environ.get("KAFKA_BROKERS"), help="default: $KAFKA_BROKERS")
    parser.add_argument("--topic", default="outbox", help="default: %(default)s")
    options = parser.parse_args()
    if not options.database_url:
        parser.error("no database: give --database-url or set DATABASE_URL")
    if options.command == "project" and not options.kafka_brokers:
        parser.error("no Kafka: give --kafka-brokers or set KAFKA_BROKERS")
    if options.command != "project" and not options.order:
        parser.error(f"which order? event_sourcing.py {options.command} ORDER")
    return options


def main() -> None:
    options = arguments()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        with psycopg.connect(options.database_url, autocommit=True, application_name="order-status") as database:
            if options.command != "project":
                print(handle(database, options.order, options.command, options.amount_cents))
                return
            settings = {
                "bootstrap.servers": options.kafka_brokers,
                "group.id": "order-status",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
            consumer = Consumer(settings)
            try:
                consumer.subscribe([options.topic])
                keep_read_side(database, consumer, stop)
            finally:
                consumer.close()
    except Refused as error:
        sys.exit(str(error))
    except psycopg.Error as error:
        sys.exit(f"database: {str(error).strip()}")
    except KafkaException as error:
        sys.exit(f"kafka: {error.args[0].str()}")


if __name__ == "__main__":
    main()
