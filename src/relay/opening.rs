//! What comes before the first transaction of a leader: every earlier producer is shut out, the last receipt is read, and the rows that it names are
//! deleted. Only then is anything fetched.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::blame::NO_ROW;
use super::error::RelayError;
use super::ledger::Ledger;
use super::once::{Action, Event, Once};
use super::term::Sessions;
use super::voice::Voice;
use crate::event::Named;
use crate::kafka::{
    CALL_PATIENCE, Producer, Receipt, Receipts, ReceiptsError, Reports, TransactionError, Trouble,
};
use crate::postgres::{Mark, Table};

/// Between two tries of what did not work.
const PAUSE: Duration = Duration::from_millis(200);
/// A healthy broker has answered by then. If it ends the transaction of a predecessor, it says "not yet", and librdkafka asks again after half a second;
/// another producer asks when the transaction is over.
const GLANCE: Duration = Duration::from_millis(100);

/// A producer that nobody has used yet, and the receipts.
pub(crate) struct Opening<'a> {
    pub(crate) table: &'a Table,
    pub(crate) producer: Arc<Producer>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) transactional_id: String,
    /// There is another producer, for the case that this one cannot begin at once.
    pub(crate) has_spare: bool,
    /// Until then it must have worked: somebody waits for the start.
    pub(crate) start_by: Option<Instant>,
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
    /// It cannot begin at once: the spare one may.
    Slow,
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
    pub(crate) async fn open(
        &self,
        sessions: &mut Sessions,
        voice: &mut Voice,
    ) -> Result<Opened, Closed> {
        let mut once = Once::standby();
        // The lock is proved by its session: whoever lost it must not shut out the next leader.
        sessions.leader.ping().await?;
        let mut action = once.on(Event::Led);
        let mut receipt = None;
        let mut cleared = (Mark::default(), Vec::new());
        let mut told = false;
        loop {
            let done = match action {
                Action::Fence => voice.during(&mut sessions.leader, self.fence()).await?,
                Action::Read => {
                    let read = voice.during(&mut sessions.leader, self.read()).await?;
                    read.map(|read| receipt = read)
                }
                Action::Clear => {
                    let what = self.clear(receipt.as_ref(), sessions, voice).await;
                    what.map(|what| cleared = what)
                }
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
                Err(Hitch::Later(reason))
                    if self.start_by.is_some_and(|by| Instant::now() >= by) =>
                {
                    let brokers = self.receipts.brokers();
                    let words = format!("{brokers} lets no transaction begin ({reason})");
                    return Err(RelayError::KafkaAway(words).into());
                }
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
        let wait = if self.has_spare {
            GLANCE
        } else {
            CALL_PATIENCE
        };
        match self.call(move |it| it.init_transactions(wait)).await {
            Err(Hitch::Later(_)) if self.has_spare => Err(Hitch::Closed(Closed::Slow)),
            done => done,
        }
    }

    /// Makes the topic of the receipts if it is not there, commits a barrier and reads the last receipt before it.
    async fn read(&self) -> Result<Option<Receipt>, Hitch> {
        let receipts = Arc::clone(&self.receipts);
        let prepared = spawn_blocking(move || Handle::current().block_on(receipts.prepare()));
        prepared.await.map_err(defect)??;
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
                // Where the partition could not be added, the record comes back without a reason, and the producer has it.
                self.call(Producer::is_healthy).await?;
                if let Some(error) = self.receipts.refused(Some(*code)) {
                    return Err(error.into());
                }
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
            match self.call(|it| it.commit(CALL_PATIENCE)).await {
                Err(Hitch::Later(_)) if !self.stop.is_cancelled() => {}
                other => return other,
            }
        }
    }

    /// Runs a call of the producer, which blocks.
    async fn call(
        &self,
        call: impl FnOnce(&Producer) -> Result<(), TransactionError> + Send + 'static,
    ) -> Result<(), Hitch> {
        let producer = Arc::clone(&self.producer);
        let done = spawn_blocking(move || call(&producer)).await;
        done.map_err(defect)?.map_err(|error| self.judge(error))
    }

    fn judge(&self, error: TransactionError) -> Hitch {
        // Nothing but barriers is sent from here.
        if let Some(refused) = self.receipts.refused(error.code) {
            return refused.into();
        }
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
    pub(super) async fn receive<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Receipts, &dyn Fn() -> bool) -> Result<T, ReceiptsError> + Send + 'static,
    ) -> Result<T, Hitch> {
        let receipts = Arc::clone(&self.receipts);
        let unwanted = CancellationToken::new();
        // Also where nobody waits for it any more.
        let guard = unwanted.clone().drop_guard();
        let mut work = spawn_blocking(move || read(&receipts, &|| !unwanted.is_cancelled()));
        let done = tokio::select! {
            done = &mut work => done,
            () = self.stop.cancelled() => {
                drop(guard);
                work.await
            }
        };
        Ok(done.map_err(defect)??)
    }
}

/// Why a step is not done.
pub(super) enum Hitch {
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
            ReceiptsError::Config(_)
            | ReceiptsError::Wrong { .. }
            | ReceiptsError::Forbidden { .. } => Self::Closed(Closed::Relay(error.into())),
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
