//! Outboxes that several processes relay are spread over them: one that leads some already lets the others go first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::postgres::{Candidate, Result, Table};

/// Processes that were started together see each other after this.
const MEETING: Duration = Duration::from_millis(500);
/// For so long a process that leads some outboxes leaves free ones to others, who may not want them. From its first lead on, not for each.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at what the others have.
const STEP: Duration = Duration::from_millis(100);

/// What the relays of one process know of each other.
#[derive(Default)]
pub(crate) struct Spread {
    leads: Arc<AtomicUsize>,
    /// One outbox at a time asks or decides, so that each sees what the last one came to. When the first of those it leads was granted.
    turn: Mutex<Option<Instant>>,
}

/// One outbox that the process leads, until it is dropped.
pub(crate) struct Lead(Arc<AtomicUsize>);

impl Drop for Lead {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Spread {
    /// Takes the lock if it is free, and nobody who leads less has taken it while we waited for them.
    pub(crate) async fn try_lead(
        &self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<Option<Lead>> {
        let mut first = self.turn.lock().await;
        if self.leads_none() {
            *first = None;
        }
        if let Some(first) = *first {
            let_others_go_first(candidate, table, first).await?;
        }
        if !candidate.try_lead(table).await? {
            return Ok(None);
        }
        Ok(Some(self.lead(&mut first)))
    }

    /// Whether to keep a lock that was waited for, rather than give it to one that waits as well and leads less.
    pub(crate) async fn keep(
        &self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<Option<Lead>> {
        let mut first = self.turn.lock().await;
        if self.leads_none() {
            *first = None;
        } else {
            let shares = candidate.shares(table).await?;
            // This one is among ours already.
            if (shares.fewest_waiting).is_some_and(|fewest| shares.ours - 1 > fewest) {
                candidate.yield_lead(table).await?;
                return Ok(None);
            }
        }
        Ok(Some(self.lead(&mut first)))
    }

    fn leads_none(&self) -> bool {
        self.leads.load(Ordering::Relaxed) == 0
    }

    fn lead(&self, first: &mut Option<Instant>) -> Lead {
        first.get_or_insert_with(Instant::now);
        self.leads.fetch_add(1, Ordering::Relaxed);
        Lead(Arc::clone(&self.leads))
    }
}

/// Waits while another process leads less than ours.
async fn let_others_go_first(
    candidate: &mut Candidate,
    table: &Table,
    first: Instant,
) -> Result<()> {
    while first.elapsed() < PATIENCE {
        let shares = candidate.shares(table).await?;
        let is_our_turn = shares.fewest.is_none_or(|fewest| shares.ours <= fewest);
        if is_our_turn && first.elapsed() >= MEETING {
            break;
        }
        sleep(STEP).await;
    }
    Ok(())
}
