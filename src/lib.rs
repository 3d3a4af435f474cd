//! Doorbell carries the rows of a PostgreSQL `outbox` table to Kafka.
