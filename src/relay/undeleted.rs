//! Rows that Kafka has and that their delete left in the table.
//!
//! They are known, so they are not sent again; they count against the bounds, and their delete is
//! tried again. They are off the ring of rows in flight, so they stop no other row.

use rustc_hash::FxHashMap;

use crate::event::{ReceiptRow, RowId};

/// Why a row is still in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Another session holds it locked.
    Locked,
    /// The delete took effect and left it: a trigger, a rule or a policy of the table keeps it.
    Kept,
    /// The delete of this row alone failed, with the server's message.
    Failed(String),
}

#[derive(Debug, Clone)]
struct Left {
    /// What is in the row, where receipts name it.
    hash: u32,
    reason: Reason,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Undeleted {
    rows: FxHashMap<RowId, Left>,
}

/// What the operator is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Rows that the table keeps: locks, which pass, do not count.
    pub(crate) rows: usize,
    /// The lowest of them.
    pub(crate) row: RowId,
    pub(crate) reason: Reason,
}

impl Undeleted {
    /// The rows that a receipt named and that another session holds locked.
    pub(crate) fn of(carried: &[ReceiptRow]) -> Self {
        let rows = carried.iter().map(|it| {
            let left = Left {
                hash: it.fingerprint,
                reason: Reason::Locked,
            };
            (it.row, left)
        });
        Self {
            rows: rows.collect(),
        }
    }

    /// Adds a row. Returns whether it is new, or has another reason than before.
    pub(crate) fn add(&mut self, row: RowId, hash: u32, reason: Reason) -> bool {
        let left = Left {
            hash,
            reason: reason.clone(),
        };
        let before = self.rows.insert(row, left);
        before.is_none_or(|before| before.reason != reason)
    }

    /// Changes the reason of a row that is still there.
    pub(crate) fn again(&mut self, row: RowId, reason: Reason) {
        if let Some(left) = self.rows.get_mut(&row) {
            left.reason = reason;
        }
    }

    pub(crate) fn gone(&mut self, row: &RowId) {
        self.rows.remove(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether other sessions hold some of them locked.
    pub(crate) fn has_locked(&self) -> bool {
        self.rows.values().any(|left| left.reason == Reason::Locked)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = RowId> {
        self.rows.keys().copied()
    }

    /// The rows as receipts name them.
    pub(crate) fn named(&self) -> impl Iterator<Item = ReceiptRow> {
        self.rows.iter().map(|(row, left)| ReceiptRow {
            row: *row,
            fingerprint: left.hash,
        })
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        self.rows.keys().map(|row| row.created_at).min()
    }

    /// What to tell the operator; `None` where at most locks are in the way.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let kept = || {
            let rows = self.rows.iter();
            rows.filter(|(_, left)| left.reason != Reason::Locked)
        };
        let (row, left) = kept().min_by_key(|(row, _)| **row)?;
        Some(Summary {
            rows: kept().count(),
            row: *row,
            reason: left.reason.clone(),
        })
    }
}
