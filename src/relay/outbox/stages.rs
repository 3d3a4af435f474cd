//! The tasks of a term: one that listens, and one for each stage.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info};

use super::producers::{TermProducer, let_go, yielded};
use super::relay::OutboxRelay;
use crate::kafka::{Batching, Producer, Receipts};
use crate::postgres::{Leader, Listener, Reader, Ring, Table, WakeLock};
use crate::relay::clock::jittered;
use crate::relay::exactly_once::{Progress, Queue, Recovered, Transactor};
use crate::relay::fetch::{Cursor, Fetched, Fetcher, Polling, RateLimit, Scan, Schedule};
use crate::relay::poison::Refusals;
use crate::relay::publish::{Publisher, TopicCache};
use crate::relay::sessions::{Asked, Pings, Sessions};
use crate::relay::settle::{HeldRecord, Parking, Settler};
use crate::relay::term_state::{TermEnd, TermState};

/// Batches that wait while a transaction commits: the next one takes them all.
const TRANSACTION_BATCHES: usize = 8;

/// Held rows that a command is told.
const MOST_TOLD: usize = 1_000;

/// What a task gives back at its end.
pub(super) enum Done {
    Listener(Listener),
    Reader(Reader, WakeLock),
    Published,
    Leader(Leader),
}

/// Where each event is sent once: what came before the first transaction, and where receipts go.
type Once = (Recovered, Arc<Receipts>);

pub(super) struct StageTasks<'a> {
    relay: &'a OutboxRelay,
    table: &'a Table,
    state: Arc<TermState>,
    /// No further row will be handed to the producer.
    sent_all: CancellationToken,
    tasks: JoinSet<Done>,
}

impl<'a> StageTasks<'a> {
    pub(super) fn new(relay: &'a OutboxRelay, table: &'a Table, state: Arc<TermState>) -> Self {
        Self {
            relay,
            table,
            state,
            sent_all: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn start(
        mut self,
        producer: TermProducer,
        only: Option<Vec<i64>>,
        beginning: (i64, i64),
        sessions: Sessions,
    ) -> JoinSet<Done> {
        let ours = sessions.pids();
        let Sessions {
            listener,
            wake_lock,
            reader,
            leader,
        } = sessions;
        let TermProducer { built, recovered } = producer;
        let alone = built.batching == Batching::Alone;
        let opened = recovered.as_ref();
        let known_up_to = self.start_over();
        let progress = opened.map(|it| Arc::clone(&it.progress));
        // One batch is published while the next is fetched, and one waits between them.
        let waiting = opened.map_or(1, |_| TRANSACTION_BATCHES);
        let (to_publisher, batches) = mpsc::channel(waiting);
        let (ring, rings) = watch::channel(0);
        let (table, pings) = (self.table.clone(), self.relay.pings());
        let (state, refusals) = (Arc::clone(&self.state), Arc::clone(&self.relay.refusals));
        let yields = self.relay.yields_after();
        self.spawn(listen(
            listener, table, ring, pings, yields, state, refusals,
        ));
        let repeats = !self.table.id_is_unique;
        let next_sweep = Instant::now() + jittered(self.relay.outbox.sweep);
        let cursor = Cursor::start(repeats, known_up_to, next_sweep, beginning);
        let scan = self.scan(reader, to_publisher, ours, only, cursor);
        self.spawn_fetcher(scan, rings, wake_lock);
        self.spawn_publisher(built.producer, recovered.zip(built.receipts), batches);
        self.spawn_settler(leader, progress, alone);
        self.tasks
    }

    fn spawn(&mut self, task: impl Future<Output = Done> + Send + 'static) {
        self.tasks.spawn(task.instrument(Span::current()));
    }

    fn scan(
        &self,
        reader: Reader,
        batches: mpsc::Sender<Fetched>,
        ours: Vec<i32>,
        only: Option<Vec<i64>>,
        cursor: Cursor,
    ) -> Scan {
        let outbox = &self.relay.outbox;
        let now = std::time::Instant::now();
        Scan {
            reader,
            state: Arc::clone(&self.state),
            refusals: Arc::clone(&self.relay.refusals),
            routes: Arc::clone(&self.relay.routes),
            counters: Arc::clone(&self.relay.counters),
            batches,
            oid: self.table.oid,
            ours,
            only,
            tell_after: now,
            tell_due: None,
            cursor,
            drains: self.relay.drains,
            schedule: Schedule::new(),
            rate: RateLimit::new(outbox.max_rate, now),
            active: true,
            rung: false,
        }
    }

    fn spawn_fetcher(&mut self, scan: Scan, rings: watch::Receiver<u64>, wake_lock: WakeLock) {
        let polling = Polling::new(self.relay.poll, std::time::Instant::now());
        let (sweep, pings) = (self.relay.outbox.sweep, self.relay.pings());
        let fetcher = Fetcher::new(scan, rings, sweep, polling, pings);
        self.spawn(async move {
            let (reader, wake_lock) = fetcher.run(wake_lock).await;
            Done::Reader(reader, wake_lock)
        });
    }

    fn spawn_publisher(
        &mut self,
        producer: Arc<Producer>,
        once: Option<Once>,
        batches: mpsc::Receiver<Fetched>,
    ) {
        let relay = self.relay;
        let receipts = once.as_ref().map(|(_, receipts)| Arc::clone(receipts));
        let publisher = Publisher {
            producer,
            topics: Arc::clone(&relay.topics),
            routes: Arc::clone(&relay.routes),
            shared: Arc::clone(&self.state),
            refusals: Arc::clone(&relay.refusals),
            batches,
        };
        let second: Pin<Box<dyn Future<Output = Arc<Producer>> + Send>> = match once {
            None => Box::pin(publisher.run()),
            Some((opened, receipts)) => {
                let transactor = Transactor {
                    publisher,
                    receipts,
                    progress: opened.progress,
                    protocol: opened.protocol,
                    counters: Arc::clone(&relay.counters),
                    queue: Queue::default(),
                    topics: TopicCache::of_transactions(),
                    last_commit: None,
                    fetch_takes: Duration::ZERO,
                    receipt_bytes: 0,
                    recent: VecDeque::new(),
                };
                Box::pin(transactor.run())
            }
        };
        let (state, sent_all) = (Arc::clone(&self.state), self.sent_all.clone());
        self.spawn(async move {
            let producer = second.await;
            sent_all.cancel();
            // The producer lives until everything it has is settled.
            tokio::select! {
                () = state.done.cancelled() => {}
                () = state.abandon.cancelled() => {}
            }
            let_go_of(producer, receipts, &state).await;
            Done::Published
        });
    }

    fn spawn_settler(&mut self, leader: Leader, progress: Option<Arc<Progress>>, alone: bool) {
        let refusals = Arc::clone(&self.relay.refusals);
        let settler = Settler {
            leader,
            shared: Arc::clone(&self.state),
            parking: Parking::new(Arc::clone(&refusals)),
            held: HeldRecord::new(Arc::clone(&refusals)),
            refusals,
            counters: Arc::clone(&self.relay.counters),
            pings: self.relay.pings(),
            sent_all: self.sent_all.clone(),
            consecutive: self.table.id_is_unique,
            alone,
            progress,
        };
        let state = Arc::clone(&self.state);
        self.spawn(async move {
            let leader = settler.run().await;
            state.done.cancel();
            Done::Leader(leader)
        });
    }

    /// Prepares the held keys for a term that reads the table from the start. Returns the highest
    /// of the rows that an earlier term refused or could not delete: to send a refused row again
    /// would have its batch refused and end the term, again and again.
    fn start_over(&self) -> Option<i64> {
        let refusals = &self.relay.refusals;
        let held = {
            let mut held = refusals.held();
            held.start_over(std::time::Instant::now());
            held.heads().map(|row| row.id).max()
        };
        let mut window = self.state.window();
        let undeleted = window.undeleted_rows().rows().map(|row| row.id).max();
        refusals.rejected.highest().max(held).max(undeleted)
    }
}

/// Drops the producer without a wait: the leader lock would be held meanwhile. A producer that
/// still has records must not send them after those of the next one, so they are taken from it
/// first.
async fn let_go_of(producer: Arc<Producer>, receipts: Option<Arc<Receipts>>, state: &TermState) {
    if state.window().unacknowledged() == 0 {
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

/// Turns notifications into "look", a number that goes up: a burst of them is one look, and one
/// during a fetch is not lost.
async fn listen(
    mut listener: Listener,
    table: Table,
    ring: watch::Sender<u64>,
    pings: Pings,
    yields: Duration,
    state: Arc<TermState>,
    refusals: Arc<Refusals>,
) -> Done {
    let counters = Arc::clone(&refusals.counters);
    let mut next_ping = pings.first(Asked::Listener);
    let mut patience = yields;
    loop {
        let heard = tokio::select! {
            () = state.halt.cancelled() => return Done::Listener(listener),
            heard = listener.rung() => heard,
            reason = counters.kafka.unreachable_for(patience) => {
                let end = match listener.waiting_relay(&table).await {
                    Ok(None) => {
                        // A standby that reaches a broker may come later.
                        patience += yields / 4;
                        continue;
                    }
                    Ok(Some(standby)) => yielded(&reason, yields, &standby),
                    Err(error) => TermEnd::Session(error),
                };
                state.end(end);
                return Done::Listener(listener);
            }
            () = sleep_until(next_ping) => match listener.session.ping().await {
                Ok(()) => {
                    next_ping = Instant::now() + pings.interval();
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let paused = match heard {
            Ok(Ring::Rows) => Ok(false),
            Ok(Ring::HeldAsked(to)) => {
                let rows = refusals.held().list(MOST_TOLD, std::time::Instant::now());
                listener.answer(&to, &rows).await.map(|()| false)
            }
            Ok(Ring::PauseChanged) => listener.entry(&table).await.map(|it| it.pause.is_some()),
            Err(error) => Err(error),
        };
        let end = match paused {
            Ok(false) => {
                counters.rings.add(1);
                ring.send_modify(|rings| *rings += 1);
                continue;
            }
            Ok(true) => {
                info!("pausing: no new rows are fetched, rows in flight are settled");
                TermEnd::Paused
            }
            Err(error) => TermEnd::Session(error),
        };
        state.end(end);
        return Done::Listener(listener);
    }
}
