//! How far the table has been read: the cursor, the gaps below it, and when each check is due.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::time;
use tracing::debug;

use super::gaps::{Gaps, Range};
use crate::event::RowId;
use crate::postgres::Batch;

/// Most rows of one fetch: a larger one is not faster, and takes memory.
const MAX_ROWS: usize = 4_000;
/// Rows of the first fetch: they may be large, and the size of json is known only when it is read.
const FIRST_ROWS: usize = 256;
pub(super) const MAX_BYTES: usize = 4 << 20;
/// A check below the cursor reads the ids of all rows in flight, and what the last vacuum left. It
/// runs at most this often...
pub(super) const CHECK_BELOW_INTERVAL: Duration = Duration::from_millis(50);
/// ... and at most this share of the time.
pub(super) const CHECK_BELOW_SHARE: u32 = 20;
/// A check that takes longer is taken in steps of about this time, so that rows above the cursor do
/// not wait: dead rows may lie there in millions.
const STEP: Duration = Duration::from_millis(200);
pub(super) const LONG: Duration = Duration::from_secs(1);
/// One that takes this long is taken in steps though the server knows of few dead rows.
pub(super) const VERY_LONG: Duration = Duration::from_secs(5);
/// So much of a check is done at once.
pub(super) const CHECK_PATIENCE: Duration = Duration::from_millis(100);
/// The ids of the first step, and of the least. Where ids are dense, a few hundred thousand dead
/// rows are passed in a second.
pub(super) const FIRST_SPAN: u64 = 1 << 16;
const LEAST_SPAN: u64 = 1 << 10;
/// After so many steps the least one doubles: a check ends, however slow the server is.
const DOUBLED_AFTER: u32 = 64;
/// With more dead rows the first check of a term is taken in steps, and one after a long one.
pub(super) const MANY_DEAD_ROWS: i64 = 500_000;
/// With a wide range of gaps, all ids below the cursor are checked this often.
pub(super) const WIDE_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct Cursor {
    repeats: bool,
    /// Rows above this id were not fetched yet.
    pub(super) at: i64,
    /// Whether the smallest id of all, which is above none, is still to be read.
    pub(super) is_at_start: bool,
    /// The highest position before the cursor went back: rows up to here may be known already.
    pub(super) known_up_to: Option<i64>,
    pub(super) gaps: Gaps,
    /// When the possible owners of gaps may be read again.
    pub(super) next_holders: Instant,
    pub(super) limit: usize,
    /// How far down a check below the cursor has come, if it is not through.
    pub(super) checked_to: Option<i64>,
    /// How long it, or else the last one, has taken so far.
    pub(super) check_took: Duration,
    /// How many ids its next step reads, and the steps so far.
    pub(super) span: u64,
    steps: u32,
    /// Whether the wide range has no possible owner left, and the check has found no row so far.
    pub(super) ends_wide: bool,
    /// The id for the next term to begin with, as it is recorded.
    pub(super) remembered: i64,
    pub(super) check_due: Option<time::Instant>,
    pub(super) next_check: time::Instant,
    pub(super) next_sweep: time::Instant,
    pub(super) swept: Option<Swept>,
    /// Rows that the check below the cursor found behind held keys, and when the first of them was
    /// created.
    pub(super) waiting: (u64, Option<i64>),
    /// The same as of the last check that is through.
    pub(super) waited: (u64, Option<i64>),
}

/// Rows that a sweep found. Their notification may still come, so they are judged a moment later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swept {
    pub(super) rows: usize,
    pub(super) judged: time::Instant,
}

impl Cursor {
    /// Starts at the row `lowest`, below and above which so many dead rows lie. Rows up to
    /// `known_up_to` may be known already. `repeats`: two rows may have the same id.
    pub(crate) fn start(
        repeats: bool,
        known_up_to: Option<i64>,
        next_sweep: time::Instant,
        (lowest, dead): (i64, i64),
    ) -> Self {
        Self {
            repeats,
            at: lowest.saturating_sub(1),
            is_at_start: lowest == i64::MIN,
            known_up_to,
            gaps: Gaps::default(),
            next_holders: Instant::now(),
            limit: FIRST_ROWS,
            checked_to: None,
            check_took: if dead > MANY_DEAD_ROWS {
                LONG
            } else {
                Duration::ZERO
            },
            span: u64::MAX,
            steps: 0,
            ends_wide: false,
            remembered: lowest,
            check_due: None,
            next_check: time::Instant::now(),
            next_sweep,
            swept: None,
            waiting: (0, None),
            waited: (0, None),
        }
    }

    /// The ranges that the next fetch has to read besides the rows above the cursor, ascending.
    pub(super) fn look(&self) -> Vec<Range> {
        let start = self.is_at_start.then_some((i64::MIN, i64::MIN));
        start.into_iter().chain(self.gaps.look()).collect()
    }

    /// Moves the cursor past a batch, and closes and opens gaps. Returns the rows that are new.
    pub(super) fn advance(
        &mut self,
        mut batch: Batch,
        full: bool,
        known: Option<&FxHashSet<RowId>>,
    ) -> Batch {
        if self.repeats && full {
            // Another row with the last id may follow.
            let last = batch
                .rows()
                .last()
                .filter(|it| batch.rows().next().is_some_and(|first| first.id < it.id));
            batch.retain(|row| last.is_none_or(|last| row.id < last.id));
        }
        let cursor = self.at;
        self.is_at_start &= full && batch.is_empty();
        for row in batch.rows().filter(|row| row.id <= cursor) {
            self.gaps.found(row.id);
        }
        let ids = batch.rows().map(|row| row.id);
        let above: Vec<i64> = ids.filter(|id| *id > cursor).collect();
        // Gaps come first in a batch: one row above the cursor shows that all gaps were read.
        if !full || !above.is_empty() {
            self.gaps.looked();
        }
        self.at = above.last().copied().unwrap_or(cursor);
        self.gaps.saw(cursor, above);
        if let Some(known) = known {
            batch.retain(|row| !known.contains(row));
        }
        if !full || self.known_up_to.is_some_and(|it| self.at >= it) {
            self.known_up_to = None;
        }
        batch
    }

    /// Moves the cursor back before `id`: unknown rows from there on are fetched again.
    pub(super) fn go_back(&mut self, id: i64) {
        if id > self.at {
            // It went back already, and will come to this row.
            return;
        }
        let cursor = id.saturating_sub(1);
        debug!(
            row.id = id,
            "found a row below the cursor; moving the cursor back"
        );
        self.known_up_to = Some(self.known_up_to.unwrap_or(i64::MIN).max(self.at));
        self.at = cursor;
        self.is_at_start = cursor == i64::MIN;
        self.gaps.forget_above(cursor);
    }

    /// Begins a check below the cursor, in steps if it `is_long`, or continues one. Returns the
    /// highest id to be read.
    pub(super) fn begin_check(&mut self, is_long: bool) -> i64 {
        match self.checked_to.take() {
            Some(next) => next.min(self.at),
            None => {
                self.span = if is_long { FIRST_SPAN } else { u64::MAX };
                (self.check_took, self.steps) = (Duration::ZERO, 0);
                self.ends_wide = self.gaps.is_wide_over();
                self.at
            }
        }
    }

    /// Adapts the next step of a check to how long the last one took.
    pub(super) fn adapt_span(&mut self, took: Duration) {
        self.steps += 1;
        let span = if took > LONG {
            (self.span / 8).min(FIRST_SPAN)
        } else if took < STEP / 10 {
            self.span.saturating_mul(64)
        } else if took < STEP {
            self.span.saturating_mul(2)
        } else {
            self.span
        };
        let doubled = (self.steps / DOUBLED_AFTER).min(53);
        self.span = span.max(LEAST_SPAN << doubled);
    }

    /// Whether the cursor went back and has not reached its former position yet.
    pub(super) fn is_behind(&self) -> bool {
        self.known_up_to.is_some()
    }

    /// Adapts the rows of the next fetch to the bytes of the last one.
    pub(super) fn adapt(&mut self, batch: &Batch) {
        let average = (batch.total() / batch.len().max(1)).max(1);
        let fit = (MAX_BYTES / average).clamp(1, MAX_ROWS);
        if batch.is_cut {
            self.limit = fit;
        } else if batch.len() >= self.limit {
            self.limit = (self.limit * 2).min(fit);
        }
    }

    /// Has a check below the cursor run within this time, or when the last one is old enough.
    pub(super) fn check_within(&mut self, pause: Duration) {
        let due = self.next_check.max(time::Instant::now() + pause);
        self.check_due = Some(self.check_due.map_or(due, |earlier| earlier.min(due)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_in_steps_where_it_takes_long_and_whole_after_a_stall() {
        let now = time::Instant::now();
        let mut cursor = Cursor::start(true, None, now, (1_000_000, 0));
        cursor.check_took = LONG;
        for (is_long, span) in [(false, u64::MAX), (true, FIRST_SPAN)] {
            assert_eq!(cursor.begin_check(is_long), 999_999);
            assert_eq!(cursor.span, span);
        }
        cursor.checked_to = Some(500);
        cursor.adapt_span(STEP / 20);
        assert_eq!(cursor.begin_check(true), 500, "it goes on");
        assert_eq!(cursor.span, FIRST_SPAN * 64);
    }
}
