"""Places orders with their events, and adds them up per customer from Kafka.

main.py place CUSTOMER CENTS
main.py consume
"""

import os
import signal
import sys
import threading

from confluent_kafka import Consumer
from consume import consume
from place import place_order
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session


def settings() -> dict[str, str | bool]:
    chosen: dict[str, str | bool] = {
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "group.id": os.environ.get("GROUP", "order-totals"),
        # The offset follows the effect. Committed by a timer, it could run ahead of it, and an event would be lost.
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    if name := os.environ.get("INSTANCE"):
        chosen["group.instance.id"] = name
    return chosen


def main() -> None:
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        match sys.argv[1:]:
            case ["place", customer, cents]:
                print(place_order(session, customer, int(cents)))
            case ["consume"]:
                stop = threading.Event()
                for signum in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(signum, lambda *_: stop.set())
                consumer = Consumer(settings())
                try:
                    consumer.subscribe([os.environ.get("TOPIC", "outbox")])
                    consume(session, consumer, stop.is_set)
                finally:
                    consumer.close()
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main()
