//! The relay against a real PostgreSQL and a real Kafka. Each test has its own database and its own
//! topics.

mod adoption;
mod chaos;
mod delivery;
mod exactly_once;
mod failover;
mod findings;
mod http;
mod mapping;
mod operator;
mod poison;
mod rows;
mod security;
mod support;
mod wakeup;
mod writers;
