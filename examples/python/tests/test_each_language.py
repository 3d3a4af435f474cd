"""The example of each language with a real relay between its two ends: both rows or neither, and each effect once."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support import LIMIT, REPOSITORY, Topic, required, totals, until

EXAMPLES = REPOSITORY / "examples"
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]

# A trigger of the test refuses the order of a customer of this name: the event's INSERT fails, or the COMMIT does.
REFUSALS = """
    INSERT INTO customers VALUES ('at the event', 10), ('at the commit', 10);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF to_jsonb(new)::text LIKE '%' || tg_argv[0] || '%' THEN RAISE EXCEPTION 'refused %', tg_argv[0]; END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse('at the event');
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse('at the commit');
"""

# Runs inside the COMMIT of a consumer: its transaction can no longer be taken back, and its offset is not committed.
WAIT_IN_COMMIT = """
    CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON doorbell.inbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
"""


class Language:
    """How the two ends of one language's example are started. scripts/test-examples has built them."""

    def __init__(self, name: str) -> None:
        built = Path(required("EXAMPLES_BUILT"))
        self.built = built / name
        programs = {
            "python": [sys.executable],
            "sqlalchemy": [sys.executable, EXAMPLES / "sqlalchemy" / "main.py"],
            "rust": [built.parent / "debug" / "examples" / "orders"],
            "go": [self.built / "orders"],
            "node": ["node", self.built / "main.mjs"],
            "java": [*JAVA, "-cp", f"{self.built}/classes:{self.built}/libs/*", "shop.Main"],
            "spring": [*JAVA, "-cp", f"{self.built}/classes:{self.built}/libs/*", "shop.Main"],
        }
        self.name, self.program = name, programs[name]

    def place(self, customer: str, cents: int) -> list[str | Path]:
        match self.name:
            case "python":
                script = EXAMPLES / "python" / "producer.py"
                return [*self.program, script, "--customer", customer, "--amount-cents", str(cents)]
            case "spring":
                return [*self.program, customer, str(cents)]
        return [*self.program, "place", customer, str(cents)]

    def consume(self, topic: Topic) -> list[str | Path]:
        match self.name:
            case "python":
                script = EXAMPLES / "python" / "consumer.py"
                return [*self.program, script, "--topic", topic.name, "--group", topic.group, "--instance", "one"]
            case "spring":
                instance = "--spring.kafka.consumer.properties.group.instance.id=one"
                return [*self.program, "--spring.profiles.active=consumer", instance]
        return [*self.program, "consume"]

    def environment(self, database_url: str, topic: Topic) -> dict[str, str]:
        at = conninfo_to_dict(database_url)
        port, user = at.get("port", 5432), at.get("user", "postgres")
        url = f"postgres://{user}@{at['host']}:{port}/{at['dbname']}"
        if self.name in ("java", "spring"):
            url = f"jdbc:postgresql://{at['host']}:{port}/{at['dbname']}?user={user}"
        return {
            **os.environ, "DATABASE_URL": url, "KAFKA_BROKERS": topic.brokers,
            "TOPIC": topic.name, "GROUP": topic.group, "INSTANCE": "one",
        }  # fmt: skip


@pytest.fixture
def relay(database_url: str, topic: Topic, tmp_path: Path) -> Iterator[None]:
    at = conninfo_to_dict(database_url)
    server = urlsplit(required("DATABASE_URL"))._replace(path=f"/{at['dbname']}").geturl()
    program = Path(required("EXAMPLES_BUILT")).parent / "debug" / "doorbell"
    said = tmp_path / "relay.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--database-url", server, "--topic", topic.name, "--listen", "127.0.0.1:0"],
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or ": leading" in said.read_text(), "the relay leads")
        yield
        process.terminate()
        assert process.wait(LIMIT) == 0, said.read_text()
    finally:
        process.kill()
        process.wait(LIMIT)


def is_skipped(name: str) -> bool:
    return name in os.environ.get("EXAMPLES_SKIPPED", "").split()


@pytest.mark.parametrize("name", ["python", "sqlalchemy", "rust", "go", "node", "java", "spring"])
@pytest.mark.usefixtures("relay")
def test_both_rows_or_neither_and_each_effect_once(
    name: str, database_url: str, database: psycopg.Connection, topic: Topic, tmp_path: Path
) -> None:
    if is_skipped(name):
        pytest.skip(f"{name}: not installed here")
    language = Language(name)
    environment = language.environment(database_url, topic)

    def place(customer: str, cents: int) -> subprocess.CompletedProcess[str]:
        command = language.place(customer, cents)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)

    def consume(log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as said:
            return subprocess.Popen(language.consume(topic), env=environment, stdout=said, stderr=subprocess.STDOUT)

    def outcomes(log: Path) -> list[str]:
        return re.findall(r"applied|seen before", log.read_text())

    database.execute(REFUSALS)
    for customer in ("at the event", "at the commit"):
        refused = place(customer, 1)
        assert refused.returncode != 0, refused.stdout
        assert f"refused {customer}" in refused.stderr + refused.stdout
    assert database.execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)").fetchone() == (0, 0)
    placed = place("ada", 1250)
    assert placed.returncode == 0, placed.stderr
    assert database.execute("SELECT customer, amount_cents FROM orders").fetchall() == [("ada", 1250)]

    # Killed after the database's commit and before the offset's, the consumer reads the record again.
    database.execute(WAIT_IN_COMMIT)
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        consumer = consume(first)
        waits = """SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
        until(lambda: consumer.poll() is not None or database.execute(waits).fetchone()[0], "it waits in its COMMIT")
        assert consumer.poll() is None, first.read_text()
        assert totals(database) == (0, 0), "claim and effect are not visible before the commit"
        consumer.kill()
        consumer.wait(LIMIT)
    until(lambda: totals(database) == (1, 1250), "the COMMIT of the killed consumer takes effect")
    assert topic.committed() == 0, "Kafka does not know of it"

    consumer = consume(second)
    try:
        until(lambda: consumer.poll() is not None or outcomes(second) == ["seen before"], "the record comes again")
        assert consumer.poll() is None, second.read_text()
        # The same event twice, as after a fault of the relay, and a new one.
        placed = place("ada", 50)
        assert placed.returncode == 0, placed.stderr
        until(lambda: len(outcomes(second)) == 2, "the second order is taken in")
        topic.send_again()
        until(lambda: len(outcomes(second)) == 4, "the records that were sent again are taken in")
        until(lambda: topic.committed() == 4, "the offset follows")
        consumer.send_signal(signal.SIGTERM)
        consumer.wait(LIMIT)
    finally:
        consumer.kill()
        consumer.wait(LIMIT)
    assert outcomes(second) == ["seen before", "applied", "seen before", "seen before"], second.read_text()
    assert totals(database) == (2, 1300)
