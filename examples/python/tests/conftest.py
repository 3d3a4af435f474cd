"""A database and a topic of its own for each test, on the real PostgreSQL and the real Kafka of the environment."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import REPOSITORY, Topic, required

EXAMPLES = REPOSITORY / "examples"


def apply(database: psycopg.Connection, script: Path) -> None:
    database.execute(script.read_text())


@pytest.fixture
def database_url() -> Iterator[str]:
    """A fresh database with the outbox and the tables of all examples."""
    server = required("DATABASE_URL")
    name = f"doorbell_examples_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = make_conninfo(server, dbname=name)
            with psycopg.connect(url, autocommit=True) as database:
                for script in sorted((REPOSITORY / "migrations").glob("*.sql")):
                    apply(database, script)
                for script in ("inbox.sql", "events.sql"):
                    apply(database, REPOSITORY / "sql" / script)
                database.execute("SELECT doorbell.create_event_store('outbox')")
                apply(database, EXAMPLES / "psql" / "schema.sql")
                apply(database, EXAMPLES / "python" / "consumer.sql")
            yield url
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def topic() -> Iterator[Topic]:
    brokers = required("KAFKA_BROKERS")
    admin = AdminClient({"bootstrap.servers": brokers})
    name = f"doorbell-examples-{uuid.uuid4().hex[:12]}"
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(30)
    yield Topic(brokers, name)
    admin.delete_topics([name])[name].result(30)


@pytest.fixture
def psql() -> str:
    """The psql beside the server under test, else the one on the path."""
    folder = os.environ.get("POSTGRES_BIN")
    return str(Path(folder) / "psql") if folder else "psql"
