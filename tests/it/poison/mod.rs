//! Rows that Kafka refuses, and rows that end the process.

mod crash_loop;
mod hold_key;
mod parking;
mod topics;
