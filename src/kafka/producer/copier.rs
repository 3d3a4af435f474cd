//! Sends records of a topic again, as they are, for `doorbell replay`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::idempotent::{Batching, DEFAULT_BATCH_SIZE, Producer, SendError};
use super::poll_thread::QueuedRecord;
use super::record::RecordHeaders;
use super::reports::Reports;
use crate::config::{Kafka, Outbox};
use crate::event::OutboxId;
use crate::kafka::client::ClientConfigError;
use crate::kafka::consumer::topic_reader::{REPLAYED_FROM, Record};
use crate::kafka::error_policy::Refusal;
use crate::kafka::health::Health;
use crate::numbers::counted_verb;

/// Records that may be in flight, and their bytes.
const IN_FLIGHT: (usize, usize) = (5_000, 32 << 20);
/// How long one wait for reports may take.
const TURN: Duration = Duration::from_millis(5);

/// A producer of copies.
pub(crate) struct Copier {
    producer: Producer,
    reports: Arc<Reports>,
    sent: usize,
    acknowledged: usize,
    stop: CancellationToken,
    patience: Duration,
}

impl Copier {
    /// Builds the producer. Contacts no broker. Once it is to stop, it waits for reports for
    /// `patience` at most.
    pub(crate) fn new(
        kafka: &Kafka,
        stop: CancellationToken,
        patience: Duration,
    ) -> Result<Self, ClientConfigError> {
        let reports = Arc::new(Reports::new(Arc::<Health>::default()));
        let batching = Batching::UpTo(DEFAULT_BATCH_SIZE);
        let headers = RecordHeaders::new(OutboxId(Uuid::nil()), &Outbox::default());
        Ok(Self {
            producer: Producer::new(kafka, headers, IN_FLIGHT, batching, Arc::clone(&reports))?,
            reports,
            sent: 0,
            acknowledged: 0,
            stop,
            patience,
        })
    }

    /// Sends a record of `from` to `to`, with its key, value, time and headers, and one more header
    /// that says where it comes from. Blocks while too much is in flight.
    pub(crate) fn send(&mut self, from: &str, record: &Record<'_>, to: &str) -> Result<(), String> {
        let place = format!("{from}/{}/{}", record.partition, record.offset);
        let headers = headers(record, &place);
        loop {
            self.await_room(IN_FLIGHT.0)?;
            let copy = QueuedRecord {
                topic: to,
                partition: None,
                payload: record.message.payload(),
                key: record.key,
                timestamp: record.message.timestamp().to_millis(),
                headers: Some(headers.clone()),
                delivery_opaque: self.sent,
            };
            match self.producer.hand_over(copy) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(SendError::QueueFull) => std::thread::sleep(TURN),
                Err(error) => return Err(format!("the record {place} was refused: {error}")),
            }
        }
    }

    /// Waits until Kafka has acknowledged all records. Blocks.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.await_room(1)
    }

    /// Returns how many records Kafka has acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Waits until fewer records than this are in flight.
    fn await_room(&mut self, limit: usize) -> Result<(), String> {
        let mut until = None;
        loop {
            let reports = self.reports.take();
            self.acknowledged += reports.acknowledged.len();
            if let Some((_, code)) = reports.failed.first() {
                let reason = Refusal::from(*code).reason;
                return Err(format!("a record was refused: {reason}"));
            }
            if let Some(fatal) = reports.fatal {
                return Err(format!("the producer failed: {fatal}"));
            }
            if self.sent - self.acknowledged < limit {
                return Ok(());
            }
            if self.stop.is_cancelled()
                && Instant::now() >= *until.get_or_insert_with(|| Instant::now() + self.patience)
            {
                let left = self.sent - self.acknowledged;
                return Err(counted_verb(left, "record", "were") + " not acknowledged in time");
            }
            std::thread::sleep(TURN);
        }
    }
}

/// Copies the headers. Where the record is a copy itself, the place that it was copied from gives
/// way to this one.
fn headers(record: &Record<'_>, place: &str) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for header in record.message.headers().into_iter().flat_map(Headers::iter) {
        if header.key != REPLAYED_FROM {
            headers = headers.insert(header);
        }
    }
    headers.insert(Header {
        key: REPLAYED_FROM,
        value: Some(place),
    })
}
