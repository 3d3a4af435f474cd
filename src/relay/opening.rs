//! What comes before the first transaction of a leader: every earlier producer is shut out, the last receipt is read, and the rows that it names are
//! deleted. Only then is anything fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::blame::NO_ROW;
use super::error::RelayError;
use super::ledger::Ledger;
use super::once::{Action, Event, Once};
use super::term::Sessions;
use crate::event::Named;
use crate::kafka::{
    Producer, Receipt, Receipts, ReceiptsError, Reports, TransactionError, Trouble,
};
use crate::postgres::{Ask, Commit, Mark, Sent, Table};

/// Between two tries of what did not work.
const PAUSE: Duration = Duration::from_millis(200);
/// Rows of one look for those that a receipt names, and bytes.
const LOOK_ROWS: usize = 4_000;
const LOOK_BYTES: usize = 4 << 20;
/// Ranges of ids of one look.
const LOOK_RANGES: usize = 1_000;

/// A producer that nobody has used yet, and the receipts.
pub(crate) struct Opening<'a> {
    pub(crate) table: &'a Table,
    pub(crate) producer: Arc<Producer>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) transactional_id: String,
    pub(crate) stop: CancellationToken,
}

/// A leader that may send.
pub(crate) struct Opened {
    pub(crate) once: Once,
    pub(crate) ledger: Arc<Ledger>,
    /// Rows that are sent and cannot be deleted now, since somebody holds them locked.
    pub(crate) carried: Vec<Named>,
}

/// Why it may not.
pub(crate) enum Closed {
    /// It was asked to stop.
    Stopped,
    /// The producer is of no more use: the same with a new one.
    Producer(String),
    /// Another producer has shut this one out.
    Fenced(String),
    /// Nothing that a new producer would cure.
    Relay(RelayError),
}

impl<E: Into<RelayError>> From<E> for Closed {
    fn from(error: E) -> Self {
        Self::Relay(error.into())
    }
}

impl Opening<'_> {
    /// Goes through the steps. The sessions stay good unless one of them is lost.
    pub(crate) async fn open(&self, sessions: &mut Sessions) -> Result<Opened, Closed> {
        let mut once = Once::standby();
        // The lock is proved by its session: whoever lost it must not shut out the next leader.
        sessions.leader.ping().await?;
        let mut action = once.on(Event::Led);
        let mut receipt = None;
        let mut cleared = (Mark::default(), Vec::new());
        let mut told = false;
        loop {
            let done = match action {
                Action::Fence => self.fence().await,
                Action::Read => match self.read().await {
                    Ok(read) => {
                        receipt = read;
                        Ok(())
                    }
                    Err(trouble) => Err(trouble),
                },
                Action::Clear => match self.clear(receipt.as_ref(), sessions).await {
                    Ok(what) => {
                        cleared = what;
                        Ok(())
                    }
                    Err(trouble) => Err(trouble),
                },
                Action::Await => break,
                Action::Send | Action::Commit | Action::Delete | Action::Abort | Action::Renew => {
                    return Err(Closed::Producer("the steps are out of order".into()));
                }
            };
            if self.stop.is_cancelled() {
                return Err(Closed::Stopped);
            }
            let event = match done {
                Ok(()) => Event::Done,
                Err(Hitch::Closed(closed)) => return Err(closed),
                Err(Hitch::Later(reason)) => {
                    if !told {
                        warn!(
                            error = reason,
                            "waiting for the transactions of Kafka: rows stay in the table"
                        );
                        told = true;
                    }
                    sleep(PAUSE).await;
                    Event::Again
                }
            };
            action = once.on(event);
        }
        let (mark, carried) = cleared;
        Ok(Opened {
            once,
            ledger: Arc::new(Ledger::begin(mark)),
            carried,
        })
    }

    async fn fence(&self) -> Result<(), Hitch> {
        let receipts = Arc::clone(&self.receipts);
        let prepared = spawn_blocking(move || Handle::current().block_on(receipts.prepare()));
        prepared.await.map_err(defect)??;
        self.call(Producer::init_transactions).await
    }

    /// Commits a barrier and reads the last receipt before it.
    async fn read(&self) -> Result<Option<Receipt>, Hitch> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let token = format!(
            "{} {}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        );
        self.commit_barrier(&token).await?;
        self.receive(move |receipts, wanted| receipts.last_before(&token, wanted))
            .await
    }

    async fn commit_barrier(&self, token: &str) -> Result<(), Hitch> {
        self.call(Producer::begin).await?;
        self.receipts
            .send_barrier(&self.producer, token, NO_ROW)
            .map_err(|error| Hitch::Closed(Closed::Producer(error.to_string())))?;
        loop {
            let came = self.reports.take();
            if let Some((_, code)) = came.failed.first() {
                return Err(Hitch::Closed(Closed::Producer(format!(
                    "a record in topic {} was refused: {code}",
                    self.receipts.topic()
                ))));
            }
            if !came.acknowledged.is_empty() {
                break;
            }
            tokio::select! {
                () = self.reports.arrived() => {}
                () = self.stop.cancelled() => return Err(Hitch::Closed(Closed::Stopped)),
                () = sleep(PAUSE) => self.call(Producer::is_healthy).await?,
            }
        }
        loop {
            match self.call(Producer::commit).await {
                Err(Hitch::Later(_)) if !self.stop.is_cancelled() => {}
                other => return other,
            }
        }
    }

    /// Deletes what the receipt names, after it was compared with what the database knows.
    async fn clear(
        &self,
        receipt: Option<&Receipt>,
        sessions: &mut Sessions,
    ) -> Result<(Mark, Vec<Named>), Hitch> {
        let (known, accepted) = sessions.leader.known_receipt().await?.unwrap_or_default();
        let sent = Mark {
            receipt: receipt.map_or(0, |receipt| receipt.number as i64),
            deletes: receipt.map_or(0, |receipt| receipt.deletes as i64),
        };
        if let Some(problem) = disagreement(known, sent) {
            if !accepted {
                return Err(Hitch::Closed(Closed::Relay(RelayError::Receipts {
                    table: self.table.quoted.clone(),
                    topic: self.receipts.topic().to_owned(),
                    problem,
                })));
            }
            warn!(
                problem,
                receipt = sent.receipt,
                "going on with the receipts that are there, as `doorbell receipts accept` has asked for"
            );
        }
        let mut mark = Mark {
            receipt: sent.receipt,
            deletes: known.deletes.max(sent.deletes) + 1,
        };
        sessions.leader.commit_durably().await?;
        let named = receipt.map_or(&[][..], |receipt| &receipt.rows);
        let left = find(sessions, named).await?;
        let mut carried = Vec::new();
        if !left.is_empty() {
            let topics = receipt.map_or(Vec::new(), |receipt| receipt.topics.clone());
            self.receive(move |receipts, wanted| receipts.await_stable(&topics, wanted))
                .await?;
        }
        // Only now: until then whoever starts anew has to find what this one has found.
        sessions.leader.set_mark(mark).await?;
        if !left.is_empty() {
            mark.deletes += 1;
            let mut rows: Vec<Sent> = left
                .iter()
                .map(|row| Sent {
                    id: row.id,
                    created_at: row.created_at,
                })
                .collect();
            let unique = self.table.id_is_unique;
            let commit = Commit::Marked(mark);
            let deleted = sessions.leader.delete(&mut rows, unique, commit).await?;
            info!(
                rows = deleted.rows,
                locked = deleted.locked.len(),
                receipt = sent.receipt,
                "deleted what an earlier relay had sent"
            );
            carried.extend(
                left.into_iter()
                    .filter(|row| deleted.locked.contains(&row.id)),
            );
        }
        Ok((mark, carried))
    }

    /// Runs a call of the producer, which blocks.
    async fn call(&self, call: fn(&Producer) -> Result<(), TransactionError>) -> Result<(), Hitch> {
        let producer = Arc::clone(&self.producer);
        let done = spawn_blocking(move || call(&producer)).await;
        done.map_err(defect)?.map_err(|error| self.judge(error))
    }

    fn judge(&self, error: TransactionError) -> Hitch {
        let id = self.transactional_id.clone();
        match error.trouble {
            Trouble::Again => Hitch::Later(error.reason),
            Trouble::Abort | Trouble::Lost => Hitch::Closed(Closed::Producer(error.reason)),
            Trouble::Fenced => Hitch::Closed(Closed::Fenced(error.reason)),
            Trouble::Forbidden => Hitch::Closed(Closed::Relay(RelayError::Forbidden {
                id,
                reason: error.reason,
            })),
            Trouble::TooOld => {
                Hitch::Closed(Closed::Relay(RelayError::NoTransactions(error.reason)))
            }
        }
    }

    /// Runs something that reads, which blocks and looks now and then whether it is still wanted.
    async fn receive<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Receipts, &dyn Fn() -> bool) -> Result<T, ReceiptsError> + Send + 'static,
    ) -> Result<T, Hitch> {
        let receipts = Arc::clone(&self.receipts);
        let wanted = Arc::new(AtomicBool::new(true));
        let is_wanted = Arc::clone(&wanted);
        let mut work =
            spawn_blocking(move || read(&receipts, &|| is_wanted.load(Ordering::Relaxed)));
        let done = tokio::select! {
            done = &mut work => done,
            () = self.stop.cancelled() => {
                wanted.store(false, Ordering::Relaxed);
                work.await
            }
        };
        Ok(done.map_err(defect)??)
    }
}

/// Why a step is not done.
enum Hitch {
    /// It may be tried again.
    Later(String),
    /// It may not.
    Closed(Closed),
}

impl From<ReceiptsError> for Hitch {
    fn from(error: ReceiptsError) -> Self {
        match error {
            ReceiptsError::Away { .. } => Self::Later(error.to_string()),
            ReceiptsError::GivenUp => Self::Closed(Closed::Stopped),
            ReceiptsError::Config(_) | ReceiptsError::Wrong { .. } => {
                Self::Closed(Closed::Relay(error.into()))
            }
        }
    }
}

impl From<crate::postgres::Error> for Hitch {
    fn from(error: crate::postgres::Error) -> Self {
        Self::Closed(Closed::Relay(error.into()))
    }
}

fn defect(panic: tokio::task::JoinError) -> Hitch {
    Hitch::Closed(Closed::Relay(RelayError::Defect(panic.to_string())))
}

/// Why the database and the receipts cannot belong together; nothing where they do. Deletes follow their receipts, so the database may be behind in
/// receipts and ahead in deletes, and no other way round.
fn disagreement(database: Mark, receipts: Mark) -> Option<&'static str> {
    if database.deletes < receipts.deletes {
        Some(
            "the database is behind its receipts: it was restored, or lost its last transactions in a failover, and rows that were sent may be back in the table",
        )
    } else if database.receipt > receipts.receipt {
        Some(
            "the receipts are behind their database: their topic was deleted, made anew, or is another one, and rows that were sent may still be in the table",
        )
    } else {
        None
    }
}

/// Which of the rows are in the table: the very same, by what is in them.
async fn find(sessions: &mut Sessions, named: &[Named]) -> crate::postgres::Result<Vec<Named>> {
    let mut found = Vec::new();
    let ranges = ranges(named);
    for ranges in ranges.chunks(LOOK_RANGES) {
        let mut ranges = ranges.to_vec();
        while !ranges.is_empty() {
            let ask = Ask {
                after: i64::MAX,
                gaps: &ranges,
                rows: LOOK_ROWS,
                bytes: LOOK_BYTES,
            };
            let batch = sessions.reader.fetch(&ask).await?;
            let Some(last) = batch.heads().last().map(|head| head.id) else {
                break;
            };
            let rows = batch.events().map(|event| event.named());
            found.extend(rows.filter(|row| named.binary_search(row).is_ok()));
            // Where ids are not unique, two rows with the last one may be cut apart: it is looked at once more.
            let next = match last > ranges[0].0 {
                true => Some(last),
                false => last.checked_add(1),
            };
            ranges.retain(|range| next.is_some_and(|next| range.1 >= next));
            if let (Some(first), Some(next)) = (ranges.first_mut(), next) {
                first.0 = first.0.max(next);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    debug!(
        named = named.len(),
        left = found.len(),
        "rows of the last receipt"
    );
    Ok(found)
}

/// Closed ranges of consecutive ids, ascending.
fn ranges(named: &[Named]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for row in named {
        match ranges.last_mut() {
            Some(range) if row.id <= range.1.saturating_add(1) => range.1 = row.id,
            _ => ranges.push((row.id, row.id)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(receipt: i64, deletes: i64) -> Mark {
        Mark { receipt, deletes }
    }

    #[test]
    fn the_database_may_be_behind_in_receipts_and_ahead_in_deletes_only() {
        assert_eq!(disagreement(mark(0, 0), mark(0, 0)), None);
        assert_eq!(disagreement(mark(7, 9), mark(7, 9)), None);
        // Its last deletes are not made yet, or were made after the last receipt was sent.
        assert_eq!(disagreement(mark(6, 9), mark(8, 9)), None);
        assert_eq!(disagreement(mark(8, 10), mark(8, 9)), None);
        let restored = disagreement(mark(7, 8), mark(8, 9)).expect("a problem");
        assert!(restored.contains("restored"), "{restored}");
        let recreated = disagreement(mark(7, 8), mark(0, 0)).expect("a problem");
        assert!(recreated.contains("made anew"), "{recreated}");
        let never = disagreement(mark(0, 0), mark(3, 2)).expect("a problem");
        assert!(never.contains("restored"), "{never}");
    }

    #[test]
    fn ids_are_looked_for_in_ranges() {
        let named = |ids: &[i64]| -> Vec<Named> {
            let row = |id: &i64| Named {
                id: *id,
                created_at: 1,
                hash: 2,
            };
            ids.iter().map(row).collect()
        };
        let ids = [1, 2, 2, 3, 5, i64::MAX - 1, i64::MAX];
        let expected = [(1, 3), (5, 5), (i64::MAX - 1, i64::MAX)];
        assert_eq!(ranges(&named(&ids)), expected);
        assert_eq!(ranges(&[]), []);
    }
}
