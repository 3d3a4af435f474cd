"""event_sourcing.py: rules, races of commands, and the read side."""

import random
import sys
import threading
from types import SimpleNamespace

import psycopg
import pytest
from support import PROGRAMS, Topic, until

sys.path.insert(0, str(PROGRAMS))
import event_sourcing as orders


def records(database: psycopg.Connection) -> list[SimpleNamespace]:
    """The rows of the outbox as the records that they become."""
    rows = database.execute("SELECT key, type, payload, headers ->> 'stream-version' FROM outbox ORDER BY id").fetchall()
    return [
        SimpleNamespace(
            key=key.encode,
            value=(payload or "").encode,
            headers=lambda kind=kind, version=version: [("type", kind.encode()), ("stream-version", version.encode())],
        )
        for key, kind, payload, version in rows
    ]


def test_the_rules_of_an_order(database: psycopg.Connection) -> None:
    assert orders.handle(database, "17", "place", 1250) == 1
    assert orders.handle(database, "17", "pay") == 2
    assert orders.handle(database, "17", "cancel") == 4, "a paid order is cancelled and its refund is due"
    for command in ("place", "pay", "cancel"):
        with pytest.raises(orders.Refused):
            orders.handle(database, "17", command, 1)
    assert database.execute("SELECT array_agg(type ORDER BY id) FROM outbox").fetchone() == (
        ["OrderPlaced", "OrderPaid", "OrderCancelled", "RefundDue"],
    )


def test_of_commands_that_race_each_sees_the_other(database: psycopg.Connection, database_url: str) -> None:
    refused: list[str] = []

    def commands(seed: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            for n in range(20):
                command = random.Random(seed * 100 + n).choice(["place", "pay", "cancel"])
                try:
                    orders.handle(own, str(n % 5), command, 100)
                except orders.Refused as reason:
                    refused.append(str(reason))

    threads = [threading.Thread(target=commands, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(5):
        events = database.execute("SELECT type FROM doorbell.read_stream(%s)", (f"order-{n}",)).fetchall()
        kinds = [kind for (kind,) in events]
        assert kinds in (
            [],
            ["OrderPlaced"],
            ["OrderPlaced", "OrderPaid"],
            ["OrderPlaced", "OrderCancelled"],
            ["OrderPlaced", "OrderPaid", "OrderCancelled", "RefundDue"],
        )


def test_the_read_side_is_the_state_whatever_comes_twice(database: psycopg.Connection) -> None:
    for order, commands in {"1": ["place", "pay"], "2": ["place", "cancel"], "3": ["place"]}.items():
        for command in commands:
            orders.handle(database, order, command, 70)
    database.execute(orders.READ_SIDE)
    events = records(database)
    for record in [*events, *events, events[0]]:
        orders.project(database, record)
    assert database.execute("SELECT stream, status FROM order_status ORDER BY 1").fetchall() == [
        ("order-1", "paid"),
        ("order-2", "cancelled"),
        ("order-3", "placed"),
    ]


def test_the_program_keeps_the_read_side_from_the_topic(database: psycopg.Connection, database_url: str, topic: Topic) -> None:
    import subprocess

    program = [sys.executable, PROGRAMS / "event_sourcing.py", "--database-url", database_url]
    placed = subprocess.run([*program, "place", "9", "--amount-cents", "5"], capture_output=True, text=True, check=True)
    assert placed.stdout == "1\n"
    again = subprocess.run([*program, "place", "9", "--amount-cents", "5"], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (1, "cannot place an order that is placed\n")

    topic.send_raw(b'{"amount_cents": 5}', [("type", b"OrderPlaced"), ("stream-version", b"1")])
    reader = subprocess.Popen([*program, "project", "--kafka-brokers", topic.brokers, "--topic", topic.name])
    try:
        exists = "SELECT to_regclass('order_status') IS NOT NULL"
        until(lambda: database.execute(exists).fetchone()[0], "the read side is there")
        count = "SELECT count(*) FROM order_status WHERE status = 'placed'"
        until(lambda: database.execute(count).fetchone() == (1,), "the event is in the read side")
    finally:
        reader.terminate()
        assert reader.wait(60) == 0
