//! The command line around the library: arguments, log, signals, exit codes.

pub mod bench;
mod check;
mod cli;
mod config;
mod dead;
mod drain;
mod emit;
mod failure;
pub mod http;
mod manual;
mod migrate;
mod page;
mod pause;
mod receipts;
mod run;
mod status;
mod telemetry;
mod terminal;
mod traces;
mod usage;
mod verify;

pub use cli::main;
