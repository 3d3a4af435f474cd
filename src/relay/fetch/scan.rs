//! Fetches the rows above the cursor and in the gaps, and passes them to the second stage.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashSet;
use tokio::sync::mpsc;
use tokio::time;

use super::cursor::{Cursor, MAX_BYTES};
use super::rate_limit::RateLimit;
use super::schedule::{DueTimes, Schedule};
use crate::event::RowId;
use crate::postgres::{Batch, FetchRequest, Reader, Result};
use crate::relay::clock::{at_time, rest_after};
use crate::relay::in_flight::{Room, Ticket};
use crate::relay::observer::Step;
use crate::relay::poison::Refusals;
use crate::relay::publish::Routes;
use crate::relay::term_state::{Counters, TermEnd, TermState};

/// The possible owners of gaps are read at most this often...
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// ... and at most this share of the time: the query reads all locks of the server.
const CHECK_SHARE: u32 = 20;

/// Rows on their way to the publisher, with the ticket of the first.
pub(crate) struct Fetched {
    pub(crate) batch: Batch,
    pub(crate) first: Ticket,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct FetchOutcome {
    /// Rows that were read by id.
    pub(super) rows: usize,
    /// Rows whose time had come.
    pub(super) due: usize,
    /// Whether it left no row behind.
    pub(super) complete: bool,
}

impl FetchOutcome {
    /// That of a fetch that could not begin.
    pub(super) const NO_ROOM: Self = Self {
        rows: 0,
        due: 0,
        complete: false,
    };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            due: self.due + other.due,
            complete: self.complete && other.complete,
        }
    }
}

/// The reading of one table in one term.
pub(crate) struct Scan {
    pub(crate) reader: Reader,
    pub(crate) state: Arc<TermState>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) batches: mpsc::Sender<Fetched>,
    pub(crate) oid: u32,
    /// Server processes of this relay's sessions, which never own a gap.
    pub(crate) ours: Vec<i32>,
    /// The number of held keys is not recorded before this.
    pub(crate) tell_after: Instant,
    pub(crate) tell_due: Option<Instant>,
    pub(crate) only: Option<Vec<i64>>,
    pub(crate) cursor: Cursor,
    pub(crate) schedule: Schedule,
    pub(crate) rate: RateLimit,
    /// Whether the term ends when the table has been read to its end.
    pub(crate) drains: bool,
    /// Whether a ring or rows came since the last fetch. Gaps do not close without them.
    pub(crate) active: bool,
    /// Whether a ring came since the last fetch.
    pub(crate) rung: bool,
}

impl Scan {
    /// Passes on the rows that the term is limited to, and ends it.
    pub(super) async fn fetch_only(&mut self, mut rows: Vec<i64>) -> Result<()> {
        let known = self.known();
        while let Some(room) = self.room().await? {
            if rows.is_empty() {
                self.state.end(TermEnd::Checked);
                break;
            }
            let most = (room.rows.min(rows.len()), room.bytes.min(MAX_BYTES));
            let begun = SystemTime::now();
            let mut batch = self.reader.fetch_due(&rows, most).await?;
            // Without one, the remaining rows are gone.
            let last = batch.rows().map(|row| row.id).max().unwrap_or(i64::MAX);
            rows.retain(|id| *id > last);
            batch.retain(|row| !known.contains(row));
            if !self.hand_over(batch, begun, &DueTimes::default()).await {
                break;
            }
        }
        Ok(())
    }

    /// Fetches, and announces that to the second stage if a ring came. A failure ends the term.
    pub(super) async fn fetch_into(
        &mut self,
        room: Room,
        woken: Instant,
    ) -> Result<Option<FetchOutcome>> {
        if std::mem::take(&mut self.rung) {
            self.state.coming.send_replace(true);
        }
        let fetched = self.fetch_rows(room, woken).await?;
        self.state.coming.send_if_modified(std::mem::take);
        Ok(fetched)
    }

    async fn fetch_rows(&mut self, room: Room, woken: Instant) -> Result<Option<FetchOutcome>> {
        self.check_gaps().await?;
        let look = self.cursor.look();
        let ask = FetchRequest {
            after: self.cursor.at,
            gaps: &look,
            rows: room
                .rows
                .min(self.cursor.limit)
                .min(self.rate.allowed(Instant::now())),
            bytes: room.bytes.min(MAX_BYTES),
        };
        let known = self.cursor.known_up_to.map(|_| self.known());
        if self.counters.looks() && self.counters.wants_count() {
            // The rows that no fetch brings count as well.
            self.count().await?;
        }
        let begun = SystemTime::now();
        let batch = self.reader.fetch(&ask).await?;
        let bytes = batch.held();
        let full = batch.is_cut || batch.len() >= ask.rows;
        self.cursor.adapt(&batch);
        let batch = self.cursor.advance(batch, full, known.as_ref());
        let rows = batch.len();
        self.rate.take(rows);
        if rows > 0 {
            let now = Instant::now();
            let rows = batch.rows().map(|row| (row, row.created_at));
            self.counters.brought(rows, bytes, woken, now);
            for (step, when) in [(Step::Woken, woken), (Step::Fetched, now)] {
                let mut ids = batch.rows().map(|row| row.id);
                self.counters.passed(step, &mut ids, when);
            }
        }
        let complete = !full;
        let gaps = self.cursor.gaps.count();
        let knows_all = complete && !self.schedule.is_left;
        self.counters.looked(rows, knows_all, gaps);
        if complete {
            self.state.caught_up.store(true, Ordering::Relaxed);
        } else if self.counters.wants_count() {
            self.count().await?;
        }
        let taken = self.hand_over(batch, begun, &DueTimes::default()).await;
        let due = 0;
        Ok(taken.then_some(FetchOutcome {
            rows,
            due,
            complete,
        }))
    }

    /// Waits for the rate limit and for room, or returns nothing for no more fetches.
    pub(super) async fn room(&mut self) -> Result<Option<Room>> {
        let state = Arc::clone(&self.state);
        while let Some(due) = self.rate.due(Instant::now()) {
            tokio::select! {
                () = time::sleep_until(due.into()) => {}
                () = state.halt.cancelled() => return Ok(None),
            }
        }
        loop {
            let changed = state.room.notified();
            if state.halt.is_cancelled() {
                return Ok(None);
            }
            // A move to the dead letters makes room as well.
            let room = state.window().room();
            if let Some(room) = room.filter(|_| !self.refusals.rejected.is_full()) {
                return Ok(Some(room));
            }
            // Kafka may be unreachable, and then the number of waiting rows matters.
            if self.counters.wants_count() {
                self.count().await?;
                continue;
            }
            let count_due = self.counters.count_due().map(time::Instant::from_std);
            tokio::select! {
                () = changed => {}
                () = at_time(count_due) => {}
                () = state.halt.cancelled() => return Ok(None),
            }
        }
    }

    pub(super) async fn count(&mut self) -> Result<()> {
        let waiting = self.reader.waiting_above(self.cursor.at).await?;
        let in_flight = self.state.window().due_in_flight() as u64;
        let rows = waiting.rows.saturating_sub(in_flight);
        self.counters.counted(rows, waiting.is_more, waiting.oldest);
        Ok(())
    }

    async fn check_gaps(&mut self) -> Result<()> {
        if self.active && self.cursor.next_holders <= Instant::now() {
            self.read_holders().await?;
        }
        Ok(())
    }

    /// Reads who may still own the ids of gaps, if there are any.
    pub(super) async fn read_holders(&mut self) -> Result<()> {
        if self.cursor.gaps.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let holders = self.reader.writers(&self.ours).await?;
        let (cursor, took) = (&mut self.cursor, begun.elapsed());
        cursor.gaps.held(holders);
        cursor.next_holders = begun + took + rest_after(took, CHECK_SHARE).max(CHECK_INTERVAL);
        Ok(())
    }

    /// Admits the rows of a fetch that began then, and passes them on. Returns `false` if the
    /// second stage has ended.
    pub(super) async fn hand_over(
        &self,
        batch: Batch,
        begun: SystemTime,
        times: &DueTimes,
    ) -> bool {
        if batch.is_empty() {
            return true;
        }
        let first = {
            let mut window = self.state.window();
            let first = window.next_ticket();
            for (row, bytes) in batch.rows().zip(batch.sizes()) {
                let ticket = window.admit(row, bytes);
                if let Some(since) = times.get(&row) {
                    window.came_due(ticket, *since);
                }
            }
            first
        };
        if let Some(observer) = self.counters.observer() {
            observer.fetched(first, &mut batch.rows().map(|row| row.id), begun);
        }
        let taken = self.batches.send(Fetched { batch, first }).await.is_ok();
        if !taken {
            self.state.window().give_up_from(first);
        }
        taken
    }

    /// Rows that must not be fetched again. Those that wait behind a held row are not among them:
    /// they are known by their keys.
    pub(super) fn known(&self) -> FxHashSet<RowId> {
        let mut known = self.under_way();
        known.extend(self.refusals.held().heads());
        known
    }

    /// Returns the rows that are in flight, or refused and not held.
    pub(super) fn under_way(&self) -> FxHashSet<RowId> {
        let mut rows = self.state.window().known();
        self.refusals.rejected.add_to(&mut rows);
        rows
    }
}
