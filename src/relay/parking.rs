//! Moves convicted rows to the dead letters, on the leader's session: many at once, and never so many that the deletes wait for long.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::refusal::Refusals;
use super::vitals::Ailment;
use crate::postgres::{Convict, Error, Leader};

/// Most rows of one move.
const MOST: usize = 1_000;
/// A move that takes less than this may be larger the next time...
const SHORT: Duration = Duration::from_millis(50);
/// ... and one that takes more must be smaller: rows may be large, and the deletes wait meanwhile.
const LONG: Duration = Duration::from_millis(200);
/// The wait after a move that failed, doubled from time to time up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Somebody has to grant a right or to migrate: a statement a minute is no burden, and soon enough.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// The moves of one term.
pub(crate) struct Parking {
    refusals: Arc<Refusals>,
    rows: usize,
    next: Instant,
    wait: Duration,
    /// The trouble that was told: each is told once.
    told: Option<String>,
}

impl Parking {
    pub(crate) fn new(refusals: Arc<Refusals>) -> Self {
        Self {
            refusals,
            rows: 1,
            next: Instant::now(),
            wait: FIRST_WAIT,
            told: None,
        }
    }

    /// When the next move is due; `None` while there is nobody to park.
    pub(crate) fn due(&self) -> Option<Instant> {
        let memory = self.refusals.memory.lock();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        (!memory.convicts.is_empty()).then_some(self.next)
    }

    /// Whether all that can be moved now is moved. Rows that could not be are in the table, and found again after a restart.
    pub(crate) fn is_settled(&self) -> bool {
        self.due().is_none_or(|due| due > Instant::now())
    }

    /// Waits for somebody to park. Safe to drop while it waits.
    pub(crate) async fn convicted(&self) {
        self.refusals.convicted.notified().await;
    }

    /// Moves some, if that is due.
    ///
    /// # Errors
    /// The session is lost. Whatever else fails leaves the rows where they are, to be tried again later.
    pub(crate) async fn park(&mut self, leader: &mut Leader) -> Result<(), Error> {
        let begun = Instant::now();
        if self.due().is_none_or(|due| due > begun) {
            return Ok(());
        }
        let convicts: Vec<Convict> = {
            let memory = self.refusals.memory.lock();
            let memory = memory.unwrap_or_else(PoisonError::into_inner);
            memory.convicts.iter().take(self.rows).cloned().collect()
        };
        match leader.park(&convicts).await {
            Ok(parked) => {
                let moved = |it: &&Convict| !parked.left.iter().any(|left| left.row == it.row);
                if let Some(last) = convicts.iter().rev().find(moved) {
                    self.refusals.counters.parked(parked.rows, last);
                }
                self.forget(&convicts, &parked.left);
                if self.told.take().is_some() {
                    self.refusals.counters.recovered(Ailment::Park);
                    info!("refused rows can be parked again");
                }
                let took = begun.elapsed();
                if took > LONG {
                    self.rows = (self.rows / 2).max(1);
                } else if took < SHORT {
                    self.rows = (self.rows * 2).min(MOST);
                }
                if parked.rows == 0 && !parked.left.is_empty() {
                    debug!(
                        rows = parked.left.len(),
                        "refused rows are locked by others"
                    );
                    self.put_off();
                } else {
                    self.wait = FIRST_WAIT;
                }
                Ok(())
            }
            Err(error @ Error::Lost(_)) => Err(error),
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    warn!(
                        error = text,
                        "refused rows cannot be parked: they stay in the table and are skipped; trying again"
                    );
                    let words = format!("refused rows cannot be parked: {text}");
                    self.refusals.counters.suffers(Ailment::Park, &words);
                    self.told = Some(text);
                }
                // One row that cannot be moved must not keep the others: each is tried alone, and what fails alone goes to the end.
                if convicts.len() == 1 {
                    self.forget(&convicts, &convicts);
                    self.put_off();
                }
                self.rows = 1;
                Ok(())
            }
        }
    }

    fn put_off(&mut self) {
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LAST_WAIT);
    }

    /// The first convicts are judged: those that are left come last, the others are known no more.
    fn forget(&self, judged: &[Convict], left: &[Convict]) {
        let memory = self.refusals.memory.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        let left_rows: FxHashSet<_> = left.iter().map(|convict| convict.row).collect();
        memory.convicts.drain(..judged.len());
        for Convict { row, .. } in judged {
            if !left_rows.contains(row) && memory.refused.get(&row.id) == Some(&row.created_at) {
                memory.refused.remove(&row.id);
            }
        }
        memory.convicts.extend(left.iter().cloned());
    }
}
