//! First stage: from "look" to batches of rows that nobody has fetched yet.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{self, sleep_until};
use tracing::{debug, info, warn};

use super::position::{LOOK_INTERVAL, LOOK_SHARE, MAX_BYTES, Position, Swept, WIDE_INTERVAL};
use super::shared::{Counters, Ending, Memory, Shared};
use super::window::{Room, Ticket};
use crate::postgres::{Ask, Batch, LOOK_PAGE, Reader, Result, Sent};

/// Who may own a gap is asked at most so often: the question touches every partition of the server's lock table.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// A notification arrives within milliseconds of the commit.
const RING_IS_LATE: Duration = Duration::from_secs(1);

/// Rows on their way to the publisher, with the ticket of the first.
pub(crate) struct Fetched {
    pub(crate) batch: Batch,
    pub(crate) first: Ticket,
}

/// What to do next.
enum Call {
    /// A notification, or the start.
    Ring,
    /// The slow look over everything.
    Sweep,
    /// A look below the cursor that was put off.
    Look,
    /// The rows of the last sweep were not rung for in time.
    Judge,
    /// No more fetches.
    Halt,
}

/// What the first stage holds.
pub(crate) struct Fetcher {
    pub(crate) reader: Reader,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) batches: mpsc::Sender<Fetched>,
    pub(crate) rings: watch::Receiver<u64>,
    pub(crate) oid: u32,
    pub(crate) sweep: Duration,
    /// Server processes of our own sessions: they never own a gap.
    pub(crate) ours: Vec<i32>,
}

impl Fetcher {
    /// Runs until there are to be no more fetches; gives the session back.
    pub(crate) async fn run(mut self) -> Reader {
        if let Err(error) = self.fetch_until_halt().await {
            self.shared.end(Ending::Session(error));
        }
        self.reader
    }

    async fn fetch_until_halt(&mut self) -> Result<()> {
        let mut at = Position::start(
            self.highest_refused(),
            time::Instant::now() + jittered(self.sweep),
        );
        self.rings.mark_changed();
        loop {
            match self.wait(&at).await {
                Call::Halt => return Ok(()),
                Call::Judge => self.judge_sweep(&mut at),
                Call::Ring => {
                    at.swept = None;
                    let found = self.catch_up(&mut at).await?;
                    self.shared.caught_up.store(true, Ordering::Relaxed);
                    // A ring that announced nothing that is above the cursor or in a gap: it may have been for a lower id.
                    if found == 0 || at.gaps.is_wide() {
                        at.look_later(if found == 0 {
                            LOOK_INTERVAL
                        } else {
                            WIDE_INTERVAL
                        });
                    }
                }
                Call::Look => {
                    at.look_due = None;
                    if self.look_below(&mut at).await? > 0 {
                        self.catch_up(&mut at).await?;
                    }
                    if at.gaps.is_wide() {
                        at.look_later(WIDE_INTERVAL);
                    }
                }
                Call::Sweep => {
                    at.next_sweep = time::Instant::now() + jittered(self.sweep);
                    self.sweep(&mut at).await?;
                }
            }
        }
    }

    async fn wait(&mut self, at: &Position) -> Call {
        tokio::select! {
            // Rings may come without end; the others are rare by themselves.
            biased;
            () = self.shared.halt.cancelled() => Call::Halt,
            () = at_time(at.look_due) => Call::Look,
            () = at_time(at.swept.map(|swept| swept.judged)) => Call::Judge,
            () = sleep_until(at.next_sweep) => Call::Sweep,
            // The sender lives as long as the term; if it is gone, so is the term.
            rung = self.rings.changed() => if rung.is_ok() { Call::Ring } else { Call::Halt },
        }
    }

    /// Fetches until a fetch comes back less than full; how many rows were new.
    async fn catch_up(&mut self, at: &mut Position) -> Result<usize> {
        let mut found = 0;
        // A ring during the fetch is unseen afterwards: it may be for a row that the fetch's snapshot did not have.
        self.rings.borrow_and_update();
        while let Some(room) = self.room().await {
            self.check_gaps(at).await?;
            let look = at.gaps.look();
            let ask = Ask {
                after: at.cursor,
                gaps: &look,
                rows: room.rows.min(at.limit),
                bytes: room.bytes.min(MAX_BYTES),
            };
            let known = at.known_up_to.map(|_| self.known());
            let batch = self.reader.fetch(&ask).await?;
            let bytes: usize = batch.heads().map(|row| row.bytes).sum();
            let cut = bytes >= ask.bytes;
            let full = cut || batch.len() >= ask.rows;
            at.adapt(batch.len(), bytes, cut);
            let batch = at.advance(batch, full, known.as_ref());
            found += batch.len();
            if !self.hand_over(batch).await || !full {
                break;
            }
        }
        Ok(found)
    }

    /// Waits for room in the window; `None` when there will be no more fetches.
    async fn room(&self) -> Option<Room> {
        loop {
            let changed = self.shared.room.notified();
            if self.shared.halt.is_cancelled() {
                return None;
            }
            if let Some(room) = self.shared.window().room() {
                return Some(room);
            }
            tokio::select! {
                () = changed => {}
                () = self.shared.halt.cancelled() => return None,
            }
        }
    }

    async fn check_gaps(&mut self, at: &mut Position) -> Result<()> {
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

    /// Rows that an earlier term refused lie among those that this one reads from the start: to send one again would have its batch refused and
    /// end the term, again and again.
    fn highest_refused(&self) -> Option<i64> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.refused.keys().max().copied()
    }

    /// Rows that must not be fetched again.
    fn known(&self) -> FxHashMap<i64, i64> {
        let mut known = self.shared.window().known();
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(&memory.refused);
        known
    }

    /// Looks over the ids at or below the cursor. If there is a row that nobody knows, the cursor goes back before it. How many there are.
    async fn look_below(&mut self, at: &mut Position) -> Result<usize> {
        let begun = time::Instant::now();
        // Taken before the look: a row that is deleted meanwhile is still known.
        let known = self.known();
        let (mut after, mut lowest, mut strays) = (i64::MIN, None, 0);
        loop {
            let page = self.reader.ids(after, at.cursor).await?;
            for (id, created_at) in &page {
                if known.get(id) != Some(created_at) {
                    lowest.get_or_insert(*id);
                    strays += 1;
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == LOOK_PAGE => after = *last,
                _ => break,
            }
        }
        at.next_look = time::Instant::now() + (begun.elapsed() * LOOK_SHARE).max(LOOK_INTERVAL);
        match lowest {
            Some(lowest) => at.go_back(lowest),
            None => at.gaps.looked_wide(),
        }
        Ok(strays)
    }

    /// The net under everything: rows that nothing announced, and a table that is no longer the same.
    async fn sweep(&mut self, at: &mut Position) -> Result<()> {
        if self.reader.current_oid().await? != Some(self.oid) {
            info!("the table was dropped or replaced: starting over");
            self.shared.end(Ending::TableChanged);
            return Ok(());
        }
        self.look_below(at).await?;
        let rows = self.catch_up(at).await?;
        if rows > 0 && !self.rings.has_changed().unwrap_or(false) {
            let judged = time::Instant::now() + RING_IS_LATE;
            at.swept = Some(Swept { rows, judged });
        }
        debug!(rows, gaps = at.gaps.count(), "swept");
        Ok(())
    }

    fn judge_sweep(&self, at: &mut Position) {
        if let Some(Swept { rows, .. }) = at.swept.take() {
            self.counters.count_swept(rows as u64);
            warn!(
                rows,
                "the sweep found rows that nothing had announced: is the trigger in place? ask `doorbell status`"
            );
        }
    }
}

/// Several relays that were started together do not sweep together: a tenth more or less.
fn jittered(sweep: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    sweep.mul_f64(0.9 + f64::from(nanos % 1_000) / 5_000.0)
}

/// Sleeps until then, or for ever.
async fn at_time(due: Option<time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
