//! What the three stages of a term share, and how one of them ends it for all.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::observer::{Observer, Step};
use super::traces::Traces;
use super::vitals::{Vitals, micros, unix_micros};
use super::window::{Moment, Ticket, Window};
use crate::kafka::Reports;
use crate::postgres::{Convict, Error, Sent};

/// Each session that only listens or holds a lock is asked this often whether it is still there: the bound on how long the relay can be deaf without
/// knowing it.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// When the sessions that only listen or hold a lock are asked whether they are still there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings(Duration);

/// The sessions that are asked. They take turns, so that a server that vanished is noticed by one of them in a third of the time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Bell = 1,
    Key = 2,
    Leader = 3,
}

impl Pings {
    /// Often enough that a standby hears of a leader that lives twice before it takes it for frozen.
    pub(crate) fn within(leader_timeout: Duration) -> Self {
        Self(PING_INTERVAL.min(leader_timeout / 2))
    }

    /// The time between two of a session.
    pub(crate) fn interval(self) -> Duration {
        self.0
    }

    /// The first of a session after a term has begun.
    pub(crate) fn first(self, asked: Asked) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.0 / 3 * asked as u32
    }
}

/// Why a term is over.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Somebody asked the relay to stop; what was in flight is settled.
    Stopped,
    /// Somebody paused the outbox; what was in flight is settled.
    Paused,
    /// The relay was to drain the table, and has read all of it; what was in flight is settled.
    Drained,
    /// Rows are to be sent again with other batches; what was in flight is settled.
    Rebatch,
    /// The few rows that this term was for were sent; what was in flight is settled.
    Checked,
    /// A row can never be taken, and the policy is to stop; what was in flight is settled.
    Poison {
        /// The row's id.
        id: i64,
        /// What Kafka said.
        reason: String,
        /// Why the others do not go on.
        policy: String,
    },
    /// The name of the table stands for another table now, or for none.
    TableChanged,
    /// The producer is of no more use.
    Producer(String),
    /// Another producer uses our transactional id.
    Fenced(String),
    /// The session that fetches or the one that listens is lost or refused; what is in flight is settled on the leader's.
    Session(Error),
    /// The leader's session is lost, and the lock with it.
    Postgres(Error),
}

impl Ending {
    /// Whether what is in flight can still be settled.
    fn settles(&self) -> bool {
        matches!(
            self,
            Self::Paused
                | Self::Drained
                | Self::Stopped
                | Self::Rebatch
                | Self::Checked
                | Self::Poison { .. }
                | Self::Session(_)
        )
    }
}

/// One term: from becoming ready to send, until stop, loss or rebuild.
pub(crate) struct Shared {
    pub(crate) reports: Arc<Reports>,
    /// Somewhere a row left the window: there may be room.
    pub(crate) room: Notify,
    /// No new fetch.
    pub(crate) halt: CancellationToken,
    /// Leave everything as it is.
    pub(crate) abandon: CancellationToken,
    /// The third stage is done: nobody waits for the producer any more.
    pub(crate) done: CancellationToken,
    /// A key began to wait, or may go on: the first stage has to look after it.
    pub(crate) held: Notify,
    /// Rows before this one have left the second stage: they are with the producer, or given up.
    published: AtomicUsize,
    /// A ring announced rows, and the fetch that answers it is under way.
    pub(crate) coming: watch::Sender<bool>,
    /// The first stage has read the whole table once.
    pub(crate) caught_up: AtomicBool,
    /// What a commit takes that waits for the disk, in microseconds; 0: not measured yet.
    commit: AtomicU64,
    begun: Instant,
    window: Mutex<Window>,
    ending: Mutex<Option<Ending>>,
}

impl Shared {
    pub(crate) fn new(window: Window, reports: Arc<Reports>) -> Self {
        Self {
            reports,
            room: Notify::new(),
            halt: CancellationToken::new(),
            abandon: CancellationToken::new(),
            done: CancellationToken::new(),
            held: Notify::new(),
            published: AtomicUsize::new(0),
            coming: watch::Sender::new(false),
            caught_up: AtomicBool::new(false),
            commit: AtomicU64::new(0),
            begun: Instant::now(),
            window: Mutex::new(window),
            ending: Mutex::new(None),
        }
    }

    /// The window; held for moments, never over an await.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.tick(Moment {
            run: micros(self.begun.elapsed()),
            unix: unix_micros(SystemTime::now()),
        });
        window
    }

    /// The second stage is through with the rows before this one.
    pub(crate) fn published(&self, next: Ticket) {
        self.published.store(next, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Whether no fetched row is before or in the second stage.
    pub(crate) fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire) >= self.window().next_ticket()
    }

    /// A commit that waited for the disk took so long.
    pub(crate) fn measured_commit(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit.store(micros.max(1), Ordering::Relaxed);
    }

    /// What a commit takes, if it was measured.
    pub(crate) fn commit(&self) -> Option<Duration> {
        let micros = self.commit.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Ends the term. The first reason counts, except that a loss overrides an orderly end, and whatever else a pause or a drained table.
    pub(crate) fn end(&self, ending: Ending) {
        let mut current = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let settles = ending.settles();
        let is_worse = |current: &Ending| match (current, &ending) {
            // It is still there after what the other end leads to.
            (Ending::Paused | Ending::Drained, _) => true,
            // A lost session leaves less than a lost producer.
            (Ending::Producer(_) | Ending::Fenced(_), Ending::Postgres(_)) => true,
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
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*ending, Some(Ending::Producer(_) | Ending::Fenced(_)))
    }

    /// Whether the term ends because a session other than the leader's is gone.
    pub(crate) fn lost_a_session(&self) -> bool {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*ending, Some(Ending::Session(_)))
    }

    pub(crate) fn take_ending(&self) -> Option<Ending> {
        self.ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// What an outbox's relay remembers over its terms.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Rows that Kafka can never take, with their creation, as long as they are in the table. An id alone would also shut out a later row that got it again.
    pub(crate) refused: FxHashMap<i64, i64>,
    /// Those of them that are still to be moved to the dead letters.
    pub(crate) convicts: VecDeque<Convict>,
    /// Keys that wait behind a refused row.
    pub(crate) held: Held,
    /// Rows that came back with others: sent alone once more.
    pub(crate) suspects: FxHashSet<Sent>,
    /// Batches are not made larger than this.
    pub(crate) batch_size: usize,
    /// Transactions have no more rows than this, while one is looked for that cannot be sent.
    pub(crate) transaction_rows: Option<usize>,
}

/// Whom the stages tell: what the relay knows of itself, and whoever follows the rows.
pub(crate) struct Counters {
    vitals: Arc<Vitals>,
    observer: Option<Arc<dyn Observer>>,
    traces: Option<Traces>,
}

impl Counters {
    pub(crate) fn new(
        vitals: Arc<Vitals>,
        observer: Option<Arc<dyn Observer>>,
        traces: Option<Traces>,
    ) -> Self {
        Self {
            vitals,
            observer,
            traces,
        }
    }

    /// The spans, where somebody asked for them.
    pub(crate) fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref()
    }

    /// Rows passed a station.
    pub(crate) fn passed(&self, step: Step, ids: &mut dyn Iterator<Item = i64>, at: Instant) {
        if let Some(observer) = &self.observer {
            observer.passed(step, ids, at);
        }
    }
}

impl Deref for Counters {
    type Target = Vitals;

    fn deref(&self) -> &Vitals {
        &self.vitals
    }
}
