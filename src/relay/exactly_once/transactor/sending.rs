//! Sends the records of a transaction: its rows and their receipt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::super::attribution::NO_ROW;
use super::super::protocol::Input;
use super::{Abandoned, MOST_ROWS, Open, Transactor};
use crate::kafka::{
    Code, Producer, Receipt, SendError, TransactionError, TransactionErrorKind, Verdict, decide,
};
use crate::relay::term_state::TermEnd;

/// After its answer to a commit, the coordinator still writes markers for some milliseconds. Until
/// all are written, it refuses to add a partition to the next transaction, and librdkafka tries
/// again 20 ms later.
const MARKERS: Duration = Duration::from_millis(3);
/// Receipts take no more than this many bytes a second on average: each one names every row that is
/// left in the table, and a lone row would write it again.
const RECEIPT_RATE: f64 = 1e6;
/// The millisecond that librdkafka waits does not hide a fetch that takes longer than this.
const ADDED_AFTER: Duration = Duration::from_micros(900);
/// While reports are awaited, the producer is asked at this interval whether the transaction can
/// still be committed.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// After this time without any report, the brokers are asked about the topics.
const DOUBT: Duration = Duration::from_secs(5);
/// A transaction that is open for longer is aborted, before the brokers do so.
const MOST_TIME: Duration = Duration::from_secs(40);
/// A transaction without any report for this long is given up: librdkafka waits for a deleted topic
/// for ever, without an error.
const SILENCE: Duration = Duration::from_secs(15);

impl Transactor {
    /// Begins the transaction before the rows arrive, with a first record. librdkafka waits a
    /// millisecond before it adds partitions to a transaction, and records that are handed over
    /// meanwhile are added by the same request. Later ones have to wait for the answer to it.
    pub(super) fn begin_early(&mut self, open: &mut Open) {
        let is_worth_it = self.fetch_takes < ADDED_AFTER && self.are_markers_written();
        // A failure here repeats when there are rows, and is reported then.
        if is_worth_it && self.publisher.producer.begin().is_ok() {
            open.undecided = true;
            open.begun = Some(Instant::now());
            let sent = self.receipts.send_opener(&self.publisher.producer, NO_ROW);
            open.records = usize::from(sent.is_ok());
        }
    }

    fn are_markers_written(&self) -> bool {
        self.last_commit
            .is_none_or(|at| at.elapsed() >= self.rest())
    }

    /// The time between a commit and the next transaction.
    fn rest(&self) -> Duration {
        let receipt = Duration::from_secs_f64(self.receipt_bytes as f64 / RECEIPT_RATE);
        receipt.max(MARKERS)
    }

    /// Begins the transaction if necessary, hands over all waiting rows and then their receipt, and
    /// waits for the reports.
    pub(super) async fn send(&mut self, open: &mut Open) -> Result<Input, Abandoned> {
        if !open.undecided {
            // `begin` asks no broker, and a lone row would wait longer for another thread than for
            // this call.
            if let Err(error) = self.publisher.producer.begin() {
                open.error = Some(error);
                return Ok(Input::Lost);
            }
            open.undecided = true;
            open.begun = Some(Instant::now());
            if let Some(committed) = self.last_commit {
                // Rows that arrive meanwhile go with this transaction. For a lone row this time has
                // long passed.
                sleep_until(committed + self.rest()).await;
            }
        }
        self.send_rows(open).await;
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        if !rows.is_empty() {
            open.records += rows.len() + 1;
            if let Err(error) = self.send_receipt(open) {
                if matches!(error, SendError::Transaction) {
                    // It failed while rows were handed over. If no report names a row, the producer
                    // has the reason.
                    return Ok(match self.health(open).await? {
                        Input::Done => Input::Lost,
                        event => event,
                    });
                }
                let code = match &error {
                    // The receipt lists too many rows. It gets shorter when rows of earlier
                    // transactions are deleted.
                    SendError::Row(_) => Some(Code::MessageSizeTooLarge),
                    SendError::QueueFull
                    | SendError::Fenced(_)
                    | SendError::Transaction
                    | SendError::Producer(_) => None,
                };
                open.error = Some(TransactionError {
                    kind: TransactionErrorKind::Abort,
                    code,
                    reason: format!("the receipt cannot be sent: {error}"),
                });
                return Ok(Input::Refused);
            }
        }
        self.await_reports(open).await
    }

    async fn send_rows(&mut self, open: &mut Open) {
        let most = self.suspects().transaction_rows().unwrap_or(MOST_ROWS);
        loop {
            let suspects = self.suspects().rows();
            let rows = open.end - open.first;
            let (part, goes_on) = self.queue.part(rows, most, &suspects);
            let Some((fetched, sent)) = self.queue.front().filter(|_| part > 0) else {
                return;
            };
            let range = sent..sent + part;
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
            if std::mem::take(&mut self.topics.is_apart) {
                // The next row goes alone, behind those that were handed over.
                if open.end > open.first {
                    return;
                }
                continue;
            }
            if next < begin + part {
                // A smaller limit, or a row at which the policy stops: the rows that were handed
                // over go, and no more.
                open.last = true;
                return;
            }
            if !goes_on {
                return;
            }
            if self.queue.is_empty()
                && let Ok(more) = self.publisher.batches.try_recv()
            {
                self.queue.push(more);
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
        let (number, deletes) = self.progress.next_receipt();
        open.receipt = Some(number);
        let mut receipt = Receipt {
            number: number.unsigned_abs(),
            deletes: deletes.unsigned_abs(),
            topics: topics.into_iter().cloned().collect(),
            rows: named,
        };
        let receipt = receipt.encode();
        self.receipt_bytes = receipt.len();
        self.receipts
            .send(&self.publisher.producer, &receipt, NO_ROW)
    }

    async fn await_reports(&self, open: &mut Open) -> Result<Input, Abandoned> {
        let reports = Arc::clone(&self.shared().reports);
        let mut delivered = 0;
        let mut heard = Instant::now();
        let mut asked = false;
        loop {
            let came = reports.take();
            if !came.acknowledged.is_empty() {
                heard = Instant::now();
            }
            delivered += came.acknowledged.len();
            open.failed.extend(came.failed);
            if came.fatal.is_some() {
                open.error = self.blocking(Producer::is_healthy).await?.err();
                return Ok(Input::Lost);
            }
            if !open.failed.is_empty() {
                // If a partition could not be added, all records are returned without a reason, and
                // the producer has the reason.
                if open
                    .failed
                    .iter()
                    .all(|(_, code)| decide(*code) == Verdict::Purged)
                {
                    open.error = self.blocking(Producer::is_healthy).await?.err();
                }
                return Ok(Input::Refused);
            }
            if delivered >= open.records {
                return Ok(Input::Done);
            }
            tokio::select! {
                () = reports.arrived() => {}
                () = self.shared().abandon.cancelled() => return Err(Abandoned),
                () = sleep(HEALTH_INTERVAL) => {
                    if !asked && heard.elapsed() > DOUBT {
                        asked = true;
                        if self.misses_a_topic().await {
                            open.is_attributed = true;
                            self.shared().end(TermEnd::Rebatch);
                            return Ok(Input::Refused);
                        }
                    }
                    if open.begun.is_some_and(|begun| begun.elapsed() > MOST_TIME) {
                        self.too_slow(open, delivered);
                        return Ok(Input::Refused);
                    }
                    if heard.elapsed() > SILENCE {
                        open.error = Some(TransactionError {
                            kind: TransactionErrorKind::Abort,
                            code: None,
                            reason: format!("Kafka has taken no record for {SILENCE:?}"),
                        });
                        return Ok(Input::Refused);
                    }
                    match self.health(open).await? {
                        Input::Done => {}
                        event => return Ok(event),
                    }
                }
            }
        }
    }

    /// Asks the producer whether the open transaction can still be committed.
    async fn health(&self, open: &mut Open) -> Result<Input, Abandoned> {
        let Err(error) = self.blocking(Producer::is_healthy).await? else {
            return Ok(Input::Done);
        };
        let may_abort = error.kind == TransactionErrorKind::Abort;
        open.error = Some(error);
        Ok(if may_abort {
            Input::Refused
        } else {
            Input::Lost
        })
    }

    /// Gives up a transaction of which only so many records arrived.
    fn too_slow(&self, open: &mut Open, delivered: usize) {
        let throttled = self.shared().reports.health.traffic();
        warn!(
            rows = open.end - open.first,
            delivered,
            throttled_ms = throttled.and_then(|it| it.throttled),
            "a transaction was open for 40 s: its rows are sent again in smaller ones; raise the producer's quota, if the brokers throttle it"
        );
        self.fit_transactions(delivered, MOST_TIME);
        open.is_attributed = true;
        self.shared().end(TermEnd::Rebatch);
    }

    /// Asks the brokers about the topics of the transaction. Returns whether they do not know one:
    /// then its rows are sent again, and the next term asks about each topic first.
    async fn misses_a_topic(&self) -> bool {
        for topic in self.recent.back().iter().flat_map(|(_, topics)| topics) {
            let asked = spawn_blocking(self.publisher.producer.inquiry(topic));
            if let Some(refusal) = asked.await.ok().flatten() {
                info!(
                    topic,
                    error = refusal.reason,
                    "a topic takes no record any more"
                );
                return true;
            }
        }
        false
    }
}
