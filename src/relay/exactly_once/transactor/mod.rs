//! Second stage where each event is delivered once: the rows that wait become one transaction with
//! their receipt. While it commits, the fetcher fetches the next rows, and the settler deletes
//! those of the transaction before.

mod failed;
mod queue;
mod sending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

pub(crate) use self::queue::Queue;
use super::progress::Progress;
use super::protocol::{Input, NextStep, Protocol};
use crate::event::RowId;
use crate::kafka::{
    CALL_PATIENCE, Code, Producer, Receipts, TransactionError, TransactionErrorKind,
};
use crate::relay::in_flight::Ticket;
use crate::relay::observer::Step;
use crate::relay::poison::Suspects;
use crate::relay::publish::{Publisher, TopicCache};
use crate::relay::term_state::{Counters, TermState};

/// Most rows of a transaction. A larger one would not be faster.
const MOST_ROWS: usize = 20_000;
/// A transaction that takes longer is made smaller: brokers abort those of a minute.
const LONG: Duration = Duration::from_secs(10);
/// Bound on the wait for rows for which a transaction was begun early. Brokers abort a transaction
/// that is open for a minute.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// A commit that takes longer than this is awaited on another thread.
const SOON: Duration = Duration::from_millis(50);

/// The transactor of one term.
pub(crate) struct Transactor {
    pub(crate) publisher: Publisher,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) protocol: Protocol,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: Queue,
    pub(crate) topics: TopicCache,
    pub(crate) last_commit: Option<Instant>,
    /// The time from the last announcement of rows to their arrival.
    pub(crate) fetch_takes: Duration,
    /// The size of the last receipt.
    pub(crate) receipt_bytes: usize,
    /// Topics of the transactions that may still have rows in the table, with the ticket after the
    /// last row of each transaction.
    pub(crate) recent: VecDeque<(Ticket, FxHashSet<String>)>,
}

/// One transaction of the rows with the tickets from `first` up to `end`.
struct Open {
    first: Ticket,
    end: Ticket,
    /// The number of its receipt, if it was sent.
    receipt: Option<i64>,
    /// Records for which a report is awaited.
    records: usize,
    /// Whether no transaction follows.
    last: bool,
    begun: Option<Instant>,
    /// Whether it was begun, and neither committed nor aborted yet.
    undecided: bool,
    failed: Vec<(Ticket, Code)>,
    error: Option<TransactionError>,
    /// Whether its failure was attributed to rows, which ends the term.
    is_attributed: bool,
}

impl Open {
    fn at(first: Ticket) -> Self {
        Self {
            first,
            end: first,
            receipt: None,
            records: 0,
            last: false,
            begun: None,
            undecided: false,
            failed: Vec::new(),
            error: None,
            is_attributed: false,
        }
    }
}

/// The term was abandoned.
struct Abandoned;

impl Transactor {
    /// Runs until the fetcher is done or no transaction can follow. Returns the producer.
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

    fn shared(&self) -> &Arc<TermState> {
        &self.publisher.shared
    }

    fn suspects(&self) -> &Suspects {
        &self.publisher.refusals.suspects
    }

    /// Waits for rows; `false` if no more come. When a ring announces rows, the transaction is
    /// begun before they arrive. It is possible that none come.
    async fn await_rows(&mut self, open: &mut Open) -> bool {
        let mut coming = self.shared().coming.subscribe();
        let mut announced: Option<Instant> = None;
        while self.queue.is_empty() {
            let known = announced.is_some();
            let until = announced.unwrap_or_else(Instant::now) + ANNOUNCED;
            tokio::select! {
                // Rows that have arrived need no announcement.
                biased;
                fetched = self.publisher.batches.recv() => match fetched {
                    Some(fetched) => self.queue.push(fetched),
                    None => return false,
                },
                // The borrow ends at once, because `begin` blocks and the fetcher has more to
                // announce.
                _ = async { coming.wait_for(|coming| *coming != known).await.map(drop) } => {
                    match announced {
                        None => {
                            announced = Some(Instant::now());
                            self.begin_early(open);
                        }
                        Some(_) if open.undecided => {
                            // Rows are passed on before their announcement ends.
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

    /// Runs one transaction up to its commit; an error if this producer can send no more.
    async fn transaction(&mut self, open: &mut Open) -> Result<(), Abandoned> {
        let mut action = self.protocol.on(Input::Rows);
        loop {
            let event = match action {
                NextStep::Send => self.send(open).await?,
                NextStep::Commit => self.commit(open).await?,
                NextStep::Abort => self.abort(open).await?,
                NextStep::Delete => {
                    self.committed(open);
                    return Ok(());
                }
                NextStep::Renew => {
                    self.end(open);
                    return Err(Abandoned);
                }
                // These steps come before the first transaction.
                NextStep::Fence | NextStep::Read | NextStep::Clear | NextStep::Await => Input::Lost,
            };
            action = self.protocol.on(event);
        }
    }

    async fn commit(&mut self, open: &mut Open) -> Result<Input, Abandoned> {
        let is_first = std::mem::take(&mut open.undecided);
        match self.ask_to_commit(is_first).await? {
            Ok(()) => {
                self.last_commit = Some(Instant::now());
                Ok(Input::Done)
            }
            Err(error) if error.kind == TransactionErrorKind::Retry => {
                debug!(%error, "the commit of a transaction is not answered yet");
                Ok(Input::Again)
            }
            Err(error) => {
                open.error = Some(error);
                Ok(Input::Lost)
            }
        }
    }

    /// Commits. The answer usually arrives before another thread would have started.
    async fn ask_to_commit(
        &self,
        is_first: bool,
    ) -> Result<Result<(), TransactionError>, Abandoned> {
        // A program that embeds the relay may have a runtime with one thread, which must not be
        // blocked.
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

    /// Records the commit: Kafka has the rows, and consumers that read committed records get them.
    fn committed(&mut self, open: &Open) {
        let rows: Vec<RowId> = {
            let mut window = self.publisher.shared.window();
            (open.first..open.end)
                .filter_map(|ticket| window.acknowledge(ticket))
                .collect()
        };
        self.counters.acknowledged(rows.len());
        self.counters.sent.add(rows.iter().copied());
        if let Some(observer) = self.counters.observer() {
            observer.committed(open.end);
        }
        self.shared().published(open.end);
        let mut ids = rows.iter().map(|row| row.id);
        let now = std::time::Instant::now();
        self.counters.passed(Step::Acknowledged, &mut ids, now);
        self.publisher.refusals.release(self.shared(), &rows);
        self.suspects().clear(&rows);
        if let Some(receipt) = open.receipt {
            let took = open.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            self.fit_transactions(open.end - open.first, took);
            self.progress.commit(receipt);
        }
        self.shared().room.notify_waiters();
    }

    /// Bounds the next transactions by the time that so many rows took.
    fn fit_transactions(&self, rows: usize, took: Duration) {
        if took > LONG {
            let fitting = rows as f64 * LONG.as_secs_f64() / took.as_secs_f64();
            self.suspects()
                .bound_transactions((fitting as usize).max(1));
        } else if took < LONG / 2 {
            self.suspects().widen_transactions(MOST_ROWS);
        }
    }

    /// Runs a blocking call of the producer.
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
                kind: TransactionErrorKind::Unknown,
                code: None,
                reason: panic.to_string(),
            }))),
            () = self.shared().abandon.cancelled() => Err(Abandoned),
        }
    }
}
