//! What the first stage asks the table: the rows above the cursor, those in the gaps, and a look over everything else.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;
use tokio::time;
use tracing::{debug, info, warn};

use super::observer::Step;
use super::position::{LOOK_INTERVAL, LOOK_SHARE, MAX_BYTES, Position, Swept};
use super::rate::Rate;
use super::shared::{Counters, Ending, Memory, Shared};
use super::vitals::Ailment;
use super::window::{Room, Ticket};
use crate::postgres::{Ask, Batch, Entry, LOOK_PAGE, Reader, Result, Sent};

/// Who may own a gap is asked at most so often: the question touches every partition of the server's lock table.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// A notification arrives within milliseconds of the commit.
const RING_IS_LATE: Duration = Duration::from_secs(1);

/// Most held rows that are tried again by one statement.
const TRIES: usize = 1_000;

/// How many keys wait is told at most this often: a burst of refusals is one statement.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Where there is no room for them, they are tried again after this.
const NO_ROOM: Duration = Duration::from_secs(1);

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
            let mut batch = self.reader.fetch(&ask).await?;
            // None: what is left of them is gone.
            let last = batch.heads().map(|row| row.id).max().unwrap_or(i64::MAX);
            rows.retain(|id| *id > last);
            batch.retain(|row| known.get(&row.id) != Some(&row.created_at));
            if !self.hand_over(batch).await {
                break;
            }
        }
        Ok(())
    }

    async fn fetch_into(&mut self, room: Room, woken: Instant) -> Result<Option<Catch>> {
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
            .hand_over(batch)
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

    /// Admits the rows into the window and passes them on; `false` if nobody takes them any more.
    async fn hand_over(&self, batch: Batch) -> bool {
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
        let taken = self.batches.send(Fetched { batch, first }).await.is_ok();
        if !taken {
            self.shared.window().give_up_from(first);
        }
        taken
    }

    /// Rows that must not be fetched again. Those that wait behind a held row are not among them: they are known by their keys.
    fn known(&self) -> FxHashMap<i64, i64> {
        let mut known = self.shared.window().known();
        let memory = self.memory();
        known.extend(&memory.refused);
        known.extend(memory.held.heads().map(|row| (row.id, row.created_at)));
        known
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the keys that wait are to be looked after: a held row is to be tried again, or their number is to be told.
    pub(super) fn next_tending(&self) -> Option<Instant> {
        let due = [self.next_try(), self.tell_due];
        due.into_iter().flatten().min()
    }

    fn next_try(&self) -> Option<Instant> {
        match self.holds_keys {
            true => self.memory().held.next_try(),
            false => None,
        }
    }

    /// Has the database know how many keys wait.
    async fn tell_held(&mut self) -> Result<()> {
        let now = Instant::now();
        self.tell_due = None;
        if !self.holds_keys {
            return Ok(());
        }
        if now < self.tell_after {
            self.tell_due = Some(self.tell_after);
            return Ok(());
        }
        self.tell_after = now + TELL_INTERVAL;
        let keys = self.memory().held.count();
        self.reader.tell_held(keys).await
    }

    /// Looks after the keys that wait; `false` when there will be no more fetches.
    pub(super) async fn tend(&mut self) -> Result<bool> {
        if self.next_try().is_some_and(|due| due <= Instant::now()) && !self.try_again().await? {
            return Ok(false);
        }
        if self.memory().held.has_over() {
            if !self.all_published().await {
                return Ok(false);
            }
            let lowest = self.memory().held.release();
            if let Some(lowest) = lowest {
                self.at.go_back(lowest);
            }
        }
        self.tell_held().await?;
        Ok(true)
    }

    /// Waits until the second stage has nothing left; `false` when there will be no more fetches.
    async fn all_published(&self) -> bool {
        loop {
            let changed = self.shared.room.notified();
            if self.shared.halt.is_cancelled() {
                return false;
            }
            if self.shared.is_published() {
                return true;
            }
            tokio::select! {
                () = changed => {}
                () = self.shared.halt.cancelled() => return false,
            }
        }
    }

    /// Fetches the held rows anew whose time has come, as they are by now, and passes them on. `false` when there will be no more fetches.
    async fn try_again(&mut self) -> Result<bool> {
        let now = Instant::now();
        let room = self.shared.window().room();
        let most = room.map_or(TRIES, |room| room.rows.min(TRIES));
        let rows = self.memory().held.take_due(now, most);
        let Some(room) = room else {
            // What is under way goes first.
            let mut memory = self.memory();
            for row in rows {
                memory.held.put_off(row, now + NO_ROOM);
            }
            return Ok(true);
        };
        let ids: Vec<(i64, i64)> = rows.iter().map(|row| (row.id, row.id)).collect();
        let ask = Ask {
            after: i64::MAX,
            gaps: &ids,
            rows: ids.len(),
            bytes: room.bytes.min(MAX_BYTES),
        };
        let mut batch = self.reader.fetch(&ask).await?;
        let bytes: usize = batch.heads().map(|row| row.bytes).sum();
        let cut = bytes >= ask.bytes || batch.len() >= ask.rows;
        let there: FxHashMap<i64, i64> =
            batch.heads().map(|row| (row.id, row.created_at)).collect();
        let last = batch.heads().map(|row| row.id).max();
        {
            let mut memory = self.memory();
            for row in &rows {
                if there.get(&row.id) == Some(&row.created_at) {
                    continue;
                }
                // Behind the cut there may be more.
                if cut && last.is_some_and(|last| row.id > last) {
                    memory.held.put_off(*row, now);
                } else {
                    debug!(row.id = row.id, "a held row is gone: its key goes on");
                    memory.held.is_gone(*row);
                }
            }
        }
        let tried: FxHashSet<Sent> = rows.into_iter().collect();
        batch.retain(|row| {
            let (id, created_at) = (row.id, row.created_at);
            tried.contains(&Sent { id, created_at })
        });
        debug!(rows = batch.len(), "held rows are tried again");
        Ok(self.hand_over(batch).await)
    }

    /// Looks over the ids at or below the cursor. If there is a row that nobody knows, the cursor goes back before it. How many there are.
    pub(super) async fn look_below(&mut self) -> Result<usize> {
        let begun = time::Instant::now();
        // Taken before the look: a row that is deleted meanwhile is still known.
        let known = self.known();
        let by_key = !self.memory().held.is_empty();
        let (mut after, mut lowest, mut strays) = (i64::MIN, None, 0);
        loop {
            let page = self.reader.ids(after, self.at.cursor, by_key).await?;
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, key) in &page {
                let waits = || {
                    let lane = memory.held.lane(key.as_deref(), *row);
                    by_key && memory.held.waits(lane)
                };
                if known.get(&row.id) != Some(&row.created_at) && !waits() {
                    lowest.get_or_insert(row.id);
                    strays += 1;
                }
            }
            drop(memory);
            match page.last() {
                Some((last, _)) if page.len() == LOOK_PAGE => after = last.id,
                _ => break,
            }
        }
        let at = &mut self.at;
        at.next_look = time::Instant::now() + (begun.elapsed() * LOOK_SHARE).max(LOOK_INTERVAL);
        match lowest {
            Some(lowest) => {
                at.go_back(lowest);
                self.counters.cursor_moves.add(1);
            }
            None => at.gaps.looked_wide(),
        }
        Ok(strays)
    }

    /// The net under everything: rows that nothing announced, and a table that is no longer the same. `None` when there will be no more fetches.
    pub(super) async fn sweep(&mut self, asleep: bool) -> Result<Option<Catch>> {
        let Entry {
            oid,
            pause,
            xmin_age,
        } = self.reader.entry().await?;
        self.counters.saw_xmin(xmin_age);
        if oid != Some(self.oid) {
            info!("the table was dropped or replaced: starting over");
            self.shared.end(Ending::TableChanged);
            return Ok(None);
        }
        if pause.is_some() {
            self.shared.end(Ending::Paused);
            return Ok(None);
        }
        self.look_below().await?;
        let catch = self.settle().await?;
        let rows = catch.map_or(0, |catch| catch.rows);
        if rows == 0 && asleep {
            self.counters.recovered(Ailment::Unannounced);
        }
        // Awake, the relay comes by unannounced.
        if rows > 0 && asleep {
            let judged = time::Instant::now() + RING_IS_LATE;
            self.at.swept = Some(Swept { rows, judged });
        }
        debug!(rows, gaps = self.at.gaps.count(), "swept");
        Ok(catch)
    }

    /// The ring for what the sweep found has not come.
    pub(super) fn judge_sweep(&mut self) {
        if let Some(Swept { rows, .. }) = self.at.swept.take() {
            self.counters.swept.add(rows as u64);
            let words = "the sweep found rows that nothing had announced: is the trigger in place?";
            self.counters.suffers(Ailment::Unannounced, words);
            warn!(
                rows,
                "the sweep found rows that nothing had announced: is the trigger in place? ask `doorbell status`"
            );
        }
    }
}

/// Sleeps until then, or for ever.
pub(super) async fn at_time(due: Option<time::Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
