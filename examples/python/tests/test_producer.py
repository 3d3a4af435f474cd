"""The inserting examples: business row and event together, or neither."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from support import LIMIT, PROGRAMS, REPOSITORY

PLACE_ORDER = REPOSITORY / "examples" / "psql" / "place_order.sql"


def produce(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAMS / "producer.py", "--database-url", database_url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def place_by_psql(psql: str, database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [psql, "-X", "-d", database_url, *arguments, "-f", PLACE_ORDER]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def orders(database: psycopg.Connection) -> list[tuple]:
    return database.execute("SELECT id, customer, amount_cents FROM orders ORDER BY id").fetchall()


def events(database: psycopg.Connection) -> list[tuple]:
    return database.execute("SELECT type, key, payload::json, topic, headers FROM outbox ORDER BY id").fetchall()


def expected_event(order: tuple, source: str) -> tuple:
    order_id, customer, amount_cents = order
    payload = {"order_id": order_id, "customer": customer, "amount_cents": amount_cents}
    return ("OrderPlaced", str(order_id), payload, None, {"source": source})


def test_producer_leaves_one_order_and_one_event(database_url: str, database: psycopg.Connection) -> None:
    done = produce(database_url, "--customer", "grace", "--amount-cents", "4200")

    assert (done.returncode, done.stderr) == (0, "")
    (order,) = orders(database)
    assert order[1:] == ("grace", 4200)
    assert events(database) == [expected_event(order, "producer.py")]


def test_producer_reports_the_times_of_each_commit(database_url: str, database: psycopg.Connection) -> None:
    started = time.time()
    done = produce(database_url, "--count", "3", "--json")

    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["order_id"] for report in reports] == [order[0] for order in orders(database)]
    times = [moment for report in reports for moment in (report["commit_began"], report["commit_returned"])]
    assert len(times) == 6
    in_order = [started, *times, time.time()]
    assert in_order == sorted(in_order)


def test_refused_order_leaves_neither_order_nor_event(database_url: str, database: psycopg.Connection) -> None:
    # The credit suffices for one of the two; the second has inserted both its rows when it is refused.
    done = produce(database_url, "--customer", "linus", "--amount-cents", "300", "--count", "2")

    assert done.returncode == 1
    assert "credit_is_never_overdrawn" in done.stderr
    assert "Traceback" not in done.stderr
    (order,) = orders(database)
    assert events(database) == [expected_event(order, "producer.py")]


def test_psql_leaves_one_order_and_one_event(psql: str, database_url: str, database: psycopg.Connection) -> None:
    done = place_by_psql(psql, database_url)

    assert (done.returncode, done.stderr) == (0, "")
    (order,) = orders(database)
    assert order[1:] == ("ada", 1250)
    assert events(database) == [expected_event(order, "psql")]


def test_psql_takes_its_values_as_variables(psql: str, database_url: str, database: psycopg.Connection) -> None:
    done = place_by_psql(psql, database_url, "-v", "customer=grace", "-v", "amount_cents=77")

    assert done.returncode == 0, done.stderr
    (order,) = orders(database)
    assert order[1:] == ("grace", 77)
    assert events(database) == [expected_event(order, "psql")]


@pytest.mark.parametrize("values", [("linus", "501"), ("ghost", "1"), ("ada", "0"), ("ada', 'x", "1")])
def test_refused_psql_order_leaves_neither(
    psql: str, database_url: str, database: psycopg.Connection, values: tuple[str, str]
) -> None:
    done = place_by_psql(psql, database_url, "-v", f"customer={values[0]}", "-v", f"amount_cents={values[1]}")

    assert done.returncode == 3, "psql's exit code for a script that failed"
    assert orders(database) == []
    assert events(database) == []


def test_the_schema_can_be_applied_again(psql: str, database_url: str) -> None:
    for script in (REPOSITORY / "examples/psql/schema.sql", PROGRAMS / "consumer.sql"):
        command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database_url, "-f", script]
        subprocess.run(command, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("program", ["producer.py", "consumer.py"])
def test_without_a_database_it_says_so_in_one_line(program: str) -> None:
    command = [sys.executable, Path(PROGRAMS, program), "--database-url", "postgres://127.0.0.1:1/none"]
    environment = {"KAFKA_BROKERS": "127.0.0.1:1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, env=environment)

    assert done.returncode == 1
    assert done.stderr.startswith("database: ")
    assert "Traceback" not in done.stderr
