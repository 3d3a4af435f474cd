//! What the first stage does for keys that wait: it fetches the held row again when its time has come, and reads on with a key that is free.

use std::time::{Duration, Instant, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::debug;

use super::position::MAX_BYTES;
use super::scan::Scan;
use crate::postgres::{Ask, Result, Sent};

/// Most held rows that are tried again by one statement.
const TRIES: usize = 1_000;

/// How many keys wait is told at most this often: a burst of refusals is one statement.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Where there is no room for them, they are tried again after this.
const NO_ROOM: Duration = Duration::from_secs(1);

impl Scan {
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
        let begun = SystemTime::now();
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
        Ok(self.hand_over(batch, begun).await)
    }
}
