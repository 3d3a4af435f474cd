//! One term of a leader: fetch, produce and delete at the same time on different rows, until something ends it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, warn};

use super::fetcher::{Fetcher, jittered};
use super::pace::Pace;
use super::parking::Parking;
use super::position::Position;
use super::publisher::{Publisher, Topical};
use super::rate::Rate;
use super::refusal::{Policies, Refusals};
use super::scan::Scan;
use super::sender::{Sender, let_go};
use super::settler::Settler;
use super::shared::{Asked, Counters, Ending, Memory, Pings, Shared};
use super::transactor::{Queue, Transactor};
use super::window::{Limits, Window};
use crate::config::Outbox;
use crate::kafka::{Producer, Receipts, Topics};
use crate::postgres::{Bell, Error, Key, Leader, Reader, Ring, Table};

/// When a session is lost, what is in flight may take this long to be settled before a new start: longer only when Kafka is away too.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// After the time for a stop, only an open transaction is still ended, which takes three seconds at most. What takes longer waits for a server that does not answer.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Rows that are sent and not known to be deleted: a receipt of them has to fit into a record, at six bytes or so each.
const MOST_NAMED: usize = 50_000;

/// Batches that wait while a transaction commits: the next one takes them all.
const TRANSACTION_BATCHES: usize = 8;

/// The sessions of a leader.
pub(crate) struct Sessions {
    pub(crate) bell: Bell,
    pub(crate) key: Key,
    pub(crate) reader: Reader,
    pub(crate) leader: Leader,
}

/// What a term works with.
pub(crate) struct Term<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) table: &'a Table,
    pub(crate) sender: Sender,
    pub(crate) topics: Arc<tokio::sync::Mutex<Topics>>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
    pub(crate) stop_timeout: Duration,
    /// Fetch at this distance, whatever rings.
    pub(crate) poll: Option<Duration>,
    /// End when the table has been read to its end.
    pub(crate) drains: bool,
    /// Send these rows and no others.
    pub(crate) only: Option<Vec<i64>>,
    pub(crate) pings: Pings,
}

/// What a task gives back.
enum Done {
    Bell(Bell),
    Reader(Reader, Key),
    Published,
    Leader(Leader),
}

/// How a term ended, and the sessions that are still good.
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) sessions: Option<Sessions>,
    /// Rows that were handed to the producer and not heard of again: they are still in the table.
    pub(crate) unsettled: usize,
}

impl Term<'_> {
    /// Limits it to a few rows, ascending.
    pub(crate) fn only(self, rows: Vec<i64>) -> Self {
        Self {
            only: Some(rows),
            ..self
        }
    }

    /// Runs the term to its end.
    pub(crate) async fn run(self, sessions: Sessions) -> Outcome {
        let limits = Limits {
            rows: self.outbox.in_flight_rows,
            bytes: self.outbox.in_flight_bytes,
        };
        let window = match &self.sender.once {
            None => Window::new(limits),
            Some((opened, _)) => Window::new(limits).naming(MOST_NAMED, &opened.carried),
        };
        let shared = Arc::new(Shared::new(window, Arc::clone(&self.sender.reports)));
        self.counters.begin_term(&shared, &self.memory);
        let counters = Arc::clone(&self.counters);
        let (stop, stop_timeout) = (self.stop.clone(), self.stop_timeout);
        let mut tasks = self.start(sessions, &shared);

        let (mut bell, mut key, mut reader, mut leader) = (None, None, None, None);
        let mut deadline: Option<Instant> = None;
        let (mut stopping, mut published) = (false, false);
        let mut abandoned = 0;
        loop {
            tokio::select! {
                joined = tasks.join_next() => match joined {
                    None => break,
                    Some(Ok(Done::Bell(it))) => bell = Some(it),
                    Some(Ok(Done::Reader(it, its_key))) => (reader, key) = (Some(it), Some(its_key)),
                    Some(Ok(Done::Leader(it))) => leader = Some(it),
                    Some(Ok(Done::Published)) => published = true,
                    Some(Err(panic)) => {
                        error!(error = %panic, "a task of the relay failed: this is a defect of Doorbell; starting over");
                        shared.end(Ending::Postgres(Error::Lost("a task failed".into())));
                    }
                },
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    deadline = Some(Instant::now() + stop_timeout);
                    shared.end(Ending::Stopped);
                }
                () = shared.halt.cancelled(), if deadline.is_none() && !stopping && shared.lost_a_session() => {
                    deadline = Some(Instant::now() + SETTLE_TIMEOUT);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() && !shared.abandon.is_cancelled() => {
                    abandoned = shared.window().unacknowledged();
                    if abandoned > 0 {
                        warn!(rows = abandoned, "rows in flight were not acknowledged in time: they stay in the table");
                    }
                    shared.abandon.cancel();
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now) + LEAVE_TIMEOUT), if stopping && published => {
                    warn!("PostgreSQL did not answer in time: leaving without it");
                    break;
                }
            }
        }
        if let Some(traces) = counters.traces() {
            traces.end_term();
        }
        Outcome {
            ending: shared.take_ending().unwrap_or(Ending::Stopped),
            sessions: match (bell, key, reader, leader) {
                (Some(bell), Some(key), Some(reader), Some(leader)) => Some(Sessions {
                    bell,
                    key,
                    reader,
                    leader,
                }),
                _ => None,
            },
            // Those of a transaction that was given up are not in the window any more.
            unsettled: shared.window().len().max(abandoned),
        }
    }

    fn start(self, sessions: Sessions, shared: &Arc<Shared>) -> JoinSet<Done> {
        let Sessions {
            bell,
            key,
            reader,
            leader,
        } = sessions;
        let known_up_to = self.start_over();
        let Sender {
            producer,
            alone,
            once,
            ..
        } = self.sender;
        let counters = Arc::clone(&self.counters);
        let ours = vec![bell.pid(), key.pid(), reader.pid(), leader.pid()];
        // One batch is published while the next is fetched, and one waits between them.
        let waiting = once.as_ref().map_or(1, |_| TRANSACTION_BATCHES);
        let (to_publisher, batches) = mpsc::channel(waiting);
        let (ring, rings) = watch::channel(0);
        let sent_all = CancellationToken::new();
        let refusals = Arc::new(Refusals {
            memory: Arc::clone(&self.memory),
            counters: Arc::clone(&self.counters),
            policies: Policies::of(self.outbox),
            convicted: Notify::new(),
        });
        let sweep = self.outbox.sweep;
        let scan = Scan {
            reader,
            shared: Arc::clone(shared),
            memory: Arc::clone(&self.memory),
            counters: Arc::clone(&self.counters),
            batches: to_publisher,
            oid: self.table.oid,
            ours,
            only: self.only,
            holds_keys: refusals.policies.hold_keys(),
            tell_after: std::time::Instant::now(),
            tell_due: None,
            at: Position::start(known_up_to, Instant::now() + jittered(sweep)),
            drains: self.drains,
            rate: Rate::new(self.outbox.max_rate, std::time::Instant::now()),
            stirred: true,
            rung: false,
        };
        let pace = Pace::new(self.poll, std::time::Instant::now());
        let fetcher = Fetcher::new(scan, rings, sweep, pace, self.pings);
        let publisher = Publisher {
            producer,
            topics: self.topics,
            route: self.outbox.topic.clone(),
            table: self.table.name.clone(),
            shared: Arc::clone(shared),
            refusals: Arc::clone(&refusals),
            batches,
        };
        let receipts = once.as_ref().map(|(_, receipts)| Arc::clone(receipts));
        let ledger = once.as_ref().map(|(opened, _)| Arc::clone(&opened.ledger));
        let second = match once {
            None => Second::Publisher(publisher),
            Some((opened, receipts)) => Second::Transactor(Box::new(Transactor {
                publisher,
                receipts,
                ledger: opened.ledger,
                once: opened.once,
                counters: Arc::clone(&self.counters),
                queue: Queue::default(),
                topics: Topical::default(),
                last_commit: None,
                fetch_takes: Duration::ZERO,
                recent: VecDeque::new(),
            })),
        };
        let settler = Settler {
            leader,
            shared: Arc::clone(shared),
            memory: self.memory,
            parking: Parking::new(Arc::clone(&refusals)),
            refusals,
            counters: self.counters,
            pings: self.pings,
            sent_all: sent_all.clone(),
            consecutive: self.table.id_is_unique,
            alone,
            ledger,
        };
        let mut tasks = JoinSet::new();
        let span = Span::current();
        let hearing = listen(
            bell,
            self.table.clone(),
            ring,
            self.pings,
            Arc::clone(shared),
            counters,
        );
        tasks.spawn(hearing.instrument(span.clone()));
        tasks.spawn(
            async move {
                let (reader, key) = fetcher.run(key).await;
                Done::Reader(reader, key)
            }
            .instrument(span.clone()),
        );
        let settled = Arc::clone(shared);
        tasks.spawn(
            async move {
                let producer = second.run().await;
                sent_all.cancel();
                // The producer lives until everything it has is settled.
                tokio::select! {
                    () = settled.done.cancelled() => {}
                    () = settled.abandon.cancelled() => {}
                }
                let_go_of(producer, receipts, &settled).await;
                Done::Published
            }
            .instrument(span.clone()),
        );
        let shared = Arc::clone(shared);
        tasks.spawn(
            async move {
                let leader = settler.run().await;
                shared.done.cancel();
                Done::Leader(leader)
            }
            .instrument(span),
        );
        tasks
    }

    /// Rows that an earlier term refused lie among those that this one reads from the start: to send one again would have its batch refused and
    /// end the term, again and again. The highest of them.
    fn start_over(&self) -> Option<i64> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.held.start_over(std::time::Instant::now());
        let held = memory.held.heads().map(|row| row.id).max();
        let refused = memory.refused.keys().max().copied();
        let opened = self.sender.once.as_ref().map(|(opened, _)| opened);
        let carried = opened.and_then(|opened| opened.carried.iter().map(|row| row.id).max());
        refused.max(held).max(carried)
    }
}

/// The second stage.
enum Second {
    Publisher(Publisher),
    Transactor(Box<Transactor>),
}

impl Second {
    async fn run(self) -> Arc<Producer> {
        match self {
            Self::Publisher(publisher) => publisher.run().await,
            Self::Transactor(transactor) => transactor.run().await,
        }
    }
}

/// Nobody waits for the end of a producer that has nothing left: the lock would be held meanwhile. One that has records must not send them after those of
/// the next one, so they are taken from it first.
async fn let_go_of(producer: Arc<Producer>, receipts: Option<Arc<Receipts>>, shared: &Shared) {
    if shared.window().unacknowledged() == 0 {
        return let_go((producer, receipts));
    }
    let purge = move || {
        producer.purge();
        producer
    };
    if let Ok(producer) = spawn_blocking(purge).await {
        let_go((producer, receipts));
    }
}

/// Turns notifications into "look": a number that goes up. A burst of them is one look, and one during a fetch is not forgotten.
async fn listen(
    mut bell: Bell,
    table: Table,
    ring: watch::Sender<u64>,
    pings: Pings,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
) -> Done {
    let mut next_ping = pings.first(Asked::Bell);
    loop {
        let heard = tokio::select! {
            () = shared.halt.cancelled() => return Done::Bell(bell),
            heard = bell.rung() => heard,
            () = sleep_until(next_ping) => match bell.ping().await {
                Ok(()) => {
                    next_ping = Instant::now() + pings.interval();
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let paused = match heard {
            Ok(Ring::Rows) => Ok(false),
            Ok(Ring::Flag) => bell.entry(&table).await.map(|it| it.pause.is_some()),
            Err(error) => Err(error),
        };
        match paused {
            Ok(false) => {
                counters.rings.add(1);
                ring.send_modify(|rings| *rings += 1);
            }
            Ok(true) => {
                info!("pausing: no new rows, those in flight are finished");
                shared.end(Ending::Paused);
                return Done::Bell(bell);
            }
            Err(error) => {
                shared.end(Ending::Session(error));
                return Done::Bell(bell);
            }
        }
    }
}
