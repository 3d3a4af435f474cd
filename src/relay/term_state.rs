//! What the three stages of a term share, and how one of them ends the term for all.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::kafka::Reports;
use crate::postgres::Error;
use crate::relay::clock::{micros, unix_micros};
use crate::relay::error::RelayError;
use crate::relay::in_flight::{Moment, Ticket, Window};
use crate::relay::monitor::Monitor;
use crate::relay::observer::{Observer, Step};
use crate::sync::lock;

/// Why a term is over.
#[derive(Debug)]
pub(crate) enum TermEnd {
    /// The relay was asked to stop. Rows in flight are settled.
    Stopped,
    /// An operator paused the outbox. Rows in flight are settled.
    Paused,
    /// The relay was to drain the table, and has read all of it. Rows in flight are settled.
    Drained,
    /// Rows are to be sent again in other batches. Rows in flight are settled.
    Rebatch,
    /// The few rows that this term was for were sent, and are settled.
    Checked,
    /// Kafka can never take a row, and the policy is to stop. Rows in flight are settled.
    Poison {
        id: i64,
        /// Kafka's reason.
        reason: String,
        /// Why no other row is sent.
        policy: String,
    },
    /// The table's name now stands for another table, or for none.
    TableChanged,
    Producer(String),
    /// Another producer uses the same transactional id.
    Fenced(String),
    /// No broker was reachable for long, and a standby that reaches one waits for the lock.
    Yielded(String),
    /// The session that fetches or the one that listens is lost or refused. Rows in flight are
    /// settled on the leader's session.
    Session(Error),
    /// The leader's session is lost, and the lock with it.
    Postgres(Error),
}

/// What follows a term whose end is no error.
#[derive(Debug)]
pub(crate) enum AfterTerm {
    Stop,
    Drained,
    Pause,
    Rebatch,
    Checked,
    NewProducer(String),
    Fenced(String),
}

impl TermEnd {
    /// Separates the ends after which the relay goes on or stops in order from those that are
    /// errors. `unsettled`: rows in flight at the end.
    pub(crate) fn into_next(self, unsettled: usize) -> Result<AfterTerm, RelayError> {
        match self {
            Self::Stopped | Self::Drained if unsettled > 0 => Err(RelayError::Unsettled(unsettled)),
            Self::Stopped => Ok(AfterTerm::Stop),
            Self::Drained => Ok(AfterTerm::Drained),
            Self::Paused => Ok(AfterTerm::Pause),
            Self::Rebatch => Ok(AfterTerm::Rebatch),
            Self::Checked => Ok(AfterTerm::Checked),
            Self::Producer(reason) => Ok(AfterTerm::NewProducer(reason)),
            Self::Fenced(reason) => Ok(AfterTerm::Fenced(reason)),
            Self::Poison { id, reason, policy } => Err(RelayError::Poison { id, reason, policy }),
            Self::TableChanged => Err(RelayError::TableChanged),
            Self::Yielded(reason) => Err(RelayError::KafkaAway(reason)),
            Self::Session(error) | Self::Postgres(error) => Err(error.into()),
        }
    }

    /// Whether rows in flight can still be settled.
    fn settles(&self) -> bool {
        !matches!(
            self,
            Self::TableChanged
                | Self::Producer(_)
                | Self::Fenced(_)
                | Self::Yielded(_)
                | Self::Postgres(_)
        )
    }
}

pub(crate) struct TermState {
    pub(crate) reports: Arc<Reports>,
    /// Notified when a row left the window: there may be room.
    pub(crate) room: Notify,
    /// Notified when a route dropped a row, which is to be deleted.
    pub(crate) dropped: Notify,
    /// Cancelled: no new fetch.
    pub(crate) halt: CancellationToken,
    /// Cancelled: everything is left as it is.
    pub(crate) abandon: CancellationToken,
    /// Cancelled when the third stage is done: the producer is not needed any more.
    pub(crate) done: CancellationToken,
    /// Notified when a key began to wait or became free, which concerns the first stage.
    pub(crate) held: Notify,
    /// Rows before this one have left the second stage, for the producer or given up.
    published: AtomicUsize,
    /// A notification announced rows, and the fetch that answers it is running.
    pub(crate) coming: watch::Sender<bool>,
    /// The next term makes smaller batches.
    pub(crate) makes_smaller: AtomicBool,
    /// The first stage has read the whole table once.
    pub(crate) caught_up: AtomicBool,
    /// Rows that were in flight when the producer failed.
    given_up: AtomicUsize,
    /// How long a commit takes that waits for the disk, in microseconds; 0: not measured yet.
    commit: AtomicU64,
    begun: Instant,
    window: Mutex<Window>,
    ending: Mutex<Option<TermEnd>>,
}

impl TermState {
    pub(crate) fn new(window: Window, reports: Arc<Reports>) -> Self {
        Self {
            reports,
            room: Notify::new(),
            dropped: Notify::new(),
            halt: CancellationToken::new(),
            abandon: CancellationToken::new(),
            done: CancellationToken::new(),
            held: Notify::new(),
            published: AtomicUsize::new(0),
            coming: watch::Sender::new(false),
            makes_smaller: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            commit: AtomicU64::new(0),
            begun: Instant::now(),
            window: Mutex::new(window),
            ending: Mutex::new(None),
        }
    }

    /// Locks the window. The lock is held for moments, never over an await.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        let mut window = lock(&self.window);
        window.tick(Moment {
            run: micros(self.begun.elapsed()),
            unix: unix_micros(SystemTime::now()),
        });
        window
    }

    /// Notes that the second stage is done with the rows before this one.
    pub(crate) fn published(&self, next: Ticket) {
        self.published.store(next, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Whether every fetched row has left the second stage.
    pub(crate) fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire) >= self.window().next_ticket()
    }

    /// Notes that all rows in flight are given up, because the producer failed.
    pub(crate) fn give_up(&self) {
        let rows = self.window().unacknowledged();
        self.given_up.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    pub(crate) fn measured_commit(&self, took: Duration) {
        self.commit.store(micros(took).max(1), Ordering::Relaxed);
    }

    pub(crate) fn commit(&self) -> Option<Duration> {
        let micros = self.commit.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Ends the term. The first reason counts, except that a loss overrides an orderly end, and
    /// every other reason overrides a pause or a drained table.
    pub(crate) fn end(&self, ending: TermEnd) {
        let mut current = lock(&self.ending);
        let settles = ending.settles();
        let is_worse = |current: &TermEnd| match (current, &ending) {
            // The pause or the drained table is found again by the next term.
            (TermEnd::Paused | TermEnd::Drained, _) => true,
            // A lost session leaves less than a lost producer.
            (
                TermEnd::Producer(_) | TermEnd::Fenced(_) | TermEnd::Yielded(_),
                TermEnd::Postgres(_),
            ) => true,
            (current, _) => current.settles() && !settles,
        };
        if current.as_ref().is_none_or(is_worse) {
            *current = Some(ending);
        }
        drop(current);
        self.halt.cancel();
        if !settles {
            self.abandon.cancel();
        }
    }

    pub(crate) fn is_producer_lost(&self) -> bool {
        let ending = lock(&self.ending);
        matches!(
            *ending,
            Some(TermEnd::Producer(_) | TermEnd::Fenced(_) | TermEnd::Yielded(_))
        )
    }

    /// Whether the term ends because a session other than the leader's is lost.
    pub(crate) fn lost_a_session(&self) -> bool {
        matches!(*lock(&self.ending), Some(TermEnd::Session(_)))
    }

    pub(crate) fn take_end(&self) -> Option<TermEnd> {
        lock(&self.ending).take()
    }
}

/// Where the stages report: the relay's monitor, and the outbox's observer if there is one.
pub(crate) struct Counters {
    monitor: Arc<Monitor>,
    observer: Option<Arc<dyn Observer>>,
}

impl Counters {
    pub(crate) fn new(monitor: Arc<Monitor>, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { monitor, observer }
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// Reports that rows passed a station.
    pub(crate) fn passed(&self, step: Step, ids: &mut dyn Iterator<Item = i64>, at: Instant) {
        if let Some(observer) = &self.observer {
            observer.passed(step, ids, at);
        }
    }
}

impl Deref for Counters {
    type Target = Monitor;

    fn deref(&self) -> &Monitor {
        &self.monitor
    }
}
