//! Rows that were refused together with others. Each of them is sent alone once more, which shows
//! the row that Kafka refuses.

use std::sync::Mutex;

use rustc_hash::FxHashSet;

use crate::event::RowId;
use crate::sync::lock;

/// The suspected rows of one outbox, and the bound on transactions while a refused row is searched.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    rows: Mutex<FxHashSet<RowId>>,
    /// Transactions have no more rows than this while no report names the row that is refused.
    transaction_rows: Mutex<Option<usize>>,
}

impl Suspects {
    /// Whether no row is suspected.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.rows).is_empty()
    }

    /// Whether the row is suspected.
    pub(crate) fn contains(&self, row: &RowId) -> bool {
        lock(&self.rows).contains(row)
    }

    /// All suspected rows.
    pub(crate) fn rows(&self) -> FxHashSet<RowId> {
        lock(&self.rows).clone()
    }

    /// Suspects further rows. Returns whether they are the first.
    pub(crate) fn add(&self, rows: impl IntoIterator<Item = RowId>) -> bool {
        let mut suspects = lock(&self.rows);
        let are_first = suspects.is_empty();
        suspects.extend(rows);
        are_first
    }

    /// Clears rows: each was taken, or was refused alone.
    pub(crate) fn clear<'a>(&self, rows: impl IntoIterator<Item = &'a RowId>) {
        let mut suspects = lock(&self.rows);
        if !suspects.is_empty() {
            for row in rows {
                suspects.remove(row);
            }
        }
    }

    /// Clears all rows.
    pub(crate) fn clear_all(&self) {
        lock(&self.rows).clear();
    }

    /// The most rows of a transaction, unless it has no other bound than usual.
    pub(crate) fn transaction_rows(&self) -> Option<usize> {
        *lock(&self.transaction_rows)
    }

    /// Bounds the next transactions.
    pub(crate) fn bound_transactions(&self, rows: usize) {
        *lock(&self.transaction_rows) = Some(rows);
    }

    /// Doubles the bound on transactions, and lifts it when it reaches `most`.
    pub(crate) fn widen_transactions(&self, most: usize) {
        let mut bound = lock(&self.transaction_rows);
        *bound = bound
            .map(|rows| rows.saturating_mul(2))
            .filter(|rows| *rows < most);
    }
}
