//! Held keys in the first stage: fetches a refused row again when its time has come, and goes back
//! to the rows of a key that became free.

use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashSet;
use tracing::debug;

use super::cursor::MAX_BYTES;
use super::scan::{FetchOutcome, Scan};
use super::schedule::DueTimes;
use crate::event::RowId;
use crate::postgres::Result;

/// Most refused rows that one statement fetches again.
const TRIES: usize = 1_000;

/// Held keys are recorded at most this often, so that a burst of refusals is one statement.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// The wait before the next try when the window had no room.
const NO_ROOM: Duration = Duration::from_secs(1);

impl Scan {
    /// Fetches once, for a reason that arose at `woken`. Returns nothing for no more fetches.
    pub(super) async fn fetch(&mut self, woken: Instant) -> Result<Option<FetchOutcome>> {
        if let Some(rows) = self.only.take() {
            self.fetch_only(rows).await?;
            return Ok(None);
        }
        if !self.retry_held_keys().await? {
            return Ok(None);
        }
        match self.room().await? {
            Some(room) => self.fetch_both(room, woken, false).await,
            None => Ok(None),
        }
    }

    /// When a refused row is to be tried again or the number of held keys is to be recorded.
    pub(super) fn held_keys_due(&self) -> Option<Instant> {
        [self.next_try(), self.tell_due].into_iter().flatten().min()
    }

    fn next_try(&self) -> Option<Instant> {
        self.refusals.held().next_try()
    }

    async fn tell_held(&mut self) -> Result<()> {
        let now = Instant::now();
        self.tell_due = None;
        if !self.reader.shows_held_keys() && self.refusals.held().is_empty() {
            return Ok(());
        }
        if now < self.tell_after {
            self.tell_due = Some(self.tell_after);
            return Ok(());
        }
        self.tell_after = now + TELL_INTERVAL;
        let keys = self.refusals.held().count();
        self.reader.publish_held_keys(keys).await
    }

    /// Tries refused rows again, releases free keys and records the number of held keys. Returns
    /// `false` when there are to be no more fetches.
    pub(super) async fn retry_held_keys(&mut self) -> Result<bool> {
        if self.next_try().is_some_and(|due| due <= Instant::now()) && !self.try_again().await? {
            return Ok(false);
        }
        if self.refusals.held().has_over() {
            if !self.all_published().await {
                return Ok(false);
            }
            let lowest = self.refusals.held().release();
            if let Some(lowest) = lowest {
                self.cursor.go_back(lowest);
                self.schedule.look_now();
            }
        }
        self.tell_held().await?;
        Ok(true)
    }

    /// Waits until the second stage has nothing left, or returns `false` for no more fetches.
    async fn all_published(&self) -> bool {
        loop {
            let changed = self.state.room.notified();
            if self.state.halt.is_cancelled() {
                return false;
            }
            if self.state.is_published() {
                return true;
            }
            tokio::select! {
                () = changed => {}
                () = self.state.halt.cancelled() => return false,
            }
        }
    }

    /// Fetches due refused rows as they are now, or returns `false` for no more fetches.
    async fn try_again(&mut self) -> Result<bool> {
        let now = Instant::now();
        let room = self.state.window().room();
        let most = room.map_or(TRIES, |room| room.rows.min(TRIES));
        let rows = self.refusals.held().take_due(now, most);
        let Some(room) = room else {
            // Rows in flight go first.
            let mut held = self.refusals.held();
            for row in rows {
                held.put_off(row, now + NO_ROOM);
            }
            return Ok(true);
        };
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let most = (ids.len(), room.bytes.min(MAX_BYTES));
        let begun = SystemTime::now();
        // One whose time was put off frees its key, too.
        let mut batch = self.reader.fetch_due(&ids, most).await?;
        let cut = batch.is_cut;
        let there: FxHashSet<RowId> = batch.rows().collect();
        let last = batch.rows().map(|row| row.id).max();
        {
            let mut held = self.refusals.held();
            for row in &rows {
                if there.contains(row) {
                    continue;
                }
                // Rows behind the limit were not read.
                if cut && last.is_some_and(|last| row.id > last) {
                    held.put_off(*row, now);
                } else {
                    debug!(
                        row.id = row.id,
                        "a refused row is gone from the table: its key is free"
                    );
                    held.is_gone(*row);
                }
            }
        }
        let tried: FxHashSet<RowId> = rows.into_iter().collect();
        batch.retain(|row| tried.contains(row));
        debug!(rows = batch.len(), "trying refused rows again");
        Ok(self.hand_over(batch, begun, &DueTimes::default()).await)
    }
}
