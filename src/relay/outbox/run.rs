//! The life of one outbox's relay: connect, stand by, lead, and start over after a loss.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::producers::let_go;
use super::relay::OutboxRelay;
use super::startup::Ready;
use crate::config::Delivery;
use crate::postgres::{Error, Table};
use crate::relay::backoff::Backoff;
use crate::relay::error::RelayError;
use crate::relay::monitor::Role;
use crate::relay::sessions::Sessions;
use crate::relay::term_state::{AfterTerm, TermEnd};

impl OutboxRelay {
    /// Relays until the stop, or until the table is drained if that was asked for. Fails at the
    /// start, where waiting does not help, and at a stop that did not settle all rows in time.
    pub(crate) async fn run(mut self) -> Result<(), RelayError> {
        let ended = self.relay().await;
        self.refusals.log.tell(None);
        // Their end blocks, which would keep the sessions open and the lock from the next leader.
        let Self { unused, topics, .. } = self;
        let_go((unused, topics));
        ended
    }

    async fn relay(&mut self) -> Result<(), RelayError> {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            let Err(error) = self.live().await else {
                break;
            };
            let is_last = match &error {
                RelayError::Unsettled(_)
                | RelayError::Poison { .. }
                | RelayError::Led(_)
                | RelayError::Paused(_) => true,
                error => !self.started && (error.is_permanent() || self.start_is_over()),
            };
            if is_last {
                return Err(error);
            }
            if begun.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            if self.started {
                self.counters.reconnects.add(1);
            }
            self.counters.became(Role::Starting, "starting over");
            self.tell(&error);
            let wait = match &error {
                RelayError::Postgres(error) if error.is_out_of_connections() => backoff.longest(),
                _ => backoff.next(),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
        if self.drains && !self.is_drained {
            return Err(RelayError::NotDrained(self.outbox.table.to_string()));
        }
        Ok(())
    }

    /// Connects, and leads until the stop or the loss of something.
    async fn live(&mut self) -> Result<(), RelayError> {
        let stop = self.stop.clone();
        let ready = tokio::select! {
            ready = self.get_ready() => ready?,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(Ready {
            table,
            sessions,
            slot: _slot,
        }) = ready
        else {
            return Ok(());
        };
        let mut leads = false;
        let mut sessions = Some(sessions);
        while let Some(current) = sessions {
            sessions = Box::pin(self.lead(&table, current, &mut leads)).await?;
        }
        let counters = &self.counters;
        info!(
            published = counters.published.get(),
            deleted = counters.deleted.get(),
            refused = counters.refused.get(),
            parked = counters.parked.get(),
            swept = counters.swept.get(),
            "stopped"
        );
        Ok(())
    }

    /// Leads for one term, after a pause. Returns the sessions, or nothing at the end.
    async fn lead(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
        leads: &mut bool,
    ) -> Result<Option<Sessions>, RelayError> {
        // In the exactly-once mode it leads once every other producer is fenced.
        if self.outbox.delivery == Delivery::AtLeastOnce {
            self.begin_to_lead(table, leads);
        } else if !*leads {
            self.counters.became(
                Role::Starting,
                "the lock is granted: fencing earlier producers",
            );
        }
        if self.drains && sessions.listener.entry(table).await?.pause.is_some() {
            return Err(RelayError::Paused(table.quoted.clone()));
        }
        if self.while_paused(&mut sessions, table).await? {
            return Ok(None);
        }
        let Some(mut sessions) = Box::pin(self.search_crash_loop(table, sessions)).await? else {
            return Ok(None);
        };
        let Some(producer) = self.producer(table, &mut sessions).await? else {
            sessions.leader.reset_crash_count().await.ok();
            return match self.unsettled {
                0 => Ok(None),
                rows => Err(RelayError::Unsettled(rows)),
            };
        };
        self.unsettled = 0;
        self.begin_to_lead(table, leads);
        let mut outcome = self.term(table, producer, None).run(sessions).await;
        if let (TermEnd::Stopped | TermEnd::Drained | TermEnd::Poison { .. }, Some(left)) =
            (&outcome.end, &mut outcome.sessions)
        {
            // If this fails, crash-loop detection counts one start too many.
            left.leader.reset_crash_count().await.ok();
        }
        match self.after(table, outcome).await? {
            (AfterTerm::Stop, _) => Ok(None),
            (AfterTerm::Drained, left) => {
                // Suspects that were not among the rows are gone from the table.
                self.refusals.suspects.clear_all();
                // Rows may be left of a key that became free.
                self.is_drained = !self.refusals.held().has_over();
                match self.is_drained {
                    true => Ok(None),
                    false => Ok(Some(left.ok_or_else(lost)?)),
                }
            }
            (_, left) => Ok(Some(left.ok_or_else(lost)?)),
        }
    }
}

/// The error of a term that lost a session without a reason of its own.
pub(super) fn lost() -> Error {
    Error::Lost("one of the relay's own".into())
}
