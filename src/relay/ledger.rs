//! What the second and the third stage of a relay that sends each event once tell each other: how far receipts and deletes have come.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::postgres::Mark;

/// The numbers of one outbox.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The last receipt that was committed, straight.
    receipt: AtomicI64,
    /// Deletes that are committed.
    deletes: AtomicI64,
    /// A transaction was committed: its rows wait to be deleted.
    pub(crate) committed: Notify,
}

impl Ledger {
    /// Where the last leader stopped.
    pub(crate) fn begin(mark: Mark) -> Self {
        Self {
            receipt: AtomicI64::new(mark.receipt),
            deletes: AtomicI64::new(mark.deletes),
            committed: Notify::new(),
        }
    }

    /// The number of the next receipt, and the deletes that are known when it is sent.
    pub(crate) fn next_receipt(&self) -> (i64, i64) {
        let receipt = self.receipt.load(Ordering::Acquire) + 1;
        (receipt, self.deletes.load(Ordering::Acquire))
    }

    /// The transaction with this receipt is committed.
    pub(crate) fn commit(&self, receipt: i64) {
        self.receipt.store(receipt, Ordering::Release);
        self.committed.notify_one();
    }

    /// What the next delete writes down.
    pub(crate) fn next_delete(&self) -> Mark {
        Mark {
            receipt: self.receipt.load(Ordering::Acquire),
            deletes: self.deletes.load(Ordering::Acquire) + 1,
        }
    }

    /// It is committed.
    pub(crate) fn deleted(&self, mark: Mark) {
        self.deletes.store(mark.deletes, Ordering::Release);
    }
}
