//! What the first stage asks the table: the rows above the cursor, those in the gaps, and a look over everything else.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::time;

use super::observer::Step;
use super::position::{MAX_BYTES, Position};
use super::rate::Rate;
use super::shared::{Counters, Ending, Memory, Shared};
use super::window::{Room, Ticket};
use crate::postgres::{Ask, Batch, Reader, Result, Sent};

/// Who may own a gap is asked at most so often: the question touches every partition of the server's lock table.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Rows on their way to the publisher, with the ticket of the first.
pub(crate) struct Fetched {
    pub(crate) batch: Batch,
    pub(crate) first: Ticket,
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Catch {
    /// Rows that were new.
    pub(super) rows: usize,
    /// Whether it left nothing behind.
    pub(super) complete: bool,
}

/// The reading of one table in one term.
pub(crate) struct Scan {
    pub(crate) reader: Reader,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) batches: mpsc::Sender<Fetched>,
    pub(crate) oid: u32,
    /// Server processes of our own sessions: they never own a gap.
    pub(crate) ours: Vec<i32>,
    /// Whether keys may have to wait.
    pub(crate) holds_keys: bool,
    /// How many of them do is not told before this.
    pub(crate) tell_after: Instant,
    /// When that is to be looked at again.
    pub(crate) tell_due: Option<Instant>,
    /// The rows that this term is for, where it is not for all.
    pub(crate) only: Option<Vec<i64>>,
    pub(crate) at: Position,
    pub(crate) rate: Rate,
    /// Whether the term ends when the table has been read to its end.
    pub(crate) drains: bool,
    /// Whether a ring or rows came since the last fetch: gaps do not close where nothing moves.
    pub(crate) stirred: bool,
    /// Whether it rang since the last fetch.
    pub(crate) rung: bool,
}

impl Scan {
    /// Fetches once; `None` when there will be no more fetches. `woken` is when its reason came.
    pub(super) async fn fetch(&mut self, woken: Instant) -> Result<Option<Catch>> {
        if let Some(rows) = self.only.take() {
            self.fetch_only(rows).await?;
            return Ok(None);
        }
        if !self.tend().await? {
            return Ok(None);
        }
        match self.room().await? {
            Some(room) => self.fetch_into(room, woken).await,
            None => Ok(None),
        }
    }

    /// After a complete fetch, where the table is to be drained: ends the term if every row that the fetch could see is known. Rows may be held: they
    /// have a reason, and a key that became free is read on with the next term.
    pub(super) async fn end_if_drained(&mut self) -> Result<bool> {
        if !self.drains || self.look_below().await? > 0 {
            return Ok(false);
        }
        self.shared.end(Ending::Drained);
        Ok(true)
    }

    /// The last fetch before sleep. It does not wait for room: writers ring meanwhile. And it leaves no gap out.
    pub(super) async fn settle(&mut self) -> Result<Option<Catch>> {
        let room = self.shared.window().room();
        let is_put_off = self.memory().held.has_over() || self.rate.allowed(Instant::now()) == 0;
        let Some(room) = room.filter(|_| !is_put_off) else {
            return Ok(Some(Catch {
                rows: 0,
                complete: false,
            }));
        };
        let mut catch = self.fetch_into(room, Instant::now()).await?;
        if let Some(catch) = &mut catch
            && catch.complete
            && self.at.gaps.is_wide()
        {
            catch.complete = self.look_below().await? == 0;
        }
        Ok(catch)
    }

    /// Passes on the rows that this term is for, and ends it.
    async fn fetch_only(&mut self, mut rows: Vec<i64>) -> Result<()> {
        let known = self.known();
        while let Some(room) = self.room().await? {
            if rows.is_empty() {
                self.shared.end(Ending::Checked);
                break;
            }
            let ranges: Vec<(i64, i64)> = rows.iter().map(|id| (*id, *id)).collect();
            let ask = Ask {
                after: i64::MAX,
                gaps: &ranges,
                rows: room.rows.min(rows.len()),
                bytes: room.bytes.min(MAX_BYTES),
            };
            let begun = SystemTime::now();
            let mut batch = self.reader.fetch(&ask).await?;
            // None: what is left of them is gone.
            let last = batch.heads().map(|row| row.id).max().unwrap_or(i64::MAX);
            rows.retain(|id| *id > last);
            batch.retain(|row| known.get(&row.id) != Some(&row.created_at));
            if !self.hand_over(batch, begun).await {
                break;
            }
        }
        Ok(())
    }

    /// What fails here ends the term, and the second stage's waiting with it.
    async fn fetch_into(&mut self, room: Room, woken: Instant) -> Result<Option<Catch>> {
        if std::mem::take(&mut self.rung) {
            self.shared.coming.send_replace(true);
        }
        let fetched = self.fetch_rows(room, woken).await?;
        self.shared.coming.send_if_modified(std::mem::take);
        Ok(fetched)
    }

    async fn fetch_rows(&mut self, room: Room, woken: Instant) -> Result<Option<Catch>> {
        self.check_gaps().await?;
        let look = self.at.gaps.look();
        let ask = Ask {
            after: self.at.cursor,
            gaps: &look,
            rows: room
                .rows
                .min(self.at.limit)
                .min(self.rate.allowed(Instant::now())),
            bytes: room.bytes.min(MAX_BYTES),
        };
        let known = self.at.known_up_to.map(|_| self.known());
        let begun = SystemTime::now();
        let batch = self.reader.fetch(&ask).await?;
        let bytes: usize = batch.heads().map(|row| row.bytes).sum();
        let cut = bytes >= ask.bytes;
        let full = cut || batch.len() >= ask.rows;
        self.at.adapt(batch.len(), bytes, cut);
        let batch = self.at.advance(batch, full, known.as_ref());
        let rows = batch.len();
        self.rate.take(rows);
        if rows > 0 {
            let now = Instant::now();
            self.counters.brought(batch.heads(), woken, now);
            for (step, when) in [(Step::Woken, woken), (Step::Fetched, now)] {
                let mut ids = batch.heads().map(|row| row.id);
                self.counters.passed(step, &mut ids, when);
            }
        }
        let complete = !full;
        let gaps = self.at.gaps.count();
        self.counters.looked(rows, complete, gaps);
        if !complete && self.counters.wants_count() {
            self.count().await?;
        }
        if complete {
            self.shared.caught_up.store(true, Ordering::Relaxed);
        }
        Ok(self
            .hand_over(batch, begun)
            .await
            .then_some(Catch { rows, complete }))
    }

    /// Waits until a row may be fetched and for room in the window; `None` when there will be no more fetches.
    async fn room(&mut self) -> Result<Option<Room>> {
        let shared = Arc::clone(&self.shared);
        while let Some(due) = self.rate.due(Instant::now()) {
            tokio::select! {
                () = time::sleep_until(due.into()) => {}
                () = shared.halt.cancelled() => return Ok(None),
            }
        }
        loop {
            let changed = shared.room.notified();
            if shared.halt.is_cancelled() {
                return Ok(None);
            }
            if let Some(room) = shared.window().room() {
                return Ok(Some(room));
            }
            // Kafka may be away: how much waits is news then.
            if self.counters.wants_count() {
                self.count().await?;
                continue;
            }
            let count_due = self.counters.count_due().map(time::Instant::from_std);
            tokio::select! {
                () = changed => {}
                () = at_time(count_due) => {}
                () = shared.halt.cancelled() => return Ok(None),
            }
        }
    }

    /// Counts the rows above the cursor, for whoever wants to know how much waits.
    async fn count(&mut self) -> Result<()> {
        let waiting = self.reader.waiting_above(self.at.cursor).await?;
        self.counters
            .counted(waiting.rows, waiting.is_more, waiting.oldest);
        Ok(())
    }

    async fn check_gaps(&mut self) -> Result<()> {
        let at = &mut self.at;
        if !self.stirred {
            return Ok(());
        }
        let due = at
            .checked
            .is_none_or(|checked| checked.elapsed() >= CHECK_INTERVAL);
        if due && !at.gaps.is_empty() {
            let holders = self.reader.writers(&self.ours).await?;
            at.gaps.held(holders);
            at.checked = Some(Instant::now());
        }
        Ok(())
    }

    /// Admits the rows into the window and passes them on; `false` if nobody takes them any more. `begun` is when their fetch did.
    pub(super) async fn hand_over(&self, batch: Batch, begun: SystemTime) -> bool {
        if batch.is_empty() {
            return true;
        }
        let first = {
            let mut window = self.shared.window();
            let first = window.next_ticket();
            for row in batch.heads() {
                let (id, created_at) = (row.id, row.created_at);
                window.admit(Sent { id, created_at }, row.bytes);
            }
            first
        };
        if let Some(traces) = self.counters.traces() {
            traces.fetched(first, &batch, begun);
        }
        let taken = self.batches.send(Fetched { batch, first }).await.is_ok();
        if !taken {
            self.shared.window().give_up_from(first);
        }
        taken
    }

    /// Rows that must not be fetched again. Those that wait behind a held row are not among them: they are known by their keys.
    pub(super) fn known(&self) -> FxHashMap<i64, i64> {
        let mut known = self.shared.window().known();
        let memory = self.memory();
        known.extend(&memory.refused);
        known.extend(memory.held.heads().map(|row| (row.id, row.created_at)));
        known
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps until then, or for ever.
pub(super) async fn at_time(due: Option<time::Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
