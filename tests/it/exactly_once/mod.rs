//! The delivery mode exactly-once.

mod announced;
mod combined;
mod copies;
mod locked;
mod protocol;
mod quota;
mod refused;
mod setup;
mod transactions;

pub(crate) use setup::{NO_DELETE, check, flags, insert, leading, prepared, receipts, seen, spawn};
