"""The scenes of the demo, and what they prove. Run by scripts/demo, with DATABASE_URL and KAFKA_BROKERS set."""

import contextlib
import math
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import psycopg
from confluent_kafka import KafkaException

from . import stage
from .arrivals import Arrivals
from .insert import Commit, Psql, place_orders, psql_program, refused_order
from .relay import Relay, stop_former
from .terms import TOPIC, DemoFault, demo_url, say, step
from .watch import Event

BURST = 1000


def play(keep: bool) -> None:
    began = time.monotonic()
    with step("built the relay"):
        binary = stage.build()
    if stop_former():
        say("           stopped the relay that a former demo had left")
    with step(f"created the database and the topic {TOPIC}"):
        stage.create_database()
        stage.create_topic()
    with step("doorbell migrate: the outbox table and its trigger"):
        stage.migrate(binary)
        stage.create_business_tables()

    with step("started doorbell run; it leads"):
        relay = Relay(binary)
    try:
        with contextlib.closing(Arrivals(relay.check)) as arrivals:
            expected = scenes(arrivals)
            prove(arrivals, expected)
        if not keep:
            with step("SIGTERM to the relay: it finished and exited with 0"):
                relay.stop()
    except BaseException:
        relay.abandon()
        raise
    if keep:
        say(f"Done in {time.monotonic() - began:.1f} s.")
        tell_what_runs(relay, binary)
    else:
        stage.drop_database()
        stage.delete_topic()
        say(f"\nDone in {time.monotonic() - began:.1f} s. Next: `make demo KEEP=1` keeps it all running for events of your own.")


# --- the scenes: each returns the keys that must arrive ---


def scenes(arrivals: Arrivals) -> set[str]:
    expected: set[str] = set()
    psql = Psql()
    with contextlib.closing(psql):
        for scene in (
            lambda: three_events_from_psql(arrivals, psql),
            lambda: orders_from_python(arrivals),
            lambda: burst_of_one_statement(arrivals, psql),
            lambda: burst_of_transactions(arrivals),
        ):
            expected |= scene()
    return expected


def three_events_from_psql(arrivals: Arrivals, psql: Psql) -> set[str]:
    title("Three events from psql, one session, one transaction each; the first finds everything cold")
    keys = [f"greeting-{number}" for number in (1, 2, 3)]
    for key, word in zip(keys, ("hello", "again", "good bye"), strict=True):
        insert = f"""INSERT INTO outbox (type, key, payload) VALUES ('Greeting', '{key}', '{{"text": "{word}"}}')"""
        say(f"psql> {insert};")
        commit = psql.run(insert)
        show(arrivals.take({key})[key], commit)
    return set(keys)


def orders_from_python(arrivals: Arrivals) -> set[str]:
    title("Orders from Python: business row and event in one transaction")
    say("$ examples/python/producer.py --customer grace --amount-cents 4200")
    first = place_orders("grace", 4200)
    show_orders(arrivals, first)
    say("$ examples/python/producer.py --customer linus --amount-cents 501      (more than his credit)")
    say(f"  {refused_order('linus', 501)}")
    say("  Its event was inserted before that, and rolled back with the rest: it never arrives.\n")
    say("$ examples/python/producer.py --customer ada --amount-cents 1250")
    second = place_orders("ada", 1250)
    show_orders(arrivals, second)
    return first.keys() | second.keys()


def show_orders(arrivals: Arrivals, orders: dict[str, Commit]) -> None:
    received = arrivals.take(set(orders))
    for key, commit in orders.items():
        show(received[key], commit)


def burst_of_one_statement(arrivals: Arrivals, psql: Psql) -> set[str]:
    title(f"A burst: {BURST:,} events by one INSERT")
    keys = {f"burst-{number}" for number in range(1, BURST + 1)}
    commit = psql.run(
        "INSERT INTO outbox (type, key, payload) "
        f"SELECT 'Burst', 'burst-' || n, json_build_object('n', n)::text FROM generate_series(1, {BURST}) n"
    )
    received = arrivals.take(keys)
    summary(received, dict.fromkeys(keys, commit))
    return keys


def burst_of_transactions(arrivals: Arrivals) -> set[str]:
    title(f"A burst: {BURST:,} orders from Python, {BURST:,} transactions one after the other")
    orders = place_orders("ada", 1, BURST)
    summary(arrivals.take(set(orders)), orders)
    return set(orders)


# --- what is shown and proved ---


def title(text: str) -> None:
    say(f"\n--- {text} ---\n")


def show(event: Event, commit: Commit) -> None:
    for line in event.lines():
        say(f"  {line}")
    after = (event.arrived - commit.returned) * 1000
    told = f"{after:.1f} ms after the COMMIT had returned" if after >= 0 else f"{-after:.1f} ms before the COMMIT returned"
    say(f"  arrived {told} ({(event.arrived - commit.sent) * 1000:.1f} ms after it was sent)\n")


def summary(events: dict[str, Event], commits: dict[str, Commit]) -> None:
    waits = sorted((event.arrived - commits[key].returned) * 1000 for key, event in events.items())
    first = min(commit.sent for commit in commits.values())
    last = max(event.arrived for event in events.values())
    say(f"  {len(events):,} events in {(last - first) * 1000:.0f} ms, from the first COMMIT sent to the last arrival: "
        f"{len(events) / (last - first):,.0f} events/s")
    say(f"  arrival after the COMMIT had returned: p50 {percentile(waits, 50):.1f} ms, p99 {percentile(waits, 99):.1f} ms "
        "(negative: before it returned)")


def percentile(ordered: list[float], percent: int) -> float:
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def prove(arrivals: Arrivals, expected: set[str]) -> None:
    """Each committed event arrived once, the rolled-back one never, and no row is left behind."""
    title("What that proves")
    received = [event.key for event in arrivals.events]
    strangers = set(received) - expected
    if strangers:
        raise DemoFault(f"events arrived that nobody committed: keys {sorted(strangers)[:5]}")
    if len(received) != len(expected):
        raise DemoFault(f"{len(expected)} events were committed and {len(received)} arrived")
    deadline = time.monotonic() + 10
    while left := stage.rows_left():
        if time.monotonic() > deadline:
            raise DemoFault(f"all events arrived, but {left} rows are left in the outbox")
        time.sleep(0.01)
    say(f"  {len(expected):,} events committed, each arrived once; the refused order's never did; the outbox is empty.\n")


def tell_what_runs(relay: Relay, binary: Path) -> None:
    # Without a password, and quoted: a URL may hold characters that a shell reads.
    url = shlex.quote(re.sub(r"//([^/@:]*):[^/@]*@", r"//\1@", demo_url()))
    say(f"Still running: PostgreSQL, Kafka and the relay (pid {relay.process.pid}, log {relay.log}). Try, in two terminals:")
    say("  scripts/demo watch")
    say(f"""  {psql_program()} {url} -c "INSERT INTO outbox (type, payload) VALUES ('Greeting', 'hello')\"""")
    say(f"  {binary} status --database-url {url}")
    say("To stop it all: scripts/demo stop; scripts/services stop")


def main() -> None:
    # As an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("demo: stopped by SIGTERM"))
    try:
        play(keep="--keep" in sys.argv[1:])
    except DemoFault as fault:
        sys.exit(f"demo: {fault}")
    except psycopg.Error as error:
        sys.exit(f"demo: database: {str(error).strip()}")
    except KafkaException as error:
        sys.exit(f"demo: kafka: {error.args[0].str()}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped")


if __name__ == "__main__":
    main()
