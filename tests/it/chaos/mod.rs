//! Waves of faults at relays, PostgreSQL and Kafka under load: nothing is lost, nothing is stuck,
//! nothing is left behind.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is asked for, by flags |
//! | `schedule` | which faults come: chosen by the seed |
//! | `stage` | servers, relays and proxies, and how each fault is done |
//! | `database`, `disk` | the server that takes writes; a disk that can be filled |
//! | `writers`, `ledger` | the load, and what became of each row |
//! | `listener` | what a consumer saw, and when |
//! | `referee` | the judgement, beside `doorbell verify`, and what may not be left |
//! | `report` | the figures |
//! | `waves` | the test: wave after wave, and the judgement after each |
//!
//! `make chaos` runs it for long, and `scripts/chaos --help` lists its flags.

mod database;
mod disk;
mod ledger;
mod listener;
mod plan;
mod referee;
mod report;
mod schedule;
mod stage;
mod waves;
mod writers;
