//! The relay against a real PostgreSQL and a real Kafka. Each test has its own database and its own topics.

mod support;

mod backlog;
mod bad_input;
mod bell;
mod bench;
mod check;
mod check_kafka;
mod check_server;
mod commands;
mod dead;
mod delivery;
mod drain;
mod failover;
mod fetch;
mod gaps;
mod hold;
mod holders;
mod http;
mod outages;
mod pause;
mod pooler;
mod prepared;
mod readiness;
mod record;
mod replaced;
mod replicas;
mod rights;
mod secure;
mod stress;
mod strict_order;
mod stuck;
mod surroundings;
mod terminal;
mod verify;
mod wakeup;
