//! Rows that Kafka can never take, until they are moved to the dead letters or gone from the table.

use std::collections::VecDeque;
use std::sync::Mutex;

use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use crate::event::RowId;
use crate::postgres::RejectedRow;
use crate::sync::lock;

/// Most rows that wait for their move, in some 20 MB of memory.
const MOST: usize = 50_000;

/// The rejected rows of one outbox.
#[derive(Debug, Default)]
pub(crate) struct Rejected {
    rows: Mutex<Rows>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Rows {
    known: FxHashSet<RowId>,
    /// Those that are still to be moved to the dead letters.
    waiting: VecDeque<RejectedRow>,
}

impl Rejected {
    /// Adds a row that is to be moved to the dead letters. Returns whether it is new.
    pub(crate) fn add(&self, rejected: RejectedRow) -> bool {
        let mut rows = lock(&self.rows);
        let is_new = rows.known.insert(rejected.row);
        if is_new {
            rows.waiting.push_back(rejected);
            drop(rows);
            self.arrived.notify_one();
        }
        is_new
    }

    /// Waits for a new row. It may be cancelled.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Whether the row is rejected.
    pub(crate) fn contains(&self, row: &RowId) -> bool {
        lock(&self.rows).known.contains(row)
    }

    /// Adds the rejected rows to those that are known.
    pub(crate) fn add_to(&self, known: &mut FxHashSet<RowId>) {
        known.extend(&lock(&self.rows).known);
    }

    /// The highest id of a rejected row.
    pub(crate) fn highest(&self) -> Option<i64> {
        lock(&self.rows).known.iter().map(|row| row.id).max()
    }

    /// The number of rejected rows that are in the table.
    pub(crate) fn count(&self) -> usize {
        lock(&self.rows).known.len()
    }

    /// Whether so many rows are to be moved to the dead letters that no others are fetched.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.rows).waiting.len() >= MOST
    }

    /// Whether rows are to be moved to the dead letters.
    pub(crate) fn has_waiting(&self) -> bool {
        !lock(&self.rows).waiting.is_empty()
    }

    /// The first of the rows that are to be moved.
    pub(crate) fn first(&self, most: usize) -> Vec<RejectedRow> {
        lock(&self.rows)
            .waiting
            .iter()
            .take(most)
            .cloned()
            .collect()
    }

    /// Forgets those of the first rows that were moved. The rows that are `left` come last now.
    pub(crate) fn moved(&self, tried: &[RejectedRow], left: &[RejectedRow]) {
        let mut rows = lock(&self.rows);
        let left_rows: FxHashSet<_> = left.iter().map(|it| it.row).collect();
        rows.waiting.drain(..tried.len());
        for RejectedRow { row, .. } in tried {
            if !left_rows.contains(row) {
                rows.known.remove(row);
            }
        }
        rows.waiting.extend(left.iter().cloned());
    }
}
