//! One term of a leader: fetches, produces and deletes rows at the same time, until its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::producers::TermProducer;
use super::relay::OutboxRelay;
use super::stages::{Done, StageTasks};
use crate::postgres::{Error, Leader, Listener, Reader, Table, WakeLock};
use crate::relay::error::RelayError;
use crate::relay::in_flight::{Limits, Window};
use crate::relay::monitor::UnderWay;
use crate::relay::sessions::Sessions;
use crate::relay::term_state::{AfterTerm, TermEnd, TermState};
use crate::relay::undeleted::Undeleted;

/// How long rows in flight may take to be settled when a session is lost, before the relay
/// reconnects. It takes longer only if Kafka is unreachable too.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// After `stop_timeout`, only an open transaction is still ended, which takes three seconds at
/// most. What takes longer waits for a server that does not answer.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Rows that are sent and not known to be deleted: a receipt of them has to fit into a record, at
/// about six bytes each.
const MOST_NAMED: usize = 50_000;

pub(super) struct Term<'a> {
    relay: &'a OutboxRelay,
    table: &'a Table,
    producer: TermProducer,
    /// Send these rows, ascending, and no others.
    only: Option<Vec<i64>>,
}

/// How a term ended, and the sessions that are still good.
pub(super) struct TermOutcome {
    pub(super) end: TermEnd,
    pub(super) sessions: Option<Sessions>,
    /// Rows that were handed to the producer and not reported on; they are still in the table.
    unsettled: usize,
}

impl OutboxRelay {
    pub(super) fn term<'a>(
        &'a self,
        table: &'a Table,
        producer: TermProducer,
        only: Option<Vec<i64>>,
    ) -> Term<'a> {
        let relay = self;
        Term {
            relay,
            table,
            producer,
            only,
        }
    }

    /// Does what the end of a term asks for. Returns what follows, and the sessions that are left.
    pub(super) async fn after(
        &mut self,
        table: &Table,
        outcome: TermOutcome,
    ) -> Result<(AfterTerm, Option<Sessions>), RelayError> {
        self.counters.retried.add(outcome.unsettled as u64);
        let next = outcome.end.into_next(outcome.unsettled)?;
        if matches!(next, AfterTerm::NewProducer(_) | AfterTerm::Fenced(_)) {
            self.unsettled = outcome.unsettled;
        }
        match &next {
            AfterTerm::Rebatch => self.topics.lock().await.forget(),
            AfterTerm::NewProducer(reason) => self.renew(reason),
            AfterTerm::Fenced(reason) => self.fenced(table, reason),
            AfterTerm::Stop | AfterTerm::Drained | AfterTerm::Pause | AfterTerm::Checked => {}
        }
        Ok((next, outcome.sessions))
    }
}

impl Term<'_> {
    pub(super) async fn run(self, mut sessions: Sessions) -> TermOutcome {
        let relay = self.relay;
        // A lost session ends the term, once that is noticed.
        let beginning = sessions.reader.beginning().await.unwrap_or((i64::MIN, 0));
        let state = Arc::new(self.state());
        let (term, refusals) = (Arc::downgrade(&state), Arc::downgrade(&relay.refusals));
        relay.counters.sent.begin(self.table.id);
        relay.counters.begin_term(move || {
            let refusals = refusals.upgrade();
            UnderWay {
                standing: term.upgrade().map(|it| it.window().standing()),
                refused: refusals.as_ref().map_or(0, |it| it.rejected.count()),
                held_keys: refusals.map_or(0, |it| it.held().count()),
            }
        });
        let stages = StageTasks::new(relay, self.table, Arc::clone(&state));
        let tasks = stages.start(self.producer, self.only, beginning, sessions);
        let mut supervisor = Supervisor::new(tasks, Arc::clone(&state));
        supervisor.run(relay).await;
        if let Some(observer) = relay.counters.observer() {
            observer.term_ended();
        }
        relay.counters.end_term();
        let mut window = state.window();
        // Rows of a transaction that was given up are no longer in the window.
        let given_up = supervisor.abandoned.max(state.given_up());
        let unsettled = window.len().max(given_up);
        relay.refusals.keep_undeleted(window.undeleted_rows());
        drop(window);
        TermOutcome {
            end: state.take_end().unwrap_or(TermEnd::Stopped),
            unsettled,
            sessions: supervisor.into_sessions(),
        }
    }

    fn state(&self) -> TermState {
        let limits = Limits {
            rows: self.relay.outbox.in_flight_rows,
            bytes: self.relay.outbox.in_flight_bytes,
        };
        let window = match &self.producer.recovered {
            None => Window::new(limits).carrying(self.relay.refusals.undeleted()),
            Some(opened) => Window::new(limits)
                .naming(MOST_NAMED)
                .carrying(Undeleted::of(&opened.carried)),
        };
        TermState::new(window, Arc::clone(&self.producer.built.reports))
    }
}

/// Waits for the stages of a term and bounds how long they take to end.
struct Supervisor {
    tasks: JoinSet<Done>,
    state: Arc<TermState>,
    listener: Option<Listener>,
    reader: Option<(Reader, WakeLock)>,
    leader: Option<Leader>,
    published: bool,
    stopping: bool,
    deadline: Option<Instant>,
    /// Rows in flight that were given up at the deadline.
    abandoned: usize,
}

impl Supervisor {
    fn new(tasks: JoinSet<Done>, state: Arc<TermState>) -> Self {
        Self {
            tasks,
            state,
            listener: None,
            reader: None,
            leader: None,
            published: false,
            stopping: false,
            deadline: None,
            abandoned: 0,
        }
    }

    async fn run(&mut self, relay: &OutboxRelay) {
        let state = Arc::clone(&self.state);
        loop {
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            let is_timed = self.deadline.is_some() && !state.abandon.is_cancelled();
            let lost = self.deadline.is_none() && !self.stopping && state.lost_a_session();
            tokio::select! {
                joined = self.tasks.join_next() => match joined {
                    None => break,
                    Some(Ok(done)) => self.take_back(done),
                    Some(Err(panic)) => {
                        error!(error = %panic, "a task of the relay failed: this is a defect of Doorbell; starting over");
                        state.end(TermEnd::Postgres(Error::Lost("a task failed".into())));
                    }
                },
                () = relay.stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.deadline = Some(Instant::now() + relay.settings.stop_timeout);
                    state.end(TermEnd::Stopped);
                }
                () = state.halt.cancelled(), if lost => {
                    self.deadline = Some(Instant::now() + SETTLE_TIMEOUT);
                }
                () = sleep_until(deadline), if is_timed => {
                    self.abandoned = state.window().unacknowledged();
                    if self.abandoned > 0 {
                        warn!(rows = self.abandoned, "rows in flight were not acknowledged in time: they stay in the table");
                    }
                    state.abandon.cancel();
                }
                () = sleep_until(deadline + LEAVE_TIMEOUT), if self.stopping && self.published => {
                    warn!("PostgreSQL did not answer in time: leaving without it");
                    break;
                }
            }
        }
    }

    fn take_back(&mut self, done: Done) {
        match done {
            Done::Listener(it) => self.listener = Some(it),
            Done::Reader(reader, wake_lock) => self.reader = Some((reader, wake_lock)),
            Done::Published => self.published = true,
            Done::Leader(it) => self.leader = Some(it),
        }
    }

    fn into_sessions(self) -> Option<Sessions> {
        let (reader, wake_lock) = self.reader?;
        Some(Sessions {
            listener: self.listener?,
            wake_lock,
            reader,
            leader: self.leader?,
        })
    }
}
