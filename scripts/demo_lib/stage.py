"""What has to be there before the first event: the binary, the database, the topic."""

import os
import subprocess
from pathlib import Path

import psycopg
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from services_lib.common import REPO

from .terms import DATABASE, TOPIC, DemoFault, demo_url, environment


def build() -> Path:
    # Cargo's own progress is shown: the first build takes minutes.
    built = subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "doorbell"], cwd=REPO, check=False)
    if built.returncode != 0:
        raise DemoFault("the build failed, see above")
    return REPO / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "doorbell"


def create_database() -> None:
    drop_database()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}")


def drop_database() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def migrate(binary: Path) -> None:
    done = subprocess.run([binary, "migrate"], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFault(f"doorbell migrate: {done.stderr.strip()}")


def create_business_tables() -> None:
    schema = (REPO / "examples" / "psql" / "schema.sql").read_text()
    with psycopg.connect(demo_url(), autocommit=True) as database:
        database.execute(schema)


def rows_left() -> int:
    with psycopg.connect(demo_url()) as database:
        return database.execute("SELECT count(*) FROM outbox").fetchone()[0]


def create_topic() -> None:
    admin = AdminClient({"bootstrap.servers": os.environ["KAFKA_BROKERS"]})
    try:
        admin.create_topics([NewTopic(TOPIC, num_partitions=3, replication_factor=1)])[TOPIC].result(30)
    except KafkaException as error:
        # A former demo left it; the watcher reads from its end.
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def delete_topic() -> None:
    admin = AdminClient({"bootstrap.servers": os.environ["KAFKA_BROKERS"]})
    admin.delete_topics([TOPIC])[TOPIC].result(30)
