//! Moves rejected rows to the dead letters, on the session of the leader: many at once, but not so
//! many that deletes wait for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::postgres::{Error, Leader, RejectedRow};
use crate::relay::monitor::ProblemKind;
use crate::relay::poison::Refusals;

/// Most rows of one move.
const MOST: usize = 1_000;
/// A move that takes less than this is followed by a larger one...
const SHORT: Duration = Duration::from_millis(50);
/// ... and one that takes more by a smaller one: rows may be large, and deletes wait meanwhile.
const LONG: Duration = Duration::from_millis(200);
/// The wait after a move that failed, doubled with each failure up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// An operator has to grant a privilege or to migrate: a statement a minute is no burden, and soon
/// enough.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// The moves of one term.
pub(crate) struct Parking {
    refusals: Arc<Refusals>,
    rows: usize,
    next: Instant,
    wait: Duration,
    /// The problem that was logged last; each is logged once.
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

    /// Returns when the next move is due; `None` while no row waits for one.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.refusals.rejected.has_waiting().then_some(self.next)
    }

    /// Whether all rows that can be moved now are moved. The others stay in the table, and are
    /// found again after a restart.
    pub(crate) fn is_settled(&self) -> bool {
        self.due().is_none_or(|due| due > Instant::now())
    }

    /// Waits for a rejected row. It may be cancelled.
    pub(crate) async fn rejected(&self) {
        self.refusals.rejected.arrived().await;
    }

    /// Moves rows, if a move is due. Returns whether it was.
    ///
    /// # Errors The session is lost. Whatever else fails leaves the rows where they are, to be
    /// tried again later.
    pub(crate) async fn park(&mut self, leader: &mut Leader) -> Result<bool, Error> {
        let begun = Instant::now();
        if self.due().is_none_or(|due| due > begun) {
            return Ok(false);
        }
        let rejected = self.refusals.rejected.first(self.rows);
        match leader.park(&rejected).await {
            Ok(parked) => {
                let moved = |it: &&RejectedRow| !parked.left.iter().any(|left| left.row == it.row);
                if let Some(last) = rejected.iter().rev().find(moved) {
                    self.refusals.counters.parked(parked.rows, last);
                }
                self.refusals.rejected.moved(&rejected, &parked.left);
                if self.told.take().is_some() {
                    self.refusals.counters.resolve(ProblemKind::Park);
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
                Ok(true)
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
                    self.refusals.counters.raise(ProblemKind::Park, &words);
                    self.told = Some(text);
                }
                // A row that cannot be moved must not hold up the others: each is tried alone, and
                // one that fails alone goes to the end.
                if rejected.len() == 1 {
                    self.refusals.rejected.moved(&rejected, &rejected);
                    self.put_off();
                }
                self.rows = 1;
                Ok(true)
            }
        }
    }

    fn put_off(&mut self) {
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(LAST_WAIT);
    }
}
