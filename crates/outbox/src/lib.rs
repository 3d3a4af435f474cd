#![doc = include_str!("../README.md")]

mod drivers;
mod event;
mod insert;
mod outbox;
mod statement;
pub mod testing;

pub use drivers::Transaction;
pub use event::Event;
pub use outbox::{InvalidTableName, Outbox, PayloadColumn};
pub use statement::Statement;
