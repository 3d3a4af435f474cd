//! The commands, as an operator uses them.

mod bad_input;
mod bench;
mod check;
mod check_kafka;
mod check_server;
mod commands;
mod docs_samples;
mod drain;
mod lock_holders;
mod pause;
mod stuck;
mod terminal;
mod verify;
