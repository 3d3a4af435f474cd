//! Second stage of a relay that sends each event once: rows that wait become one transaction with their receipt. While it commits, the first stage
//! fetches the next rows, and the third deletes those of the one before.

mod failed;
mod queue;
mod sending;

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

pub(crate) use self::queue::Queue;
use super::ledger::Ledger;
use super::observer::Step;
use super::once::{Action, Event, Once};
use super::publisher::{Publisher, Topical};
use super::shared::{Counters, Memory, Shared};
use super::window::Ticket;
use crate::kafka::{CALL_PATIENCE, Code, Producer, Receipts, TransactionError, Trouble};
use crate::postgres::Sent;

/// Most rows of a transaction: a larger one would not be faster.
const MOST_ROWS: usize = 20_000;
/// A transaction that was begun for rows that a ring announced waits for them no longer than this: brokers end one that is open for a minute.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// A commit that takes longer than this is waited for by a thread of its own.
const SOON: Duration = Duration::from_millis(50);

/// What the second stage holds.
pub(crate) struct Transactor {
    pub(crate) publisher: Publisher,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) once: Once,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: Queue,
    pub(crate) topics: Topical,
    pub(crate) last_commit: Option<Instant>,
    /// From the announcement of rows until they came, the last time.
    pub(crate) fetch_takes: Duration,
    /// Topics of the transactions that may have rows left in the table, each with the ticket after its last row.
    pub(crate) recent: VecDeque<(Ticket, FxHashSet<String>)>,
}

/// One transaction: the rows whose tickets are from `first` up to `end`.
struct Open {
    first: Ticket,
    end: Ticket,
    /// The number of its receipt, once that is sent.
    receipt: Option<i64>,
    /// Records that a report is awaited for.
    records: usize,
    /// None follows.
    last: bool,
    /// It is begun, and neither its commit nor its abort was asked for.
    undecided: bool,
    failed: Vec<(Ticket, Code)>,
    error: Option<TransactionError>,
    /// It was a row's fault, and the term ends for that.
    blamed: bool,
}

impl Open {
    fn at(first: Ticket) -> Self {
        Self {
            first,
            end: first,
            receipt: None,
            records: 0,
            last: false,
            undecided: false,
            failed: Vec::new(),
            error: None,
            blamed: false,
        }
    }
}

/// Nobody waits for it any more.
struct Abandoned;

impl Transactor {
    /// Runs until the first stage is done, or until no transaction can follow. Gives the producer back.
    pub(crate) async fn run(mut self) -> Arc<Producer> {
        loop {
            let mut open = Open::at(self.queue.next());
            let mut done = false;
            if self.await_rows(&mut open).await {
                (open.first, open.end) = (self.queue.next(), self.queue.next());
                done = self.transaction(&mut open).await.is_ok();
            }
            if !done || open.last {
                let left = if done { open.end } else { open.first };
                if open.undecided {
                    self.abort_at_last().await;
                }
                self.publisher.give_up_from(left).await;
                break;
            }
        }
        self.publisher.producer
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.publisher.shared
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        let memory = self.publisher.refusals.memory.lock();
        memory.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for rows; `false` when no more will come. Where a ring announces them, the transaction is begun before they are here; then it is possible
    /// that none come.
    async fn await_rows(&mut self, open: &mut Open) -> bool {
        let mut coming = self.shared().coming.subscribe();
        let mut announced: Option<Instant> = None;
        while self.queue.is_empty() {
            let known = announced.is_some();
            let until = announced.unwrap_or_else(Instant::now) + ANNOUNCED;
            tokio::select! {
                // Rows that are here need no announcement.
                biased;
                fetched = self.publisher.batches.recv() => match fetched {
                    Some(fetched) => self.queue.push(fetched),
                    None => return false,
                },
                // What is borrowed is given back at once: to begin blocks, and the first stage has more to announce.
                _ = async { coming.wait_for(|coming| *coming != known).await.map(drop) } => {
                    match announced {
                        None => {
                            announced = Some(Instant::now());
                            self.begin_early(open);
                        }
                        Some(_) if open.undecided => {
                            // They are passed on before the announcement ends.
                            if let Ok(fetched) = self.publisher.batches.try_recv() {
                                self.queue.push(fetched);
                            }
                            break;
                        }
                        Some(at) => {
                            self.fetch_takes = at.elapsed();
                            announced = None;
                        }
                    }
                }
                () = sleep_until(until), if open.undecided => break,
                () = self.publisher.shared.abandon.cancelled() => return false,
            }
        }
        if let Some(at) = announced {
            self.fetch_takes = at.elapsed();
        }
        true
    }

    /// One transaction from its beginning to its commit; an error when this producer has no more to do.
    async fn transaction(&mut self, open: &mut Open) -> Result<(), Abandoned> {
        let mut action = self.once.on(Event::Rows);
        loop {
            let event = match action {
                Action::Send => self.send(open).await?,
                Action::Commit => self.commit(open).await?,
                Action::Abort => self.abort(open).await?,
                Action::Delete => {
                    self.committed(open);
                    return Ok(());
                }
                Action::Renew => {
                    self.end(open);
                    return Err(Abandoned);
                }
                // Those come before the first transaction.
                Action::Fence | Action::Read | Action::Clear | Action::Await => Event::Lost,
            };
            action = self.once.on(event);
        }
    }

    async fn commit(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        let is_first = std::mem::take(&mut open.undecided);
        match self.ask_to_commit(is_first).await? {
            Ok(()) => {
                self.last_commit = Some(Instant::now());
                Ok(Event::Done)
            }
            Err(error) if error.trouble == Trouble::Again => {
                debug!(%error, "the commit of a transaction is not answered yet");
                Ok(Event::Again)
            }
            Err(error) => {
                open.error = Some(error);
                Ok(Event::Lost)
            }
        }
    }

    /// A commit is usually answered before another thread would have begun to ask for it.
    async fn ask_to_commit(
        &self,
        is_first: bool,
    ) -> Result<Result<(), TransactionError>, Abandoned> {
        // A program that embeds the relay may have a runtime with one thread, which nothing may block.
        if is_first && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            let answer = block_in_place(|| self.publisher.producer.commit(SOON));
            let is_open = |error: &TransactionError| error.code == Some(Code::OperationTimedOut);
            if !answer.as_ref().is_err_and(is_open) {
                return Ok(answer);
            }
        }
        self.blocking(|producer| producer.commit(CALL_PATIENCE))
            .await
    }

    /// Kafka has the rows, and says so to everybody who reads committed records.
    fn committed(&mut self, open: &Open) {
        let rows: Vec<Sent> = {
            let mut window = self.publisher.shared.window();
            (open.first..open.end)
                .filter_map(|ticket| window.acknowledge(ticket))
                .collect()
        };
        self.counters.acknowledged(rows.len());
        if let Some(traces) = self.counters.traces() {
            traces.committed(open.end);
        }
        self.shared().published(open.end);
        let mut ids = rows.iter().map(|row| row.id);
        let now = std::time::Instant::now();
        self.counters.passed(Step::Acknowledged, &mut ids, now);
        self.publisher.refusals.release(self.shared(), &rows);
        let mut memory = self.memory();
        if !memory.suspects.is_empty() {
            for row in &rows {
                memory.suspects.remove(row);
            }
        }
        if let (Some(most), Some(_)) = (memory.transaction_rows, open.receipt) {
            let larger = most.saturating_mul(2);
            memory.transaction_rows = (larger < MOST_ROWS).then_some(larger);
        }
        drop(memory);
        if let Some(receipt) = open.receipt {
            self.ledger.commit(receipt);
        }
        self.shared().room.notify_waiters();
    }

    /// Runs a call that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        call: fn(&Producer) -> Result<T, TransactionError>,
    ) -> Result<Result<T, TransactionError>, Abandoned> {
        if self.shared().abandon.is_cancelled() {
            return Err(Abandoned);
        }
        let producer = Arc::clone(&self.publisher.producer);
        let call = spawn_blocking(move || call(&producer));
        tokio::select! {
            done = call => Ok(done.unwrap_or_else(|panic| Err(TransactionError {
                trouble: Trouble::Lost,
                code: None,
                reason: panic.to_string(),
            }))),
            () = self.shared().abandon.cancelled() => Err(Abandoned),
        }
    }
}
