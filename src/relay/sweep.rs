//! The net under the first stage: looks over the ids that it has passed, and the sweep.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time;
use tracing::{debug, info, warn};

use super::position::{LOOK_INTERVAL, LOOK_SHARE, Swept};
use super::scan::{Catch, Scan};
use super::shared::Ending;
use super::vitals::Ailment;
use crate::postgres::{Entry, LOOK_PAGE, Result};

/// A notification arrives within milliseconds of the commit.
const RING_IS_LATE: Duration = Duration::from_secs(1);

impl Scan {
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
            pin,
        } = self.reader.entry().await?;
        self.counters.saw_xmin(xmin_age, pin);
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
            let words = "the sweep found rows that nothing had announced: the trigger doorbell_ring is disabled or gone, or somebody inserts past it; \
                `doorbell check` says which, and the remedy";
            self.counters.suffers(Ailment::Unannounced, words);
            warn!(
                rows,
                "the sweep found rows that nothing had announced: is the trigger in place? ask `doorbell status`"
            );
        }
    }
}
