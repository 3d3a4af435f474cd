//! How far receipts and deletes have come: the transactor and the settler tell each other, where
//! each event is delivered once.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::postgres::ReceiptPosition;

/// The position of one outbox.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The number of the last receipt whose commit is certain.
    receipt: AtomicI64,
    /// The number of committed deletes.
    deletes: AtomicI64,
    /// The number of the last delete that was begun. A failed one may have been committed.
    begun: AtomicI64,
    /// A transaction was committed, and its rows wait to be deleted.
    pub(crate) committed: Notify,
}

impl Progress {
    /// Continues from the position of the last leader.
    pub(crate) fn begin(position: ReceiptPosition) -> Self {
        Self {
            receipt: AtomicI64::new(position.receipt),
            deletes: AtomicI64::new(position.deletes),
            begun: AtomicI64::new(position.deletes),
            committed: Notify::new(),
        }
    }

    /// Returns the number of the next receipt, and the number of deletes that are known when it is
    /// sent.
    pub(crate) fn next_receipt(&self) -> (i64, i64) {
        let receipt = self.receipt.load(Ordering::Acquire) + 1;
        (receipt, self.deletes.load(Ordering::Acquire))
    }

    /// Records that the transaction with this receipt is committed.
    pub(crate) fn commit(&self, receipt: i64) {
        self.receipt.store(receipt, Ordering::Release);
        self.committed.notify_one();
    }

    /// Returns the position that the next delete records in the database.
    pub(crate) fn next_delete(&self) -> ReceiptPosition {
        ReceiptPosition {
            receipt: self.receipt.load(Ordering::Acquire),
            deletes: self.begun.fetch_add(1, Ordering::AcqRel) + 1,
        }
    }

    /// Records that a delete is committed.
    pub(crate) fn deleted(&self, position: ReceiptPosition) {
        self.deletes.store(position.deletes, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_deletes_have_the_same_number() {
        let progress = Progress::begin(ReceiptPosition::default());
        // The first may have been committed, although its answer was lost.
        let (first, second) = (progress.next_delete(), progress.next_delete());
        assert_eq!((first.deletes, second.deletes), (1, 2));
        assert_eq!(progress.next_receipt(), (1, 0));
        progress.deleted(second);
        assert_eq!(progress.next_receipt(), (1, 2));
    }
}
