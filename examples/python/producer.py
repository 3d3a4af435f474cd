#!/usr/bin/env python3
"""Places orders: the business row and its event in one transaction, so that they exist together or not at all.

This program knows nothing of Kafka. It inserts a row into `outbox`; Doorbell carries it from there.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass

import psycopg
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class Order:
    """An order that the database has committed, and the time (seconds since 1970) around that COMMIT."""

    order_id: int
    customer: str
    amount_cents: int
    commit_began: float
    commit_returned: float


# ANCHOR: place_order
def place_order(database: psycopg.Connection, customer: str, amount_cents: int) -> Order:
    with database.transaction():
        (order_id,) = database.execute(
            "INSERT INTO orders (customer, amount_cents) VALUES (%s, %s) RETURNING id",
            (customer, amount_cents),
        ).fetchone()

        payload = {"order_id": order_id, "customer": customer, "amount_cents": amount_cents}
        database.execute(
            "INSERT INTO outbox (type, key, payload, headers) VALUES (%s, %s, %s, %s)",
            ("OrderPlaced", str(order_id), json.dumps(payload), Jsonb({"source": "producer.py"})),
        )

        # The last word: if the credit does not suffice, this fails, and the order goes together with its event.
        database.execute(
            "UPDATE customers SET credit_cents = credit_cents - %s WHERE name = %s",
            (amount_cents, customer),
        )
        commit_began = time.time()
    return Order(order_id, customer, amount_cents, commit_began, time.time())
# ANCHOR_END: place_order


def report(order: Order, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(order)), flush=True)
    else:
        print(f"order {order.order_id} of {order.customer} placed: {order.amount_cents / 100:.2f}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Place orders, each with its event in the same transaction.")
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="default: $DATABASE_URL")
    parser.add_argument("--customer", default="ada", help="who orders (default: %(default)s)")
    parser.add_argument("--amount-cents", type=int, default=1250, help="price of one order (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1, help="how many orders, one transaction each (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object for each order, with its commit times")
    options = parser.parse_args()
    if not options.database_url:
        parser.error("no database: give --database-url or set DATABASE_URL")
    return options


def main() -> None:
    options = arguments()
    try:
        with psycopg.connect(options.database_url, autocommit=True) as database:
            for _ in range(options.count):
                report(place_order(database, options.customer, options.amount_cents), options.json)
    except psycopg.IntegrityError as refusal:
        sys.exit(f"order refused, nothing of it was written: {refusal.diag.message_primary}")
    except psycopg.Error as error:
        sys.exit(f"database: {str(error).strip()}")


if __name__ == "__main__":
    main()
