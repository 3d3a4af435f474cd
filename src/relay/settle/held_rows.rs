//! Records in the database which refused rows hold others back, for `doorbell.pending`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::postgres::{Error, Leader};
use crate::relay::poison::Refusals;

/// A burst of refusals is one statement.
const INTERVAL: Duration = Duration::from_secs(1);
/// The wait after a failure: an operator has to grant a privilege or to migrate.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The record of one term.
pub(crate) struct HeldRecord {
    refusals: Arc<Refusals>,
    changes: watch::Receiver<()>,
    /// Whether the record may differ. At the start of a term an earlier leader has left it.
    is_outdated: bool,
    next: Instant,
}

impl HeldRecord {
    pub(crate) fn new(refusals: Arc<Refusals>) -> Self {
        let changes = refusals.held().changes();
        Self {
            refusals,
            changes,
            is_outdated: true,
            next: Instant::now(),
        }
    }

    /// Returns when rows are to be recorded; `None` while nothing changes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.is_outdated.then_some(self.next)
    }

    /// Waits for a change. It may be cancelled.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as the refusals.
        self.changes.changed().await.ok();
        self.is_outdated = true;
    }

    /// Records what has changed, if that is due.
    ///
    /// # Errors
    /// The session is lost. Whatever else fails is tried again later.
    pub(crate) async fn record(&mut self, leader: &mut Leader) -> Result<(), Error> {
        let begun = Instant::now();
        if self.due().is_none_or(|due| due > begun) {
            return Ok(());
        }
        self.changes.mark_unchanged();
        let rows = self.refusals.held().holding();
        let is_needed = !rows.is_empty();
        let failure = match leader.record_held(rows).await {
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) => Some(error.to_string()),
            Ok(false) if is_needed => Some("the table is missing, or the role may not write to it: run `doorbell migrate`, then sql/roles.sql".into()),
            Ok(_) => None,
        };
        self.is_outdated = failure.is_some();
        self.next = begun
            + match failure {
                None => INTERVAL,
                Some(_) => RETRY_INTERVAL,
            };
        let is_told = &self.refusals.held_is_told;
        if let Some(error) = failure
            && !is_told.swap(true, Ordering::Relaxed)
        {
            warn!(
                error,
                "held rows cannot be recorded in doorbell.held: doorbell.pending calls them waiting"
            );
        }
        Ok(())
    }
}
