//! A row that ends the process, whatever way: found by the process that comes next, not by an operator.
//!
//! Each start is counted. If several in a row found the table at one and the same row, none of them got on: the next one is careful. It sends few rows at a
//! time, each lot in a term of its own, after it has written down which. What was written down when the process ended is where the culprit is: the next
//! one takes smaller lots. A row that was alone twice is convicted.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::error::RelayError;
use super::opening::Closed;
use super::run::OutboxRelay;
use super::shared::Ending;
use super::term::{Outcome, Sessions};
use crate::config::Poison;
use crate::postgres::{Convict, Error, Sent, Server, Session, Starts, Table, survived};

/// Starts at one and the same row before one is careful: the process may have been killed for other reasons.
const STARTS: i64 = 3;
/// Rows of a lot at first.
const LOT: usize = 100;
/// Each crash within a lot makes the next lots so much smaller.
const SMALLER: usize = 10;
/// A row must have been alone so often: once may be chance.
const DEATHS: i64 = 2;
/// A process that is there so long after it began to send a lot is not ended by it.
const SURVIVES: Duration = Duration::from_secs(30);

/// How the relay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caution {
    /// As ever.
    None,
    /// So many rows at a time.
    Lots(usize),
    /// Without this row.
    Without(i64),
}

/// What the starts so far say.
fn caution(starts: &Starts) -> Caution {
    match starts.rows.as_slice() {
        _ if starts.count < STARTS => Caution::None,
        [] => Caution::Lots(LOT),
        [row] if starts.deaths >= DEATHS => Caution::Without(*row),
        rows => Caution::Lots((rows.len() / SMALLER).clamp(1, LOT)),
    }
}

impl OutboxRelay {
    /// Counts this start, and where several came to nothing goes over the first rows with care. `Err` ends the relay's life as any other loss does.
    pub(super) async fn begin_with_care(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
    ) -> Result<Option<Sessions>, RelayError> {
        if std::mem::replace(&mut self.counted, true) {
            return Ok(Some(sessions));
        }
        let starts = match sessions.leader.begin().await {
            Ok(starts) => starts,
            Err(error @ Error::Lost(_)) => return Err(error.into()),
            Err(error) => {
                warn!(%error, "starts cannot be counted: a row that ended the process again and again would not be found");
                return Ok(Some(sessions));
            }
        };
        let lot = match caution(&starts) {
            Caution::None => return Ok(Some(sessions)),
            Caution::Lots(rows) => rows,
            Caution::Without(id) => {
                self.convict(&mut sessions, id, starts.deaths).await?;
                LOT
            }
        };
        warn!(
            starts = starts.count,
            rows = lot,
            "the relay was started several times and got no further: going on with few rows at a time, to find the one that ends it"
        );
        let suspected = starts.rows.last().copied().unwrap_or(i64::MIN);
        self.go_in_lots(table, sessions, lot, suspected).await
    }

    /// The row ended the process each time that it was sent alone.
    async fn convict(
        &mut self,
        sessions: &mut Sessions,
        id: i64,
        deaths: i64,
    ) -> Result<(), RelayError> {
        let there = sessions.reader.ids(id.saturating_sub(1), id, false).await?;
        let Some((row, _)) = there.into_iter().next() else {
            return Ok(());
        };
        let reason =
            format!("the process ended {deaths} times while this row was sent, and no other");
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
            "this row ends the relay: it goes to the dead letters, see `doorbell dead`"
        );
        self.counters.refused.add(1);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.refused.insert(row.id, row.created_at);
        let code = "Crash".into();
        memory.convicts.push_back(Convict { row, reason, code });
        Ok(())
    }

    /// Sends the rows that a window holds, in lots: small ones up to the last row that is suspected. `None` when the relay was stopped meanwhile.
    async fn go_in_lots(
        &mut self,
        table: &Table,
        mut sessions: Sessions,
        lot: usize,
        suspected: i64,
    ) -> Result<Option<Sessions>, RelayError> {
        let (mut after, mut passed) = (i64::MIN, 0);
        // The culprit was in a window that began with the first row, and lots are counted as it counts them.
        while passed < self.outbox.in_flight_rows {
            let most = if after < suspected { lot } else { LOT };
            let most = most.min(self.outbox.in_flight_rows);
            let rows = self.next_rows(&mut sessions, after, most).await?;
            let Some(last) = rows.last() else {
                break;
            };
            (after, passed) = (*last, passed + rows.len());
            sessions.leader.mark(&rows).await?;
            loop {
                let alone = self.has_suspects();
                let sender = match self.sender(table, &mut sessions).await {
                    Ok(sender) => sender,
                    Err(Closed::Relay(error)) => return Err(error),
                    Err(_) => {
                        sessions.leader.forget().await.ok();
                        return Ok(None);
                    }
                };
                let term = self.term(table, sender).only(rows.clone()).run(sessions);
                let Outcome {
                    ending,
                    sessions: left,
                    unsettled,
                } = self.watched(table, term).await;
                let all_sent = matches!(ending, Ending::Checked);
                match ending {
                    Ending::Checked | Ending::Drained | Ending::Producer(_) | Ending::Fenced(_) => {
                    }
                    Ending::Rebatch => self.topics.lock().await.forget(),
                    Ending::Paused => return Ok(left),
                    Ending::Stopped if unsettled > 0 => {
                        return Err(RelayError::Unsettled(unsettled));
                    }
                    Ending::Stopped => {
                        if let Some(mut left) = left {
                            left.leader.forget().await.ok();
                        }
                        return Ok(None);
                    }
                    Ending::Poison { id, reason, policy } => {
                        return Err(RelayError::Poison { id, reason, policy });
                    }
                    Ending::TableChanged => return Err(RelayError::TableChanged),
                    Ending::Session(error) | Ending::Postgres(error) => return Err(error.into()),
                }
                sessions = left.ok_or_else(|| Error::Lost("one of the relay's own".into()))?;
                // Suspects go once more, alone; after that those left are gone from the table.
                if all_sent && (alone || !self.has_suspects()) {
                    self.acquit_all();
                    break;
                }
            }
        }
        sessions.leader.forget().await?;
        info!(rows = passed, "going on as ever");
        Ok(Some(sessions))
    }

    fn has_suspects(&self) -> bool {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        !memory.suspects.is_empty()
    }

    fn acquit_all(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.suspects.clear();
    }

    /// The next rows that nobody knows, by their ids.
    async fn next_rows(
        &self,
        sessions: &mut Sessions,
        after: i64,
        most: usize,
    ) -> Result<Vec<i64>, Error> {
        let page = sessions.reader.ids(after, i64::MAX, false).await?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |row: &Sent| memory.refused.get(&row.id) != Some(&row.created_at);
        let rows = page.into_iter().map(|(row, _)| row).filter(is_new);
        Ok(rows.take(most).map(|row| row.id).collect())
    }

    /// Waits for the end of a lot's term. If it takes long (Kafka is away), its rows are beyond suspicion: whoever ends the process then convicts none.
    async fn watched(&self, table: &Table, term: impl Future<Output = Outcome>) -> Outcome {
        let mut term = std::pin::pin!(term);
        tokio::select! {
            outcome = &mut term => return outcome,
            () = sleep(SURVIVES) => {}
        }
        let clear = async {
            let server = Server::find(&self.settings.database.url).await?;
            survived(&mut Session::open(&server, "caution").await?, table).await
        };
        tokio::select! {
            outcome = &mut term => return outcome,
            cleared = clear => if let Err(error) = cleared {
                warn!(%error, "what was written down about the rows being sent cannot be taken back");
            },
        }
        term.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_come_to_nothing_lead_to_smaller_and_smaller_lots_and_to_one_row() {
        let seen = |count, rows: i64, deaths| {
            caution(&Starts {
                count,
                rows: (1..=rows).collect(),
                deaths,
            })
        };
        assert_eq!(seen(1, 0, 0), Caution::None);
        assert_eq!(seen(2, 1, 5), Caution::None);
        assert_eq!(seen(3, 0, 0), Caution::Lots(100));
        assert_eq!(seen(4, 100, 0), Caution::Lots(10));
        assert_eq!(seen(5, 10, 0), Caution::Lots(1));
        assert_eq!(seen(5, 7, 0), Caution::Lots(1));
        assert_eq!(seen(6, 1, 1), Caution::Lots(1), "once may be chance");
        assert_eq!(seen(7, 1, 2), Caution::Without(1));
    }
}
