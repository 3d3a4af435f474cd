//! What a transaction is made of: its rows and their receipt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::super::blame::NO_ROW;
use super::super::once::Event;
use super::{Abandoned, MOST_ROWS, Open, Transactor};
use crate::kafka::{
    Code, Producer, Receipt, SendError, TransactionError, Trouble, Verdict, decide,
};

/// After its answer to a commit, the coordinator still writes the markers, which takes some milliseconds. A partition that is added to the next
/// transaction before they are all written is refused, and librdkafka tries again 20 ms later.
const MARKERS: Duration = Duration::from_millis(3);
/// A fetch that takes longer than this would not be hidden by librdkafka's millisecond.
const ADDED_AFTER: Duration = Duration::from_micros(900);
/// While reports are awaited, the producer is asked this often whether the transaction can still be committed.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// So long without any report, the transaction is given up: a topic that was deleted under the producer is waited for without end and without a word.
const SILENCE: Duration = Duration::from_secs(15);

impl Transactor {
    /// Begins before the rows are here, with a first record: librdkafka waits a millisecond before it adds the partitions of a transaction to it, and
    /// whatever is handed over meanwhile is added by the same request. What comes later has to wait for that one's answer first.
    pub(super) fn begin_early(&mut self, open: &mut Open) {
        let is_worth_it = self.fetch_takes < ADDED_AFTER && self.are_markers_written();
        // What fails here fails again when there are rows, and is told then.
        if is_worth_it && self.publisher.producer.begin().is_ok() {
            open.undecided = true;
            let sent = self.receipts.send_opener(&self.publisher.producer, NO_ROW);
            open.records = usize::from(sent.is_ok());
        }
    }

    fn are_markers_written(&self) -> bool {
        self.last_commit.is_none_or(|at| at.elapsed() >= MARKERS)
    }

    /// Begins if that is not done yet, hands over all rows that wait and then their receipt, and waits for the reports.
    pub(super) async fn send(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        if !open.undecided {
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
        }
        self.send_rows(open).await;
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        if !rows.is_empty() {
            open.records += rows.len() + 1;
            if let Err(error) = self.send_receipt(open) {
                let code = match &error {
                    // It names too many rows: when those of earlier transactions are deleted, it does not.
                    SendError::Row(_) => Some(Code::MessageSizeTooLarge),
                    SendError::QueueFull | SendError::Fenced(_) | SendError::Producer(_) => None,
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
            let memory = self.memory();
            let most = memory.transaction_rows.unwrap_or(MOST_ROWS);
            (most, memory.suspects.clone())
        };
        loop {
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
            if next < begin + part {
                // A smaller limit, or a row that the policy stops at: what was handed over goes, and no more.
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
        let (number, deletes) = self.ledger.next_receipt();
        open.receipt = Some(number);
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
}
