//! Exactly-once delivery: transactions that end with a receipt.
//!
//! | file | what |
//! |---|---|
//! | `protocol` | the steps from fencing to commit (pure) |
//! | `recovery` | fences the predecessor, and reads the receipts, before the first transaction |
//! | `reconcile` | deletes the rows of the last receipt that are still in the table |
//! | `transactor` | second stage: one transaction of all batches that wait |
//! | `attribution` | which rows made a transaction fail (pure) |
//! | `progress` | how far receipts and deletes have come |

mod attribution;
mod progress;
mod protocol;
mod reconcile;
mod recovery;
mod transactor;

pub(crate) use progress::Progress;
pub(crate) use recovery::{Recovered, Recovery, RecoveryError};
pub(crate) use transactor::{Queue, Transactor};
