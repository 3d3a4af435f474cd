//! Recovery before the first transaction of a leader: it fences every earlier producer, reads the
//! last receipt, and deletes the rows that the receipt lists. Nothing is fetched before that.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::attribution::NO_ROW;
use super::progress::Progress;
use super::protocol::{Input, NextStep, Protocol};
use crate::event::ReceiptRow;
use crate::kafka::{
    CALL_PATIENCE, Goals, Producer, Receipt, Receipts, ReceiptsError, Reports, TransactionError,
    TransactionErrorKind,
};
use crate::postgres::{ReceiptPosition, Table};
use crate::relay::election::Heartbeat;
use crate::relay::error::RelayError;
use crate::relay::sessions::Sessions;

/// The pause between two tries of a step.
const PAUSE: Duration = Duration::from_millis(200);
/// A healthy broker answers within this time. While it ends the transaction of a predecessor it
/// answers "not yet", and librdkafka asks again after half a second. A second producer asks when
/// the transaction is over.
const GLANCE: Duration = Duration::from_millis(100);

/// An unused producer, and the receipts.
pub(crate) struct Recovery<'a> {
    pub(crate) table: &'a Table,
    pub(crate) producer: Arc<Producer>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) transactional_id: String,
    /// Whether database and receipts are compared before anything is fenced. A refused relay may
    /// start again and again, and another one may use the id.
    pub(crate) compares_first: bool,
    /// Whether a second producer can take over if this one cannot begin at once.
    pub(crate) has_spare: bool,
    /// The time by which recovery has to succeed, if the start is limited.
    pub(crate) start_by: Option<Instant>,
    pub(crate) stop: CancellationToken,
    /// Kept over the tries.
    pub(crate) goals: Arc<Mutex<Goals>>,
}

/// A leader that may send rows.
pub(crate) struct Recovered {
    pub(crate) protocol: Protocol,
    pub(crate) progress: Arc<Progress>,
    /// Rows that were sent and cannot be deleted yet, because another session has locked them.
    pub(crate) carried: Vec<ReceiptRow>,
}

/// Why a leader may not send rows.
pub(crate) enum RecoveryError {
    /// The relay was asked to stop.
    Stopped,
    /// The producer failed; a new one may succeed.
    Producer(String),
    /// Another producer fenced this one.
    Fenced(String),
    /// This producer cannot begin at once; the second one may.
    Slow,
    /// An error that a new producer would not cure.
    Relay(RelayError),
}

impl<E: Into<RelayError>> From<E> for RecoveryError {
    fn from(error: E) -> Self {
        Self::Relay(error.into())
    }
}

impl Recovery<'_> {
    /// Takes the steps of the protocol. The sessions stay usable unless one of them is lost.
    pub(crate) async fn open(
        &self,
        sessions: &mut Sessions,
        heartbeat: &mut Heartbeat,
    ) -> Result<Recovered, RecoveryError> {
        let mut protocol = Protocol::standby();
        // The session has to prove that it holds the lock: a relay that lost it must not fence the
        // next leader.
        sessions.leader.session.ping().await?;
        if self.compares_first
            && let Err(StepError::Final(closed)) = self.compare(sessions, heartbeat).await
        {
            return Err(closed);
        }
        let mut action = protocol.on(Input::Led);
        let mut receipt = None;
        let mut cleared = (ReceiptPosition::default(), Vec::new());
        let mut told = false;
        loop {
            let done = match action {
                NextStep::Fence => heartbeat.during(&mut sessions.leader, self.fence()).await?,
                NextStep::Read => {
                    let read = heartbeat.during(&mut sessions.leader, self.read()).await?;
                    read.map(|read| receipt = read)
                }
                NextStep::Clear => {
                    let what = self.clear(receipt.as_ref(), sessions, heartbeat).await;
                    what.map(|what| cleared = what)
                }
                NextStep::Await => break,
                NextStep::Send
                | NextStep::Commit
                | NextStep::Delete
                | NextStep::Abort
                | NextStep::Renew => {
                    return Err(RecoveryError::Producer("the steps are out of order".into()));
                }
            };
            if self.stop.is_cancelled() {
                return Err(RecoveryError::Stopped);
            }
            let event = match done {
                Ok(()) => Input::Done,
                Err(StepError::Final(closed)) => return Err(closed),
                Err(StepError::Retry(reason))
                    if self.start_by.is_some_and(|by| Instant::now() >= by) =>
                {
                    let brokers = self.receipts.brokers();
                    let words = format!("{brokers} lets no transaction begin ({reason})");
                    return Err(RelayError::KafkaAway(words).into());
                }
                Err(StepError::Retry(reason)) => {
                    if !told {
                        warn!(
                            error = reason,
                            "waiting until Kafka allows transactions; rows stay in the table"
                        );
                        told = true;
                    }
                    sleep(PAUSE).await;
                    Input::Again
                }
            };
            action = protocol.on(event);
        }
        let (position, carried) = cleared;
        Ok(Recovered {
            protocol,
            progress: Arc::new(Progress::begin(position)),
            carried,
        })
    }

    async fn fence(&self) -> Result<(), StepError> {
        let wait = if self.has_spare {
            GLANCE
        } else {
            CALL_PATIENCE
        };
        match self.call(move |it| it.init_transactions(wait)).await {
            Err(StepError::Retry(_)) if self.has_spare => {
                Err(StepError::Final(RecoveryError::Slow))
            }
            done => done,
        }
    }

    /// Creates the topic of the receipts if it is missing, commits a barrier, and reads the last
    /// receipt before it.
    async fn read(&self) -> Result<Option<Receipt>, StepError> {
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
        let read = move |receipts: &Receipts, wanted: &dyn Fn() -> bool| {
            receipts.last_before(Some(&token), wanted)
        };
        Ok(self.receive(read).await?.0)
    }

    async fn commit_barrier(&self, token: &str) -> Result<(), StepError> {
        self.call(Producer::begin).await?;
        self.receipts
            .send_barrier(&self.producer, token, NO_ROW)
            .map_err(|error| StepError::Final(RecoveryError::Producer(error.to_string())))?;
        loop {
            let came = self.reports.take();
            if let Some((_, code)) = came.failed.first() {
                // If the partition could not be added, the record is returned without a reason, and
                // the producer has the reason.
                self.call(Producer::is_healthy).await?;
                if let Some(error) = self.receipts.refused(Some(*code)) {
                    return Err(error.into());
                }
                return Err(StepError::Final(RecoveryError::Producer(format!(
                    "a record in topic {} was refused: {code}",
                    self.receipts.topic()
                ))));
            }
            if !came.acknowledged.is_empty() {
                break;
            }
            tokio::select! {
                () = self.reports.arrived() => {}
                () = self.stop.cancelled() => return Err(StepError::Final(RecoveryError::Stopped)),
                () = sleep(PAUSE) => self.call(Producer::is_healthy).await?,
            }
        }
        loop {
            match self.call(|it| it.commit(CALL_PATIENCE)).await {
                Err(StepError::Retry(_)) if !self.stop.is_cancelled() => {}
                other => return other,
            }
        }
    }

    /// Runs a blocking call of the producer.
    async fn call(
        &self,
        call: impl FnOnce(&Producer) -> Result<(), TransactionError> + Send + 'static,
    ) -> Result<(), StepError> {
        let producer = Arc::clone(&self.producer);
        let done = spawn_blocking(move || call(&producer)).await;
        done.map_err(defect)?.map_err(|error| self.judge(error))
    }

    fn judge(&self, error: TransactionError) -> StepError {
        // Recovery sends only barriers.
        if let Some(refused) = self.receipts.refused(error.code) {
            return refused.into();
        }
        let id = self.transactional_id.clone();
        match error.kind {
            TransactionErrorKind::Retry => StepError::Retry(error.reason),
            TransactionErrorKind::Abort | TransactionErrorKind::Unknown => {
                StepError::Final(RecoveryError::Producer(error.reason))
            }
            TransactionErrorKind::Fenced => StepError::Final(RecoveryError::Fenced(error.reason)),
            TransactionErrorKind::Forbidden => {
                StepError::Final(RecoveryError::Relay(RelayError::Forbidden {
                    id,
                    reason: error.reason,
                }))
            }
            TransactionErrorKind::Unsupported => StepError::Final(RecoveryError::Relay(
                RelayError::NoTransactions(error.reason),
            )),
            TransactionErrorKind::TooLong => {
                StepError::Final(RecoveryError::Relay(RelayError::ShortTransactions))
            }
        }
    }

    /// Runs a blocking read, which checks now and then whether its result is still wanted.
    pub(super) async fn receive<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Receipts, &dyn Fn() -> bool) -> Result<T, ReceiptsError> + Send + 'static,
    ) -> Result<T, StepError> {
        let receipts = Arc::clone(&self.receipts);
        let unwanted = CancellationToken::new();
        // It also fires when this future is dropped.
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

/// Why a step failed.
pub(super) enum StepError {
    /// The step may be tried again.
    Retry(String),
    /// The step may not be tried again.
    Final(RecoveryError),
}

impl From<ReceiptsError> for StepError {
    fn from(error: ReceiptsError) -> Self {
        match error {
            ReceiptsError::Unreachable { .. } => Self::Retry(error.to_string()),
            ReceiptsError::Cancelled => Self::Final(RecoveryError::Stopped),
            ReceiptsError::Config(_)
            | ReceiptsError::Unusable { .. }
            | ReceiptsError::Forbidden { .. } => Self::Final(RecoveryError::Relay(error.into())),
        }
    }
}

impl From<crate::postgres::Error> for StepError {
    fn from(error: crate::postgres::Error) -> Self {
        Self::Final(RecoveryError::Relay(error.into()))
    }
}

fn defect(panic: tokio::task::JoinError) -> StepError {
    StepError::Final(RecoveryError::Relay(RelayError::Defect(panic.to_string())))
}
