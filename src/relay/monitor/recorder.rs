//! What the stages of a relay report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tracing::{info_span, warn};

use super::incidents::Incidents;
use super::kinds::{BellState, ProblemKind, Role};
use super::readiness::Readiness;
use super::recent::RecentlySent;
use crate::event::RowId;
use crate::kafka::Health;
use crate::postgres::inspect::OldSnapshot;
use crate::postgres::{DelayedCount, RejectedRow};
use crate::relay::clock::{is_finite, micros, unix_micros};
use crate::relay::histogram::{DurationCounts, Histogram};
use crate::relay::in_flight::{InFlightStats, Times};
use crate::sync::lock;

/// A number that only increases.
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

#[derive(Debug, Default)]
pub(super) struct Histograms {
    pub(super) wake: Histogram,
    pub(super) fetch: Histogram,
    pub(super) acknowledge: Histogram,
    pub(super) delete: Histogram,
    pub(super) total: Histogram,
}

/// What changes rarely.
#[derive(Debug)]
pub(super) struct RelayState {
    pub(super) role: Role,
    pub(super) since: Instant,
    pub(super) server: Option<String>,
    pub(super) problems: BTreeMap<ProblemKind, (Instant, String)>,
    pub(super) bell: BellState,
    pub(super) incidents: Incidents,
    pub(super) last_parked: Option<String>,
    pub(super) under_way: Reading,
}

/// What is in flight while the relay leads.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// Rows in flight, while there is a term.
    pub(crate) standing: Option<InFlightStats>,
    /// Refused rows that are still in the table.
    pub(crate) refused: usize,
    pub(crate) held_keys: usize,
}

/// A function that returns what is in flight.
#[derive(Clone)]
pub(super) struct Reading(pub(super) Arc<dyn Fn() -> UnderWay + Send + Sync>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

/// What the fetcher saw of the table.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Rows above the cursor, as far as they were counted; `None` if they were not counted.
    pub(super) above: Option<u64>,
    /// Whether the count stopped at its limit.
    pub(super) is_more: bool,
    /// When the first of them was created, in microseconds since the Unix epoch.
    pub(super) oldest: Option<i64>,
    pub(super) looked: Option<Instant>,
    measured: Option<Instant>,
    /// Rows that stay in the table because their key waits, and when the first was created.
    pub(super) held: (u64, Option<i64>),
    /// Whether a look of this term has ended.
    pub(super) has_looked: bool,
    /// Over terms: since when no look has ended, while one was tried.
    pub(super) trying: Option<Instant>,
    /// Over terms: the first row that a term fetched, and when a term fetched it first.
    pub(super) first: Option<(RowId, Instant)>,
    /// Over terms: dead letters, as of the last sweep.
    pub(super) dead: Option<u64>,
    /// Over terms: rows whose time is to come, as of the last sweep.
    pub(super) delayed: Option<DelayedCount>,
    pub(super) xmin_age: Option<i64>,
    /// The session that held the oldest snapshot at the last sweep. It may have ended since.
    pub(super) pin: Option<OldSnapshot>,
}

/// What the relay of one outbox knows of itself.
#[derive(Debug)]
pub struct Monitor {
    pub(super) outbox: String,
    pub(super) topic: String,
    pub(super) sweep: Duration,
    /// What its producers know of Kafka.
    pub(crate) kafka: Arc<Health>,
    /// Fetched rows, their bytes, the fetches that brought rows, and all fetches.
    pub(crate) fetched: Counter,
    pub(crate) bytes: Counter,
    pub(crate) batches: Counter,
    pub(crate) fetches: Counter,
    /// Rows that Kafka acknowledged.
    pub(crate) published: Counter,
    /// Rows that were deleted from the table.
    pub(crate) deleted: Counter,
    /// Rows that a route dropped.
    pub(crate) dropped: Counter,
    /// Rows that Kafka can never take.
    pub(crate) refused: Counter,
    /// Rows that were moved to the dead letters.
    pub(crate) parked: Counter,
    /// Rows that were handed to the producer and have to be sent once more.
    pub(crate) retried: Counter,
    /// Rows that only the sweep found, since nothing had announced them.
    pub(crate) swept: Counter,
    pub(crate) delete_failures: Counter,
    pub(crate) rings: Counter,
    pub(crate) bell_changes: Counter,
    pub(crate) cursor_moves: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) producer_failures: Counter,
    /// Ranges of ids that a fetch skipped and that may still commit.
    pub(crate) gaps: AtomicUsize,
    /// Rows that Kafka has and that the table keeps.
    pub(crate) kept: AtomicUsize,
    /// The rows that Kafka acknowledged last.
    pub(crate) sent: RecentlySent,
    /// The last acknowledgement in microseconds since the Unix epoch; 0 before the first.
    pub(super) acknowledged_at: AtomicU64,
    pub(super) stages: Histograms,
    state: Mutex<RelayState>,
    seen: Mutex<Seen>,
    /// The role changed.
    changed: Notify,
}

impl Monitor {
    /// Creates the monitor of a relay that has not started.
    pub fn new(outbox: &crate::config::Outbox) -> Self {
        let state = RelayState {
            role: Role::Starting,
            since: Instant::now(),
            server: None,
            problems: BTreeMap::new(),
            bell: BellState::Awake,
            incidents: Incidents::default(),
            last_parked: None,
            under_way: Reading(Arc::new(UnderWay::default)),
        };
        Self {
            outbox: outbox.table.to_string(),
            topic: outbox.shown_topic(),
            sweep: outbox.sweep,
            kafka: Arc::default(),
            fetched: Counter::default(),
            bytes: Counter::default(),
            batches: Counter::default(),
            fetches: Counter::default(),
            published: Counter::default(),
            deleted: Counter::default(),
            dropped: Counter::default(),
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
            kept: AtomicUsize::default(),
            sent: RecentlySent::default(),
            acknowledged_at: AtomicU64::default(),
            stages: Histograms::default(),
            state: Mutex::new(state),
            seen: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits until the relay leads or stands by.
    pub async fn begun(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().role != Role::Starting {
                return;
            }
            changed.await;
        }
    }

    /// Changes the role. Problems that kept the relay from the new role are resolved.
    pub(crate) fn became(&self, role: Role, words: &str) {
        let mut state = self.state();
        if role == Role::Leading && state.role != Role::Paused {
            self.takeovers.add(1);
        }
        if role != Role::Paused {
            state.resolve(ProblemKind::Pause);
        }
        state.resolve(ProblemKind::Locked);
        if role != Role::Starting {
            state.resolve(ProblemKind::Start);
            state.resolve(ProblemKind::Stranger);
        }
        if state.role != role {
            (state.role, state.since) = (role, Instant::now());
        }
        if matches!(role, Role::Standby | Role::Paused) {
            let mut seen = self.seen();
            let (dead, delayed) = (seen.dead, seen.delayed);
            *seen = Seen {
                dead,
                delayed,
                ..Seen::default()
            };
        }
        // What stops a relay is told as a problem.
        if matches!(role, Role::Leading | Role::Standby) {
            state.incidents.note(words);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Records the server to which the relay connects.
    pub(crate) fn found_server(&self, server: &str) {
        self.state().server = Some(server.to_owned());
    }

    /// Raises a problem. Raised again with another description, it still counts from the first
    /// time.
    pub(crate) fn raise(&self, kind: ProblemKind, words: &str) {
        let mut state = self.state();
        let since = Instant::now();
        let problem = state.problems.entry(kind).or_insert((since, String::new()));
        if problem.1 != words {
            words.clone_into(&mut problem.1);
            state.incidents.begin(Some(kind), words);
        }
    }

    /// Resolves a problem.
    pub(crate) fn resolve(&self, kind: ProblemKind) {
        self.state().resolve(kind);
    }

    /// Judges whether rows get through, and logs when they do not any more, and when they do again.
    pub(crate) fn judge(&self, stuck_after: Duration) {
        let relay = self.snapshot();
        let stopped = Readiness::of(&relay, stuck_after).stopped(&relay);
        let _span = info_span!("outbox", outbox = self.outbox).entered();
        let mut state = self.state();
        let is_known = state.incidents.open(None).is_some();
        match stopped.as_deref() {
            Some(words) if !is_known => {
                // The producer logs when it loses the last broker.
                if self.kafka.unreachable_since().is_none() {
                    warn!("rows do not get through: {words}");
                }
                state.incidents.begin(None, words);
            }
            None if is_known => state.incidents.end(None),
            _ => {}
        }
    }

    /// Begins a term; the function returns what is in flight.
    pub(crate) fn begin_term(&self, under_way: impl Fn() -> UnderWay + Send + Sync + 'static) {
        self.state().under_way = Reading(Arc::new(under_way));
        self.end_term();
        self.bell(BellState::Awake);
    }

    /// Ends a term: what is waited for is remembered for the next one.
    pub(crate) fn end_term(&self) {
        let mut seen = self.seen();
        *seen = Seen {
            trying: seen.trying,
            first: seen.first,
            dead: seen.dead,
            delayed: seen.delayed,
            ..Seen::default()
        };
    }

    /// Records whether writers ring.
    pub(crate) fn bell(&self, bell: BellState) {
        let mut state = self.state();
        if state.bell != bell {
            state.bell = bell;
            self.bell_changes.add(1);
        }
    }

    /// Records the begin of a fetch. Returns whether the one before has failed.
    pub(crate) fn looks(&self) -> bool {
        let mut seen = self.seen();
        let failed = seen.trying.is_some();
        seen.trying.get_or_insert_with(Instant::now);
        failed
    }

    /// Records the end of a fetch; `complete` if it left no rows behind.
    pub(crate) fn looked(&self, rows: usize, complete: bool, gaps: usize) {
        self.fetches.add(1);
        self.gaps.store(gaps, Ordering::Relaxed);
        let mut seen = self.seen();
        if rows == 0 && !seen.has_looked {
            seen.first = None;
        }
        seen.looked = Some(Instant::now());
        (seen.trying, seen.has_looked) = (None, true);
        if complete {
            (seen.above, seen.is_more, seen.oldest) = (Some(0), false, None);
        } else {
            seen.above = seen.above.map(|above| above.saturating_sub(rows as u64));
        }
    }

    /// Records the rows of a fetch, each with the time since when it waits. `woken` is the time of
    /// the ring or timer that led to it.
    pub(crate) fn brought(
        &self,
        rows: impl Iterator<Item = (RowId, i64)>,
        bytes: usize,
        woken: Instant,
        now: Instant,
    ) {
        let fetch = now - woken;
        let woken = unix_micros(SystemTime::now()) - micros(fetch) as i64;
        let (mut wake, mut count) = (DurationCounts::default(), 0);
        let mut rows = rows.peekable();
        self.fetched_first(rows.peek().map(|(row, _)| *row), now);
        for (_, since) in rows {
            count += 1;
            if is_finite(since) {
                wake.add(woken.saturating_sub(since).max(0) as u64, 1);
            }
        }
        let mut fetches = DurationCounts::default();
        fetches.add(micros(fetch), count);
        self.stages.wake.take_in(&mut wake);
        self.stages.fetch.take_in(&mut fetches);
        self.fetched.add(count);
        self.bytes.add(bytes as u64);
        self.batches.add(1);
    }

    /// Remembers the first row of a term, unless an earlier term began with it.
    fn fetched_first(&self, row: Option<RowId>, now: Instant) {
        let mut seen = self.seen();
        if !seen.has_looked && seen.first.map(|(row, _)| row) != row {
            seen.first = row.map(|row| (row, now));
        }
    }

    /// Counts a row that Kafka can never take.
    pub(crate) fn refused_row(&self) {
        self.refused.add(1);
        self.seen().first = None;
    }

    /// Counts rows that were moved to the dead letters, and remembers the last.
    pub(crate) fn parked(&self, rows: u64, last: &RejectedRow) {
        self.parked.add(rows);
        let mut seen = self.seen();
        seen.dead = seen.dead.map(|dead| dead + rows);
        drop(seen);
        self.state().last_parked = Some(format!("{}: {}", last.code, last.reason));
    }

    /// Counts rows that Kafka acknowledged.
    pub(crate) fn acknowledged(&self, rows: usize) {
        if rows > 0 {
            self.published.add(rows as u64);
            let now = unix_micros(SystemTime::now()).max(1) as u64;
            self.acknowledged_at.store(now, Ordering::Relaxed);
        }
    }

    /// Adds the durations that the window measured.
    pub(crate) fn timed(&self, mut times: Times) {
        self.stages.acknowledge.take_in(&mut times.acknowledge);
        self.stages.delete.take_in(&mut times.delete);
        self.stages.total.take_in(&mut times.total);
    }

    /// Whether the rows above the cursor have to be counted, at most as often as the sweep: a fetch
    /// that left some behind does not know how many.
    pub(crate) fn wants_count(&self) -> bool {
        self.count_due().is_none_or(|due| due <= Instant::now())
    }

    /// When these rows have to be counted again; `None` means now.
    pub(crate) fn count_due(&self) -> Option<Instant> {
        self.seen().measured.map(|measured| measured + self.sweep)
    }

    /// Records the number of rows above the cursor.
    pub(crate) fn counted(&self, rows: u64, is_more: bool, oldest: Option<i64>) {
        let mut seen = self.seen();
        (seen.above, seen.is_more, seen.oldest) = (Some(rows), is_more, oldest);
        seen.measured = Some(Instant::now());
    }

    /// Records the rows that stay in the table because their key waits.
    pub(crate) fn held(&self, rows: u64, oldest: Option<i64>) {
        self.seen().held = (rows, oldest);
    }

    /// Records the number of dead letters.
    pub(crate) fn saw_dead(&self, letters: i64) {
        self.seen().dead = Some(letters.unsigned_abs());
    }

    /// Records the number of rows whose time is to come.
    pub(crate) fn saw_delayed(&self, delayed: Option<DelayedCount>) {
        self.seen().delayed = delayed;
    }

    /// Whether the number of rows whose time is to come is not known yet.
    pub(crate) fn lacks_delayed(&self) -> bool {
        self.seen().delayed.is_none()
    }

    /// Records fetched rows by the times that had come.
    pub(crate) fn came_due(&self, times: impl Iterator<Item = i64>) {
        let mut seen = self.seen();
        for time in times {
            if let Some(delayed) = seen.delayed.as_mut().filter(|it| it.at < time) {
                delayed.rows = delayed.rows.saturating_sub(1);
            }
            seen.above = seen.above.map(|above| above.saturating_sub(1));
        }
    }

    /// Records that fetches have left no row.
    pub(crate) fn read_all(&self) {
        let mut seen = self.seen();
        (seen.above, seen.is_more, seen.oldest) = (Some(0), false, None);
    }

    /// Whether the number of dead letters is not known yet.
    pub(crate) fn lacks_dead(&self) -> bool {
        self.seen().dead.is_none()
    }

    /// Records how many transactions ago the oldest open snapshot was taken, and its session.
    pub(crate) fn saw_xmin(&self, age: Option<i64>, pin: Option<OldSnapshot>) {
        let mut seen = self.seen();
        (seen.xmin_age, seen.pin) = (age, pin);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, RelayState> {
        lock(&self.state)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl RelayState {
    fn resolve(&mut self, kind: ProblemKind) {
        if self.problems.remove(&kind).is_some() {
            self.incidents.end(Some(kind));
        }
    }
}
