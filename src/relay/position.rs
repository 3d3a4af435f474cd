//! Where the reading of a table stands: cursor, gaps, and what is due when.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::time;
use tracing::debug;

use super::gaps::Gaps;
use crate::postgres::Batch;

/// Rows of one fetch: above this a larger fetch no longer pays, and it holds memory.
const MAX_ROWS: usize = 4_000;
/// The first fetch after a start: rows may be large, and for json their size is only known when they are read.
const FIRST_ROWS: usize = 256;
/// Bytes of one fetch.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// A look below the cursor reads the ids of all rows in flight, and what the last vacuum left. At most so often...
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// ... and at most this share of the time.
pub(super) const LOOK_SHARE: u32 = 10;
/// While there are too many gaps to look into each with every fetch, all are looked over this often.
pub(super) const WIDE_INTERVAL: Duration = Duration::from_millis(250);

/// Where the reading stands.
pub(crate) struct Position {
    /// Rows above it were not fetched yet.
    pub(super) cursor: i64,
    /// The highest the cursor has been, when it went back: rows up to here may be known already.
    pub(super) known_up_to: Option<i64>,
    pub(super) gaps: Gaps,
    pub(super) checked: Option<Instant>,
    pub(super) limit: usize,
    /// A look below the cursor is due then.
    pub(super) look_due: Option<time::Instant>,
    pub(super) next_look: time::Instant,
    pub(super) next_sweep: time::Instant,
    pub(super) swept: Option<Swept>,
}

/// Rows that a sweep found. Their ring may be on its way: they are judged a moment later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swept {
    pub(super) rows: usize,
    pub(super) judged: time::Instant,
}

impl Position {
    /// Before everything. Rows up to `known_up_to` may be known already.
    pub(crate) fn start(known_up_to: Option<i64>, next_sweep: time::Instant) -> Self {
        Self {
            cursor: i64::MIN,
            known_up_to,
            gaps: Gaps::default(),
            checked: None,
            limit: FIRST_ROWS,
            look_due: None,
            next_look: time::Instant::now(),
            next_sweep,
            swept: None,
        }
    }

    /// Takes a fetch in: gaps that it closed and opened, and the cursor. What is left of the batch is new.
    pub(super) fn advance(
        &mut self,
        mut batch: Batch,
        full: bool,
        known: Option<&FxHashMap<i64, i64>>,
    ) -> Batch {
        let cursor = self.cursor;
        for row in batch.heads().filter(|row| row.id <= cursor) {
            self.gaps.found(row.id);
        }
        let above: Vec<i64> = batch
            .heads()
            .map(|row| row.id)
            .filter(|id| *id > cursor)
            .collect();
        // Gaps come first in a batch: one row from above them says that all of them were looked into.
        if !full || !above.is_empty() {
            self.gaps.looked();
        }
        self.cursor = above.last().copied().unwrap_or(cursor);
        self.gaps.saw(cursor, above);
        if let Some(known) = known {
            batch.retain(|row| known.get(&row.id) != Some(&row.created_at));
        }
        if self
            .known_up_to
            .is_some_and(|known_up_to| self.cursor >= known_up_to)
            || !full
        {
            self.known_up_to = None;
        }
        batch
    }

    /// The cursor returns to before `id`: the rows from there on are looked at again, and the known ones among them left out.
    pub(super) fn go_back(&mut self, id: i64) {
        if id > self.cursor {
            // It went back already, and comes there on its way up.
            return;
        }
        let cursor = id.saturating_sub(1);
        debug!(row.id = id, "a row below the cursor: going back");
        self.known_up_to = Some(self.known_up_to.unwrap_or(i64::MIN).max(self.cursor));
        self.cursor = cursor;
        self.gaps.forget_above(cursor);
    }

    /// Whether it went back, and is not where it was yet.
    pub(super) fn is_behind(&self) -> bool {
        self.known_up_to.is_some()
    }

    /// Asks for as many rows as fit the bytes, by the sizes that the last fetch met.
    pub(super) fn adapt(&mut self, rows: usize, bytes: usize, cut: bool) {
        if cut {
            let average = (bytes / rows.max(1)).max(1);
            self.limit = (MAX_BYTES / average).clamp(1, MAX_ROWS);
        } else if rows >= self.limit {
            self.limit = (self.limit * 2).min(MAX_ROWS);
        }
    }

    /// A look below the cursor is due after this time at the latest, or when the last one is long enough ago.
    pub(super) fn look_within(&mut self, pause: Duration) {
        let due = self.next_look.max(time::Instant::now() + pause);
        self.look_due = Some(self.look_due.map_or(due, |earlier| earlier.min(due)));
    }
}
