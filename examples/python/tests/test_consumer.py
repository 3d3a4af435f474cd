"""The idempotent consumer: whatever comes twice, and whenever it is killed, each event takes effect once."""

import contextlib
import random
import signal
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from support import (
    ConsumerProcess,
    Topic,
    order_event,
    totals,
    until,
    until_consumer_session_ends,
    until_consumer_waits,
)

# The Kafka client's timer of automatic commits ticks every 5 s. A consumer that forgot to switch it off would, held
# up for this long, commit the offset of an event that has not taken effect.
LONGER_THAN_THE_COMMIT_TIMER = 6.0


@pytest.fixture
def consumer(database_url: str, topic: Topic) -> Iterator[ConsumerProcess]:
    with contextlib.closing(ConsumerProcess(database_url, topic).start()) as consumer:
        yield consumer


def new_id() -> str:
    return str(uuid.uuid4())


def set_aside(database: psycopg.Connection) -> list[int]:
    rows = database.execute("SELECT position FROM set_aside ORDER BY position").fetchall()
    return [position for (position,) in rows]


def test_the_same_event_twice_counts_once(consumer: ConsumerProcess, database: psycopg.Connection) -> None:
    event, another = new_id(), new_id()
    for event_id in (event, event, another):
        consumer.topic.send(order_event(), event_id)
    consumer.until_committed(3)

    assert totals(database) == (2, 2500)
    code, said = consumer.stop()
    assert code == 0
    assert [line.split(maxsplit=1)[1] for line in said.splitlines()] == ["applied", "seen before", "applied"]


def test_the_same_event_after_a_restart_counts_once(consumer: ConsumerProcess, database: psycopg.Connection) -> None:
    event = new_id()
    consumer.topic.send(order_event(), event)
    consumer.until_committed(1)
    assert consumer.stop()[0] == 0

    consumer.topic.send(order_event(), event)
    consumer.start().until_committed(2)

    assert totals(database) == (1, 1250)


def test_killed_before_the_database_commit(consumer: ConsumerProcess, database: psycopg.Connection, database_url: str) -> None:
    consumer.topic.send(order_event(), new_id())
    consumer.until_committed(1)

    # A lock on the row that the effect changes stops the consumer in the middle of its transaction.
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM order_totals WHERE customer = 'ada' FOR UPDATE")
        consumer.topic.send(order_event(), new_id())
        until_consumer_waits(database, "INSERT INTO order_totals")
        time.sleep(LONGER_THAN_THE_COMMIT_TIMER)
        consumer.kill()
    until_consumer_session_ends(database)
    assert totals(database) == (1, 1250), "the transaction died with the consumer"
    assert consumer.topic.committed() == 1

    consumer.start().until_committed(2)

    assert totals(database) == (2, 2500)
    assert consumer.stop()[1].split(maxsplit=1)[1].strip() == "applied"


def test_killed_between_database_commit_and_offset_commit(
    consumer: ConsumerProcess, database: psycopg.Connection, database_url: str
) -> None:
    # A deferred trigger runs inside COMMIT: it stops the consumer when its transaction can no longer be taken back
    # and its offset cannot have been committed yet.
    database.execute("""
        CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON doorbell.inbox DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
    """)
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        consumer.topic.send(order_event(), new_id())
        until_consumer_waits(database, "COMMIT")
        assert totals(database) == (0, 0)
        consumer.kill()
    until(lambda: totals(database) == (1, 1250), "the COMMIT of the killed consumer takes effect")
    assert consumer.topic.committed() == 0, "Kafka does not know of it"

    consumer.start().until_committed(1)

    assert totals(database) == (1, 1250)
    assert consumer.stop()[1].split(maxsplit=1)[1].strip() == "seen before"


def test_killed_at_random_moments(consumer: ConsumerProcess, database: psycopg.Connection) -> None:
    orders, copies = 600, 2
    consumer.topic.send_orders(orders, copies)

    # Ten kills, spread over the work by what has taken effect so far.
    for done in sorted(random.sample(range(orders - 50), 10)):
        until(lambda done=done: totals(database)[0] >= done, f"{done} orders have taken effect")
        consumer.kill()
        consumer.start()
    consumer.until_committed(orders * copies)

    assert totals(database) == (orders, orders)


def test_a_tombstone_is_taken_in_without_effect(consumer: ConsumerProcess, database: psycopg.Connection) -> None:
    consumer.topic.send(None, new_id())
    consumer.topic.send(order_event(), new_id())
    consumer.until_committed(2)

    assert totals(database) == (1, 1250)
    assert set_aside(database) == []
    assert database.execute("SELECT count(*) FROM doorbell.inbox").fetchone() == (2,)


def test_an_event_of_another_type_has_no_effect(consumer: ConsumerProcess, database: psycopg.Connection) -> None:
    consumer.topic.send(b"not even JSON", new_id(), event_type="CustomerMoved")
    consumer.topic.send(order_event(), new_id())
    consumer.until_committed(2)

    assert totals(database) == (1, 1250)
    assert set_aside(database) == []


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        pytest.param(order_event(), [], id="no id header"),
        pytest.param(order_event(), [("id", b"7")], id="an id that is no UUID"),
        pytest.param(b"{", None, id="not JSON"),
        pytest.param(b"[]", None, id="not an object"),
        pytest.param(b'{"customer": "ada"}', None, id="no amount"),
        pytest.param(order_event(amount_cents=2**64), None, id="a number that no bigint holds"),
        pytest.param(order_event(customer="a\0b"), None, id="a NUL that no text holds"),
        pytest.param(b'{"customer": "\\ud800", "amount_cents": 1}', None, id="half a surrogate pair"),
        pytest.param(b"\xff\xfe", None, id="not UTF-8"),
    ],
)
def test_an_unreadable_record_is_set_aside_and_the_next_one_counts(
    consumer: ConsumerProcess, database: psycopg.Connection, value: bytes, headers: list | None
) -> None:
    good = [("id", new_id().encode()), ("type", b"OrderPlaced")]
    consumer.topic.send_raw(value, good if headers is None else headers)
    consumer.topic.send(order_event(), new_id())
    consumer.until_committed(2)

    assert totals(database) == (1, 1250)
    assert set_aside(database) == [0]
    assert database.execute("SELECT value FROM set_aside").fetchone() == (value,)
    assert consumer.stop()[0] == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(consumer: ConsumerProcess, database: psycopg.Connection, signum: signal.Signals) -> None:
    consumer.topic.send(order_event(), new_id())
    consumer.until_committed(1)

    assert consumer.stop(signum)[0] == 0
    until_consumer_session_ends(database)
