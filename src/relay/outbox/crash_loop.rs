//! Finds a row that crashes the process, in whatever way.
//!
//! Each start is counted. If several starts in a row found the table at the same first row, none of
//! them made progress, and the next one searches: it sends probe batches of a few rows, each in a
//! term of its own, and records their ids before. The rows that were recorded when the process
//! ended hold the culprit, and the next process sends smaller probe batches of them. A row that was
//! alone at two crashes is rejected.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::relay::OutboxRelay;
use super::run::lost;
use super::term::TermOutcome;
use crate::config::Poison;
use crate::event::RowId;
use crate::postgres::{
    CrashCount, Error, LookedAt, RejectedRow, Server, Session, Table, clear_recorded_rows,
};
use crate::relay::error::RelayError;
use crate::relay::publish::Destination;
use crate::relay::sessions::Sessions;
use crate::relay::term_state::AfterTerm;

/// Starts at one row before the search: the process may have been killed for other reasons.
const STARTS: i64 = 3;
/// Rows of a probe batch at first. Each that passes beyond the suspected rows makes the next one
/// twice as large: a relay that others kill often has to reach the rows behind, too.
const PROBE_ROWS: usize = 100;
/// Each crash during a probe batch makes the next ones this many times smaller.
const SMALLER: usize = 10;
/// Crashes with a row alone until it is rejected: one may be chance.
const CRASHES: i64 = 2;
/// A process that runs for this long after it began to send a probe batch is not crashed by it.
const SURVIVES: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Normal,
    Probe(usize),
    /// With probe batches, and without this row.
    Without(i64),
}

fn decide(starts: &CrashCount) -> Start {
    match starts.rows.as_slice() {
        _ if starts.count < STARTS => Start::Normal,
        [] => Start::Probe(PROBE_ROWS),
        [row] if starts.crashes >= CRASHES => Start::Without(*row),
        rows => Start::Probe((rows.len() / SMALLER).max(1)),
    }
}

impl OutboxRelay {
    /// Counts this start and, if several made no progress, searches the row that crashes the
    /// process. Returns the sessions, or nothing after a stop.
    pub(super) async fn search_crash_loop(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
    ) -> Result<Option<Sessions>, RelayError> {
        if std::mem::replace(&mut self.counted, true) {
            return Ok(Some(sessions));
        }
        let starts = match sessions.leader.count_start().await {
            Ok(starts) => starts,
            Err(error @ Error::Lost(_)) => return Err(error.into()),
            Err(error) => {
                warn!(%error, "cannot record this start; crash-loop detection is off");
                return Ok(Some(sessions));
            }
        };
        let probe_rows = match decide(&starts) {
            Start::Normal => return Ok(Some(sessions)),
            Start::Probe(rows) => rows,
            Start::Without(id) => {
                self.reject(table, &mut sessions, id, starts.crashes)
                    .await?;
                PROBE_ROWS
            }
        };
        warn!(
            starts = starts.count,
            rows = probe_rows,
            "crash loop: several starts made no progress; sending a few rows at a time to find the one that crashes the relay"
        );
        let suspected = starts.rows.last().copied().unwrap_or(i64::MIN);
        Box::pin(self.send_probes(table, sessions, probe_rows, suspected)).await
    }

    /// Rejects the row that was sent alone at each crash.
    async fn reject(
        &mut self,
        table: &Table,
        sessions: &mut Sessions,
        id: i64,
        crashes: i64,
    ) -> Result<(), RelayError> {
        let has_routes = !self.outbox.routes.is_empty();
        let there = sessions.reader.sendable(table, (id, id), has_routes);
        let there = there.await?;
        let Some(found) = there.into_iter().next() else {
            return Ok(());
        };
        let reason =
            format!("the process ended {crashes} times while this row was sent, and no other");
        if self.outbox.poison == Poison::Stop {
            return Err(RelayError::Poison {
                id,
                reason,
                policy: "the poison policy is stop".into(),
            });
        }
        error!(
            row.id = id,
            error = reason,
            "this row crashes the relay; moving it to the dead letters, see `doorbell dead list`"
        );
        self.counters.refused.add(1);
        let code = "Crash".into();
        let rejected = RejectedRow {
            row: found.row,
            reason,
            code,
            topic: self.routed(&found).filter(|_| has_routes),
        };
        self.refusals.rejected.add(rejected);
        Ok(())
    }

    /// Returns the topic of a row, if it has one.
    fn routed(&self, row: &LookedAt) -> Option<String> {
        let event_type = row.event_type.as_deref().unwrap_or_default();
        match self.routes.of(row.topic.as_deref(), event_type) {
            Ok(Destination::Topic(topic)) => Some(topic.into_owned()),
            Ok(Destination::Drop) | Err(_) => None,
        }
    }

    /// Sends a window's rows in probe batches, small ones up to the last suspected row. Returns the
    /// sessions, or nothing after a stop.
    async fn send_probes(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
        probe_rows: usize,
        suspected: i64,
    ) -> Result<Option<Sessions>, RelayError> {
        let (mut from, mut passed, mut beyond) = (i64::MIN, 0, PROBE_ROWS);
        // The culprit was in a window that began with the first row.
        while passed < self.outbox.in_flight_rows {
            let most = if from <= suspected {
                probe_rows
            } else {
                beyond *= 2;
                beyond / 2
            };
            let most = most.min(self.outbox.in_flight_rows);
            let rows = self.next_rows(table, &mut sessions, from, most).await?;
            let Some(last) = rows.last() else {
                break;
            };
            (from, passed) = (last.saturating_add(1), passed + rows.len());
            sessions.leader.record_next_rows(&rows).await?;
            match self.send_probe(table, sessions, rows).await? {
                (AfterTerm::Checked, left) => sessions = left.ok_or_else(lost)?,
                (AfterTerm::Pause, left) => return Ok(Some(left.ok_or_else(lost)?)),
                (_, left) => {
                    if let Some(mut left) = left {
                        left.leader.reset_crash_count().await.ok();
                    }
                    return Ok(None);
                }
            }
        }
        sessions.leader.reset_crash_count().await?;
        info!(rows = passed, "crash-loop search finished");
        Ok(Some(sessions))
    }

    /// Sends one probe batch in some terms. Returns `Checked` when all is sent, `Pause`, or `Stop`.
    async fn send_probe(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
        rows: Vec<i64>,
    ) -> Result<(AfterTerm, Option<Sessions>), RelayError> {
        loop {
            let alone = !self.refusals.suspects.is_empty();
            let Some(producer) = self.producer(table, &mut sessions).await? else {
                return Ok((AfterTerm::Stop, Some(sessions)));
            };
            let term = self.term(table, producer, Some(rows.clone()));
            let term = term.run(sessions);
            let outcome = self.watched(table, term).await;
            let (next, left) = self.after(table, outcome).await?;
            match next {
                // Suspects are sent once more, alone. Those left after that are gone from the
                // table.
                AfterTerm::Checked if alone || self.refusals.suspects.is_empty() => {
                    self.refusals.suspects.clear_all();
                    return Ok((next, left));
                }
                AfterTerm::Pause | AfterTerm::Stop => return Ok((next, left)),
                _ => sessions = left.ok_or_else(lost)?,
            }
        }
    }

    /// The next rows that are not rejected, by their ids.
    async fn next_rows(
        &self,
        table: &Table,
        sessions: &mut Sessions,
        from: i64,
        most: usize,
    ) -> Result<Vec<i64>, Error> {
        let page = sessions.reader.sendable(table, (from, i64::MAX), false);
        let page = page.await?;
        let is_new = |row: &RowId| !self.refusals.rejected.contains(row);
        let rows = page.into_iter().map(|it| it.row).filter(is_new);
        Ok(rows.take(most).map(|row| row.id).collect())
    }

    /// Waits for the end of a probe batch's term. If it takes long, as while Kafka is unreachable,
    /// clears the recorded rows: a later crash is not due to them.
    async fn watched(&self, table: &Table, term: impl Future<Output = TermOutcome>) -> TermOutcome {
        let mut term = std::pin::pin!(term);
        tokio::select! {
            outcome = &mut term => return outcome,
            () = sleep(SURVIVES) => {}
        }
        let clear = async {
            let server = Server::find(&self.settings.database.url).await?;
            clear_recorded_rows(&mut Session::open(&server, "caution").await?, table).await
        };
        tokio::select! {
            outcome = &mut term => return outcome,
            cleared = clear => if let Err(error) = cleared {
                warn!(%error, "cannot clear the recorded rows of a probe batch; a crash now would be attributed to them");
            },
        }
        term.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_without_progress_lead_to_smaller_and_smaller_probes_and_to_one_row() {
        let seen = |count, rows: i64, crashes| {
            decide(&CrashCount {
                count,
                rows: (1..=rows).collect(),
                crashes,
            })
        };
        assert_eq!(seen(1, 0, 0), Start::Normal);
        assert_eq!(seen(2, 1, 5), Start::Normal);
        assert_eq!(seen(3, 0, 0), Start::Probe(100));
        assert_eq!(seen(4, 3_200, 0), Start::Probe(320));
        assert_eq!(seen(4, 100, 0), Start::Probe(10));
        assert_eq!(seen(5, 10, 0), Start::Probe(1));
        assert_eq!(seen(5, 7, 0), Start::Probe(1));
        assert_eq!(seen(6, 1, 1), Start::Probe(1), "once may be chance");
        assert_eq!(seen(7, 1, 2), Start::Without(1));
    }
}
