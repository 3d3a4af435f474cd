//! Spreads outboxes over the processes that relay them: one that leads some lets others go first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use crate::postgres::{Candidate, Result, Table};

/// Processes that were started together see each other after this.
const MEETING: Duration = Duration::from_millis(500);
/// A process leaves free outboxes to others for this long since its first lead.
const PATIENCE: Duration = Duration::from_secs(3);
/// The interval between two checks of what the others lead.
const STEP: Duration = Duration::from_millis(100);

/// What the relays of one process share.
#[derive(Default)]
pub(crate) struct Balance {
    /// Held while the first sessions of an outbox are opened, one outbox after another.
    pub(crate) opening: Mutex<()>,
    /// Sessions that outboxes are about to open.
    awaited: Arc<AtomicUsize>,
    leads: Arc<AtomicUsize>,
    /// When the first of the outboxes that the process leads was granted. One relay at a time asks
    /// or decides, so that each sees the result of the last.
    turn: Mutex<Option<Instant>>,
}

/// Counts one outbox among those that the process leads, until it is dropped.
pub(crate) struct LeadershipSlot(Arc<AtomicUsize>);

/// Sessions that are about to be opened, until it is dropped.
pub(crate) struct Awaited(usize, Arc<AtomicUsize>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Drop for LeadershipSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balance {
    /// Counts sessions that an outbox is about to open.
    pub(crate) fn awaits(&self, sessions: usize) -> Awaited {
        self.awaited.fetch_add(sessions, Ordering::Relaxed);
        Awaited(sessions, Arc::clone(&self.awaited))
    }

    pub(crate) fn awaited(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Takes the lock if it is free. Waits before for processes that lead fewer outboxes.
    pub(crate) async fn try_lead(
        &self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<Option<LeadershipSlot>> {
        let mut first = self.turn().await;
        if let Some(first) = *first {
            let_others_go_first(candidate, table, first).await?;
        }
        if !candidate.try_lead(table).await? {
            return Ok(None);
        }
        Ok(Some(self.lead(&mut first)))
    }

    /// Keeps a lock that was waited for, or yields it to a waiting process that leads fewer.
    pub(crate) async fn keep(
        &self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<Option<LeadershipSlot>> {
        let mut first = self.turn().await;
        if first.is_some() {
            let shares = candidate.shares(table).await?;
            // This outbox is already counted among ours.
            if (shares.fewest_waiting).is_some_and(|fewest| shares.ours - 1 > fewest) {
                candidate.yield_lead(table).await?;
                return Ok(None);
            }
        }
        Ok(Some(self.lead(&mut first)))
    }

    async fn turn(&self) -> MutexGuard<'_, Option<Instant>> {
        let mut first = self.turn.lock().await;
        first.take_if(|_| self.leads.load(Ordering::Relaxed) == 0);
        first
    }

    fn lead(&self, first: &mut Option<Instant>) -> LeadershipSlot {
        first.get_or_insert_with(Instant::now);
        self.leads.fetch_add(1, Ordering::Relaxed);
        LeadershipSlot(Arc::clone(&self.leads))
    }
}

/// Waits while another process leads fewer outboxes than this one.
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
