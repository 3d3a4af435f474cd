//! What a relay knows of itself, for whoever asks: metrics, health, page. Nothing here asks the database.
//!
//! | file | what |
//! |---|---|
//! | `tally` | how long things took (pure) |
//! | `snapshot` | all of it at one moment, in plain numbers |
//! | `readiness` | whether that is well, in words (pure) |

mod readiness;
mod snapshot;
mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::Notify;

pub use readiness::Readiness;
pub use snapshot::{Backlog, Bell, Change, InFlight, KafkaState, Rows, Snapshot, Stages, Trouble};
pub use tally::Timing;
pub(crate) use tally::{Histogram, Tally};

use super::shared::{Memory, Shared};
use super::window::Times;
use crate::kafka::Condition;
use crate::postgres::survey::Pin;
use crate::postgres::{Convict, Head};

/// Changes of state that are kept for the eye.
const CHANGES: usize = 50;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the relay of one outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It connects, or waits for something to come back.
    Starting,
    /// Another relay leads.
    Standby,
    /// It relays.
    Leading,
    /// It would lead, but the outbox is paused.
    Paused,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Standby, Self::Leading, Self::Paused];

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Leading => "leading",
            Self::Paused => "paused",
        }
    }
}

/// Whether writers ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BellState {
    /// The relay fetches by itself; writers are silent.
    Awake,
    /// Writers ring.
    Asleep,
    /// A silent transaction stays open, and the relay waits for its end; new writers ring.
    Waiting,
}

impl BellState {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Awake, Self::Asleep, Self::Waiting];

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Waiting => "waiting",
        }
    }
}

/// What can be wrong with a relay that is alive. One trouble of a kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// PostgreSQL or Kafka is away, or something refuses to let it begin.
    Start,
    /// The leader's lock is with somebody who is no relay.
    Stranger,
    /// The outbox is paused.
    Pause,
    /// Rows that Kafka has cannot be deleted.
    Delete,
    /// Refused rows cannot be parked.
    Park,
    /// The trigger is missing, disabled or of an earlier version.
    Trigger,
    /// The sweep found rows that nothing had announced.
    Unannounced,
}

/// The stages of a row's way that are timed.
#[derive(Debug, Default)]
struct Histograms {
    wake: Histogram,
    fetch: Histogram,
    acknowledge: Histogram,
    delete: Histogram,
    total: Histogram,
}

/// What changes seldom.
#[derive(Debug)]
struct State {
    role: Role,
    since: Instant,
    server: Option<String>,
    troubles: BTreeMap<Ailment, (Instant, String)>,
    bell: BellState,
    changes: VecDeque<Change>,
    last_parked: Option<String>,
    term: Weak<Shared>,
    memory: Weak<Mutex<Memory>>,
}

/// What the first stage saw of the table.
#[derive(Debug, Default)]
struct Seen {
    /// Rows above the cursor, as far as they were counted; `None`: not known.
    above: Option<u64>,
    /// Whether the count stopped at its limit.
    is_more: bool,
    /// When the first of them was created, in microseconds since the Unix epoch.
    oldest: Option<i64>,
    looked: Option<Instant>,
    measured: Option<Instant>,
    xmin_age: Option<i64>,
    /// Who holds the oldest snapshot, and when that was seen.
    pin: Option<(Pin, Instant)>,
}

/// What one outbox's relay knows of itself.
#[derive(Debug)]
pub struct Vitals {
    outbox: String,
    topic: String,
    sweep: Duration,
    /// What its producers know of Kafka.
    pub(crate) kafka: Arc<Condition>,
    /// Rows that a fetch brought, their bytes, and the fetches: those with rows, and all.
    pub(crate) fetched: Counter,
    pub(crate) bytes: Counter,
    pub(crate) batches: Counter,
    pub(crate) fetches: Counter,
    /// Rows that Kafka acknowledged.
    pub(crate) published: Counter,
    /// Rows that were deleted from the table.
    pub(crate) deleted: Counter,
    /// Rows that Kafka can never take.
    pub(crate) refused: Counter,
    /// Rows that were moved to the dead letters.
    pub(crate) parked: Counter,
    /// Rows that were handed over and are to be sent once more.
    pub(crate) retried: Counter,
    /// Rows that only the sweep found: nothing had announced them.
    pub(crate) swept: Counter,
    pub(crate) delete_failures: Counter,
    pub(crate) rings: Counter,
    pub(crate) bell_changes: Counter,
    pub(crate) cursor_moves: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) producer_failures: Counter,
    /// Ranges of ids that a fetch jumped over and that may still commit.
    pub(crate) gaps: AtomicUsize,
    /// Microseconds since the Unix epoch; 0: none yet.
    acknowledged_at: AtomicU64,
    stages: Histograms,
    state: Mutex<State>,
    seen: Mutex<Seen>,
    /// Its role is another one.
    changed: Notify,
}

impl Vitals {
    /// Of a relay that has not begun.
    pub fn new(outbox: &crate::config::Outbox) -> Self {
        let state = State {
            role: Role::Starting,
            since: Instant::now(),
            server: None,
            troubles: BTreeMap::new(),
            bell: BellState::Awake,
            changes: VecDeque::new(),
            last_parked: None,
            term: Weak::new(),
            memory: Weak::new(),
        };
        Self {
            outbox: outbox.table.to_string(),
            topic: outbox.topic.to_string(),
            sweep: outbox.sweep,
            kafka: Arc::default(),
            fetched: Counter::default(),
            bytes: Counter::default(),
            batches: Counter::default(),
            fetches: Counter::default(),
            published: Counter::default(),
            deleted: Counter::default(),
            refused: Counter::default(),
            parked: Counter::default(),
            retried: Counter::default(),
            swept: Counter::default(),
            delete_failures: Counter::default(),
            rings: Counter::default(),
            bell_changes: Counter::default(),
            cursor_moves: Counter::default(),
            takeovers: Counter::default(),
            reconnects: Counter::default(),
            producer_failures: Counter::default(),
            gaps: AtomicUsize::default(),
            acknowledged_at: AtomicU64::default(),
            stages: Histograms::default(),
            state: Mutex::new(state),
            seen: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits until it leads or stands by.
    pub async fn begun(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().role != Role::Starting {
                return;
            }
            changed.await;
        }
    }

    /// Its role is another one from now on. What kept it from that is over.
    pub(crate) fn became(&self, role: Role, words: &str) {
        let mut state = self.state();
        if role == Role::Leading && state.role != Role::Paused {
            self.takeovers.add(1);
        }
        if role != Role::Paused {
            state.troubles.remove(&Ailment::Pause);
        }
        if role != Role::Starting {
            state.troubles.remove(&Ailment::Start);
            state.troubles.remove(&Ailment::Stranger);
        }
        if state.role != role {
            (state.role, state.since) = (role, Instant::now());
        }
        state.note(words);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The server that it speaks to.
    pub(crate) fn found_server(&self, server: &str) {
        self.state().server = Some(server.to_owned());
    }

    /// Something is wrong. Told again in other words, it has still lasted since it was told first.
    pub(crate) fn suffers(&self, ailment: Ailment, words: &str) {
        let mut state = self.state();
        let since = Instant::now();
        let trouble = state
            .troubles
            .entry(ailment)
            .or_insert((since, String::new()));
        if trouble.1 != words {
            words.clone_into(&mut trouble.1);
            state.note(words);
        }
    }

    /// It is over.
    pub(crate) fn recovered(&self, ailment: Ailment) {
        self.state().troubles.remove(&ailment);
    }

    /// A term begins: what is in flight can be looked at there.
    pub(crate) fn begin_term(&self, shared: &Arc<Shared>, memory: &Arc<Mutex<Memory>>) {
        let mut state = self.state();
        state.term = Arc::downgrade(shared);
        state.memory = Arc::downgrade(memory);
        drop(state);
        *self.seen() = Seen::default();
        self.bell(BellState::Awake);
    }

    /// Whether writers ring now.
    pub(crate) fn bell(&self, bell: BellState) {
        let mut state = self.state();
        if state.bell != bell {
            state.bell = bell;
            self.bell_changes.add(1);
        }
    }

    /// A fetch is over; whether it left nothing behind.
    pub(crate) fn looked(&self, rows: usize, complete: bool, gaps: usize) {
        self.fetches.add(1);
        self.gaps.store(gaps, Ordering::Relaxed);
        let mut seen = self.seen();
        seen.looked = Some(Instant::now());
        if complete {
            (seen.above, seen.is_more, seen.oldest) = (Some(0), false, None);
        } else {
            seen.above = seen.above.map(|above| above.saturating_sub(rows as u64));
        }
    }

    /// A fetch brought rows. `woken` is when the reason for it came.
    pub(crate) fn brought<'a>(
        &self,
        rows: impl Iterator<Item = &'a Head>,
        woken: Instant,
        now: Instant,
    ) {
        let fetch = now - woken;
        let woken = unix_micros(SystemTime::now()) - micros(fetch) as i64;
        let (mut wake, mut count, mut bytes) = (Tally::default(), 0, 0);
        for row in rows {
            count += 1;
            bytes += row.bytes as u64;
            if is_finite(row.created_at) {
                wake.add(woken.saturating_sub(row.created_at).max(0) as u64, 1);
            }
        }
        let mut fetches = Tally::default();
        fetches.add(micros(fetch), count);
        self.stages.wake.take_in(&mut wake);
        self.stages.fetch.take_in(&mut fetches);
        self.fetched.add(count);
        self.bytes.add(bytes);
        self.batches.add(1);
    }

    /// Rows are dead letters now; the last of them.
    pub(crate) fn parked(&self, rows: u64, last: &Convict) {
        self.parked.add(rows);
        self.state().last_parked = Some(format!("{}: {}", last.code, last.reason));
    }

    /// Kafka has acknowledged rows.
    pub(crate) fn acknowledged(&self, rows: usize) {
        if rows > 0 {
            self.published.add(rows as u64);
            let now = unix_micros(SystemTime::now()).max(1) as u64;
            self.acknowledged_at.store(now, Ordering::Relaxed);
        }
    }

    /// What the window timed.
    pub(crate) fn timed(&self, mut times: Times) {
        self.stages.acknowledge.take_in(&mut times.acknowledge);
        self.stages.delete.take_in(&mut times.delete);
        self.stages.total.take_in(&mut times.total);
    }

    /// Whether the rows above the cursor are to be counted: a fetch that left some behind does not know how many. As often as a sweep, at most.
    pub(crate) fn wants_count(&self) -> bool {
        self.count_due().is_none_or(|due| due <= Instant::now())
    }

    /// When they are to be counted again; `None`: now.
    pub(crate) fn count_due(&self) -> Option<Instant> {
        self.seen().measured.map(|measured| measured + self.sweep)
    }

    /// The rows above the cursor were counted.
    pub(crate) fn counted(&self, rows: u64, is_more: bool, oldest: Option<i64>) {
        let mut seen = self.seen();
        (seen.above, seen.is_more, seen.oldest) = (Some(rows), is_more, oldest);
        seen.measured = Some(Instant::now());
    }

    /// How many transactions ago the oldest snapshot was taken that somebody still holds, and who that is.
    pub(crate) fn saw_xmin(&self, age: Option<i64>, pin: Option<Pin>) {
        let mut seen = self.seen();
        seen.xmin_age = age;
        seen.pin = pin.map(|pin| (pin, Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, words: &str) {
        // Each attempt to begin anew says so.
        if self.changes.back().is_some_and(|last| last.words == words) {
            return;
        }
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        let at = unix_micros(SystemTime::now()) as f64 / 1e6;
        let words = words.to_owned();
        self.changes.push_back(Change { at, words });
    }
}

/// PostgreSQL's times of creation may be infinite.
pub(crate) fn is_finite(created_at: i64) -> bool {
    created_at != i64::MAX && created_at != i64::MIN
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since the Unix epoch.
pub(crate) fn unix_micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| micros(since) as i64)
}
