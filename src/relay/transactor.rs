//! Second stage of a relay that sends each event once: rows that wait become one transaction with their receipt. While it commits, the first stage
//! fetches the next rows, and the third deletes those of the one before.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::blame::{Blame, NO_ROW, blame};
use super::ledger::Ledger;
use super::observer::Step;
use super::once::{Action, Event, Once};
use super::publisher::{Publisher, Topical};
use super::scan::Fetched;
use super::shared::{Counters, Ending, Shared};
use super::window::Ticket;
use crate::kafka::{
    Code, Producer, Receipt, Receipts, SendError, TransactionError, Trouble, Verdict, decide, told,
};
use crate::postgres::Sent;

/// Most rows of a transaction: a larger one would not be faster.
const MOST_ROWS: usize = 20_000;
/// After its answer to a commit, the coordinator still writes the markers, which takes some milliseconds. A partition that is added to the next
/// transaction before they are all written is refused, and librdkafka tries again 20 ms later.
const MARKERS: Duration = Duration::from_millis(3);
/// While reports are awaited, the producer is asked this often whether the transaction can still be committed.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// So long without any report, the transaction is given up: a topic that was deleted under the producer is waited for without end and without a word.
const SILENCE: Duration = Duration::from_secs(15);

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
    /// Topics of the transactions that may have rows left in the table, each with the ticket after its last row.
    pub(crate) recent: VecDeque<(Ticket, FxHashSet<String>)>,
}

/// Batches that were taken from the first stage. Of the first of them, a part may be sent already.
#[derive(Default)]
pub(crate) struct Queue {
    batches: VecDeque<Fetched>,
    sent: usize,
}

impl Queue {
    /// The next row's ticket.
    fn next(&self) -> Option<Ticket> {
        self.batches.front().map(|batch| batch.first + self.sent)
    }

    /// Rows of the first batch that may go into a transaction that has `rows` already, and whether more may follow. A suspect goes alone.
    fn part(&self, rows: usize, most: usize, suspects: &FxHashSet<Sent>) -> (usize, bool) {
        let Some(fetched) = self.batches.front() else {
            return (0, false);
        };
        let room = most.saturating_sub(rows);
        if suspects.is_empty() {
            return (room.min(fetched.batch.len() - self.sent), true);
        }
        let mut innocent = 0;
        for head in fetched.batch.heads().skip(self.sent).take(room) {
            let (id, created_at) = (head.id, head.created_at);
            if suspects.contains(&Sent { id, created_at }) {
                return (if rows + innocent == 0 { 1 } else { innocent }, false);
            }
            innocent += 1;
        }
        (innocent, true)
    }

    /// The rows before this ticket are sent.
    fn advance(&mut self, next: Ticket) {
        if let Some(fetched) = self.batches.front() {
            self.sent = next - fetched.first;
            if self.sent == fetched.batch.len() {
                self.batches.pop_front();
                self.sent = 0;
            }
        }
    }
}

/// One transaction: the rows whose tickets are from `first` up to `end`.
struct Open {
    first: Ticket,
    end: Ticket,
    receipt: i64,
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

/// Nobody waits for it any more.
struct Abandoned;

impl Transactor {
    /// Runs until the first stage is done, or until no transaction can follow. Gives the producer back.
    pub(crate) async fn run(mut self) -> Arc<Producer> {
        while self.await_rows().await {
            let Some(first) = self.queue.next() else {
                continue;
            };
            let mut open = Open {
                first,
                end: first,
                receipt: 0,
                records: 0,
                last: false,
                undecided: false,
                failed: Vec::new(),
                error: None,
                blamed: false,
            };
            let done = self.transaction(&mut open).await.is_ok();
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

    /// Waits for rows; `false` when no more will come.
    async fn await_rows(&mut self) -> bool {
        if self.queue.next().is_none() {
            let Some(fetched) = self.publisher.batches.recv().await else {
                return false;
            };
            self.queue.batches.push_back(fetched);
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

    /// Begins, hands over all rows that wait and then their receipt, and waits for the reports.
    async fn send(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        // It asks no broker, and a lone row would wait longer for another thread than for this.
        if let Err(error) = self.publisher.producer.begin() {
            open.error = Some(error);
            return Ok(Event::Lost);
        }
        open.undecided = true;
        if let Some(committed) = self.last_commit {
            // Rows that come meanwhile go with this transaction. For a lone row the time has long passed.
            sleep_until(committed + MARKERS).await;
        }
        self.send_rows(open).await;
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        if !rows.is_empty() {
            open.records = rows.len() + 1;
            if let Err(error) = self.send_receipt(open) {
                let code = match &error {
                    // It names too many rows: when those of earlier transactions are deleted, it does not.
                    SendError::Row(_) => Some(Code::MessageSizeTooLarge),
                    SendError::QueueFull | SendError::Producer(_) => None,
                };
                open.error = Some(TransactionError {
                    trouble: Trouble::Abort,
                    code,
                    reason: format!("the receipt cannot be sent: {error}"),
                });
                return Ok(Event::Refused);
            }
        }
        self.await_reports(open).await
    }

    async fn send_rows(&mut self, open: &mut Open) {
        let (most, suspects) = {
            let memory = self.publisher.refusals.memory.lock();
            let memory = memory.unwrap_or_else(PoisonError::into_inner);
            let most = memory.transaction_rows.unwrap_or(MOST_ROWS);
            (most, memory.suspects.clone())
        };
        loop {
            let rows = open.end - open.first;
            let (part, goes_on) = self.queue.part(rows, most, &suspects);
            let Some(fetched) = self.queue.batches.front().filter(|_| part > 0) else {
                return;
            };
            let range = self.queue.sent..self.queue.sent + part;
            let begin = fetched.first + range.start;
            let next = self
                .publisher
                .publish(fetched, range.clone(), &mut self.topics)
                .await;
            let events = fetched.batch.events().skip(range.start);
            let hashes: Vec<u32> = events
                .take(next - begin)
                .map(|event| event.fingerprint())
                .collect();
            self.publisher.shared.window().describe(begin, hashes);
            open.end = next;
            self.queue.advance(next);
            if next < begin + part {
                // A smaller limit, or a row that the policy stops at: what was handed over goes, and no more.
                open.last = true;
                return;
            }
            if !goes_on {
                return;
            }
            if self.queue.next().is_none()
                && let Ok(more) = self.publisher.batches.try_recv()
            {
                self.queue.batches.push_back(more);
            }
        }
    }

    fn send_receipt(&mut self, open: &mut Open) -> Result<(), SendError> {
        let (named, settled) = {
            let window = self.publisher.shared.window();
            (window.named_before(open.end), window.first_ticket())
        };
        self.recent.retain(|(end, _)| *end > settled);
        self.recent.push_back((open.end, self.topics.take()));
        let topics: BTreeSet<&String> = self.recent.iter().flat_map(|(_, all)| all).collect();
        let (number, deletes) = self.ledger.next_receipt();
        open.receipt = number;
        let mut receipt = Receipt {
            number: number.unsigned_abs(),
            deletes: deletes.unsigned_abs(),
            topics: topics.into_iter().cloned().collect(),
            rows: named,
        };
        self.receipts
            .send(&self.publisher.producer, &receipt.encode(), NO_ROW)
    }

    async fn await_reports(&self, open: &mut Open) -> Result<Event, Abandoned> {
        let reports = Arc::clone(&self.shared().reports);
        let mut delivered = 0;
        let mut heard = Instant::now();
        loop {
            let came = reports.take();
            if !came.acknowledged.is_empty() {
                heard = Instant::now();
            }
            delivered += came.acknowledged.len();
            open.failed.extend(came.failed);
            if came.fatal.is_some() {
                open.error = self.blocking(Producer::is_healthy).await?.err();
                return Ok(Event::Lost);
            }
            if !open.failed.is_empty() {
                // Where a partition could not be added, all records come back without a reason, and the producer has it.
                if open
                    .failed
                    .iter()
                    .all(|(_, code)| decide(*code) == Verdict::Purged)
                {
                    open.error = self.blocking(Producer::is_healthy).await?.err();
                }
                return Ok(Event::Refused);
            }
            if delivered >= open.records {
                return Ok(Event::Done);
            }
            tokio::select! {
                () = reports.arrived() => {}
                () = self.shared().abandon.cancelled() => return Err(Abandoned),
                () = sleep(HEALTH_INTERVAL) => {
                    if heard.elapsed() > SILENCE {
                        open.error = Some(TransactionError {
                            trouble: Trouble::Abort,
                            code: None,
                            reason: format!("Kafka has taken no record for {SILENCE:?}"),
                        });
                        return Ok(Event::Refused);
                    }
                    if let Err(error) = self.blocking(Producer::is_healthy).await? {
                        let may_abort = error.trouble == Trouble::Abort;
                        open.error = Some(error);
                        return Ok(if may_abort { Event::Refused } else { Event::Lost });
                    }
                }
            }
        }
    }

    async fn commit(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        open.undecided = false;
        match self.blocking(Producer::commit).await? {
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

    /// Aborts, and finds out whose fault it was.
    async fn abort(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        open.undecided = false;
        if let Err(error) = self.blocking(Producer::abort).await? {
            debug!(%error, "the transaction was not aborted; the next producer ends it");
            if error.trouble == Trouble::Fenced {
                open.error = Some(error);
            }
        }
        open.failed.extend(self.shared().reports.take().failed);
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        let whole = open.error.as_ref().and_then(|error| error.code);
        let suspected = rows.iter().any(|ticket| self.is_suspect(*ticket));
        let blame = blame(&rows, &open.failed, whole, suspected);
        open.blamed = blame != Blame::Nobody;
        match blame {
            Blame::Rows {
                mut convicts,
                suspects,
            } => {
                let refusals = &self.publisher.refusals;
                let (again, suspects): (Vec<_>, Vec<_>) = suspects
                    .into_iter()
                    .partition(|(ticket, _)| refusals.was_refused(self.shared(), *ticket));
                convicts.extend(again);
                for (ticket, code) in convicts {
                    refusals.refuse(self.shared(), ticket, told(code));
                }
                self.suspect(&suspects);
                self.shared().end(Ending::Rebatch);
            }
            Blame::Somebody => {
                let smaller = (rows.len() / 2).max(1);
                info!(
                    rows = rows.len(),
                    error = open.error.as_ref().map(ToString::to_string),
                    "a transaction was refused and no row named: its rows are sent again in smaller ones"
                );
                let mut memory = self.memory();
                memory.transaction_rows = Some(smaller);
                drop(memory);
                self.shared().end(Ending::Rebatch);
            }
            Blame::Nobody => {}
        }
        Ok(Event::Done)
    }

    /// The term ends with the transaction open. Whoever reads committed records of its partitions waits until it is ended, for others' records too.
    async fn abort_at_last(&self) {
        let producer = Arc::clone(&self.publisher.producer);
        match spawn_blocking(move || producer.abort_at_last()).await {
            Ok(Ok(())) => debug!("the open transaction is aborted"),
            Ok(Err(error)) => debug!(%error, "the open transaction is left to the next producer"),
            Err(panic) => {
                debug!(error = %panic, "the open transaction is left to the next producer")
            }
        }
    }

    fn is_suspect(&self, ticket: Ticket) -> bool {
        let row = self.shared().window().sent(ticket);
        row.is_some_and(|(row, _)| self.memory().suspects.contains(&row))
    }

    fn suspect(&self, suspects: &[(Ticket, Code)]) {
        let mut rows = Vec::new();
        for (ticket, _) in suspects {
            rows.extend(self.shared().window().give_up(*ticket));
        }
        let mut memory = self.memory();
        if let (Some((_, code)), true) = (suspects.first(), memory.suspects.is_empty()) {
            info!(
                rows = rows.len(),
                error = %code,
                "a batch was refused: its rows are sent again one by one"
            );
        }
        memory.suspects.extend(rows);
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, super::shared::Memory> {
        let memory = self.publisher.refusals.memory.lock();
        memory.unwrap_or_else(PoisonError::into_inner)
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
        if let Some(most) = memory.transaction_rows {
            let larger = most.saturating_mul(2);
            memory.transaction_rows = (larger < MOST_ROWS).then_some(larger);
        }
        drop(memory);
        if open.records > 0 {
            self.ledger.commit(open.receipt);
        }
        self.shared().room.notify_waiters();
    }

    /// This producer is of no more use. Unless a row's fault has ended the term already, this does.
    fn end(&self, open: &Open) {
        if open.blamed {
            return;
        }
        let reason = match (&open.error, open.failed.first()) {
            (Some(error), _) => error.reason.clone(),
            (None, Some((_, code))) => code.to_string(),
            (None, None) => "the answer to a commit came late: what it did is read".to_owned(),
        };
        let fenced = open
            .error
            .as_ref()
            .is_some_and(|error| error.trouble == Trouble::Fenced);
        self.shared().end(if fenced {
            Ending::Fenced(reason)
        } else {
            Ending::Producer(reason)
        });
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
