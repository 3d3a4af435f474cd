//! A pause between two terms, with the sessions of a leader and without a producer.
//!
//! The wake lock is free meanwhile, so writers do not notify, as while no relay runs. The term that
//! follows begins, as each does, with a fetch of everything. The command that ends the pause
//! notifies with a payload, which the listening session receives: nothing is polled.

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::relay::OutboxRelay;
use crate::postgres::{Ring, Table};
use crate::relay::clock::jittered;
use crate::relay::error::RelayError;
use crate::relay::monitor::{ProblemKind, Role};
use crate::relay::sessions::Sessions;

impl OutboxRelay {
    /// Waits as long as the outbox is paused. Returns whether a stop ended the wait.
    pub(super) async fn while_paused(
        &self,
        sessions: &mut Sessions,
        table: &Table,
    ) -> Result<bool, RelayError> {
        let counters = &self.counters;
        let mut told = None;
        // A paused leader keeps its sessions active, too: its standbys watch them.
        let mut next_ping = Instant::now() + self.pings().interval();
        loop {
            let (entry, waiting) = match &told {
                None => (sessions.listener.entry(table).await?, None),
                // No fetch counts the rows.
                Some(_) => sessions
                    .reader
                    .entry_and_rows()
                    .await
                    .map(|(it, rows)| (it, Some(rows)))?,
            };
            if entry.oid != Some(table.oid) {
                return Err(RelayError::TableChanged);
            }
            if entry.sees_dead && counters.lacks_dead() {
                counters.saw_dead(sessions.reader.dead_letters().await?);
            }
            let Some(pause) = entry.pause else {
                if told.is_some() {
                    info!("resumed");
                    counters.became(Role::Leading, "resumed");
                }
                return Ok(false);
            };
            let by = pause.by.as_deref().unwrap_or("an unknown user");
            let reason = pause.reason.as_deref().unwrap_or("no reason given");
            let name = &table.quoted;
            let words =
                format!("paused by {by}: {reason}; `doorbell resume --table '{name}'` ends it");
            if told.is_none() {
                counters.became(Role::Paused, "paused");
            }
            if told.as_ref() != Some(&words) {
                counters.raise(ProblemKind::Pause, &words);
                told = Some(words);
                warn!(
                    since = pause.since,
                    by = pause.by,
                    reason = pause.reason,
                    "paused: no row is fetched before `doorbell resume`"
                );
                // With the lock taken, writers would notify for nothing.
                sessions.wake_lock.release().await?;
            }
            let Some(waiting) = waiting else { continue };
            debug!("swept: paused");
            counters.counted(waiting.rows, waiting.is_more, waiting.oldest);
            let check = Instant::now() + jittered(self.outbox.sweep);
            if !self.await_check(sessions, check, &mut next_ping).await? {
                return Ok(true);
            }
        }
    }

    /// Waits until the flag is to be checked. Returns `false` after a stop.
    async fn await_check(
        &self,
        sessions: &mut Sessions,
        check: Instant,
        next_ping: &mut Instant,
    ) -> Result<bool, RelayError> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(false),
                error = sessions.leader.session.lost() => return Err(error.into()),
                error = sessions.wake_lock.session.lost() => return Err(error.into()),
                ring = sessions.listener.rung() => match ring? {
                    Ring::Rows => {}
                    Ring::PauseChanged => return Ok(true),
                    // Nothing is tried meanwhile.
                    Ring::HeldAsked(to) => sessions.listener.answer(&to, &[]).await?,
                },
                () = sleep_until(check) => return Ok(true),
                () = sleep_until(*next_ping) => {
                    *next_ping = Instant::now() + self.pings().interval();
                    sessions.ping().await?;
                }
            }
        }
    }
}
