//! Receipts of the mode exactly-once: their format, and the topic that holds them.

pub(crate) mod error;
pub(crate) mod open_transactions;
pub(crate) mod receipt;
pub(crate) mod store;
pub(crate) mod topic_setup;
