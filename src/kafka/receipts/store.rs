//! The topic that holds the receipts: compacted, with one partition. The relay reads it up to a
//! record of its own, never to "the end": an open transaction of another producer holds the end
//! back, and an old receipt would be returned.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use tokio::runtime::Handle;

use super::error::ReceiptsError;
use super::receipt::{Receipt, UnreadableReceipt};
use crate::config::Kafka;
use crate::event::OutboxId;
use crate::kafka::admin::Admin;
use crate::kafka::client::ClientConfigError;
use crate::kafka::consumer::client::TopicConsumer;
use crate::kafka::consumer::client::{isolated, passes};
use crate::kafka::producer::idempotent::{Producer, SendError};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a wait lasts before it checks whether it is still wanted.
pub(crate) const TURN: Duration = Duration::from_millis(50);
/// The last receipt is first searched this many offsets before the end. Each transaction takes two
/// or three.
const FIRST_STEP: i64 = 64;
/// Factor by which the search goes further back if the receipt is not there.
const WIDER: i64 = 16;

pub(crate) struct Receipts {
    pub(super) kafka: Kafka,
    pub(super) topic: String,
    /// Key of the outbox's receipts, of which only the last one counts. It holds the transactional
    /// id: a copy of the database, which no broker fences because it has another id, must not write
    /// the receipts of the original.
    pub(super) key: String,
    /// The key that versions up to 0.2 used. It counts until there is a receipt under the other.
    earlier_key: String,
    pub(super) barrier_key: String,
    pub(super) opener_key: String,
    pub(super) consumer: TopicConsumer,
    pub(super) whole: TopicConsumer,
    pub(super) admin: Admin,
}

impl Receipts {
    /// Builds the clients. Contacts no broker.
    pub(crate) fn of(
        kafka: &Kafka,
        topic: &str,
        OutboxId(outbox): OutboxId,
        id: &str,
    ) -> Result<Self, ClientConfigError> {
        let key = |kind: &str| format!("{kind}:{outbox}:{id}");
        Ok(Self {
            kafka: kafka.clone(),
            topic: topic.to_owned(),
            key: key("receipt"),
            earlier_key: outbox.to_string(),
            barrier_key: key("barrier"),
            opener_key: key("opener"),
            consumer: isolated(kafka, "read_committed")?,
            whole: isolated(kafka, "read_uncommitted")?,
            admin: Admin::new(kafka)?,
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.kafka.brokers
    }

    pub(crate) fn send(
        &self,
        producer: &Producer,
        value: &[u8],
        ticket: usize,
    ) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.key, value, ticket)
    }

    /// Sends an empty record, which adds the partition to the transaction before there is a
    /// receipt.
    pub(crate) fn send_opener(&self, producer: &Producer, ticket: usize) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.opener_key, b"", ticket)
    }

    /// Sends a barrier. A reader that has reached it has read every receipt that was committed
    /// before.
    pub(crate) fn send_barrier(
        &self,
        producer: &Producer,
        token: &str,
        ticket: usize,
    ) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.barrier_key, token.as_bytes(), ticket)
    }

    /// Returns the number of partitions of the topic. Does not create the topic.
    pub(crate) fn partitions(&self) -> Result<Option<usize>, ReceiptsError> {
        Ok(self.partition_ids(&self.topic)?.map(|ids| ids.len()))
    }

    pub(crate) fn partition_ids(&self, topic: &str) -> Result<Option<Vec<i32>>, ReceiptsError> {
        let metadata = self
            .awake()
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| self.away(&error))?;
        let Some(found) = metadata.topics().first() else {
            return Ok(None);
        };
        match found.error().map(Code::from) {
            None => Ok(Some(found.partitions().iter().map(|p| p.id()).collect())),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(Code::TopicAuthorizationFailed) => Err(self.forbidden(topic, "Describe")),
            Some(code) => Err(self.away(&code)),
        }
    }

    /// Returns the consumer. It gets a token only in a poll, and before a takeover it may have
    /// waited for hours.
    pub(crate) fn awake(&self) -> &TopicConsumer {
        self.consumer.poll(Duration::ZERO);
        &self.consumer
    }

    /// Returns the last receipt that is committed now, and whether no transaction is open behind
    /// it. Nothing if the topic does not exist. Blocks.
    pub(crate) fn last_of_now(
        &self,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<(Option<Receipt>, bool)>, ReceiptsError> {
        if !Handle::current().block_on(self.exists()) || self.partitions()? != Some(1) {
            return Ok(None);
        }
        let stable = self.ends(&self.consumer, &self.topic, &[0])?[0].1;
        let (receipt, high) = self.last_before(None, wanted)?;
        Ok(Some((receipt, stable >= high)))
    }

    /// Returns the last receipt that was committed before the barrier with this token, or until
    /// now, and the end of the partition. `None`: there was none. Blocks.
    pub(crate) fn last_before(
        &self,
        token: Option<&str>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(Option<Receipt>, i64), ReceiptsError> {
        let (low, high) = self
            .awake()
            .fetch_watermarks(&self.topic, 0, PATIENCE)
            .map_err(|error| self.away(&error))?;
        let mut step = FIRST_STEP;
        loop {
            let from = high.saturating_sub(step).max(low);
            let [ours, earlier] = self.read(from, token, wanted)?;
            if ours.is_some() || from <= low {
                // Stops the fetching.
                self.consumer
                    .unassign()
                    .map_err(|error| self.away(&error))?;
                return Ok((ours.or(earlier), high));
            }
            step = step.saturating_mul(WIDER);
        }
    }

    /// Returns the last receipts of the present and of the earlier key.
    fn read(
        &self,
        from: i64,
        token: Option<&str>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<[Option<Receipt>; 2], ReceiptsError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(from))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| self.away(&error))?;
        let mut last = [None, None];
        let mut heard = Instant::now();
        while wanted() {
            match self.consumer.poll(TURN) {
                None if heard.elapsed() < PATIENCE => {}
                None => {
                    return Err(self.away(&"another producer's transaction is open in it"));
                }
                Some(Err(KafkaError::PartitionEOF(_))) if token.is_none() => return Ok(last),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if passes(code) => {}
                    Some(Code::TopicAuthorizationFailed) => {
                        return Err(self.forbidden(&self.topic, "Read"));
                    }
                    _ => return Err(self.away(&error)),
                },
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let value = message.payload().unwrap_or_default();
                    let is = |key: &String| message.key() == Some(key.as_bytes());
                    if let Some(which) = [&self.key, &self.earlier_key].into_iter().position(is) {
                        let read = Receipt::decode(value).map_err(|UnreadableReceipt| {
                            self.wrong(
                                &format!("at offset {} {UnreadableReceipt}", message.offset()),
                                "use the version of Doorbell that wrote it, or set `receipts` to another topic",
                            )
                        })?;
                        last[which] = Some(read);
                    } else if is(&self.barrier_key) && token.map(str::as_bytes) == Some(value) {
                        return Ok(last);
                    }
                }
            }
        }
        Err(ReceiptsError::Cancelled)
    }

    pub(crate) fn away(&self, reason: &impl ToString) -> ReceiptsError {
        ReceiptsError::Unreachable {
            topic: self.topic.clone(),
            reason: reason.to_string(),
        }
    }

    /// Returns the error for a broker that does not let the user write a receipt or a barrier.
    pub(crate) fn refused(&self, code: Option<Code>) -> Option<ReceiptsError> {
        (code == Some(Code::TopicAuthorizationFailed)).then(|| self.forbidden(&self.topic, "Write"))
    }

    pub(crate) fn forbidden(&self, topic: &str, right: &'static str) -> ReceiptsError {
        ReceiptsError::Forbidden {
            brokers: self.kafka.brokers.clone(),
            topic: topic.to_owned(),
            right,
        }
    }

    pub(crate) fn wrong(&self, problem: &str, remedy: &str) -> ReceiptsError {
        ReceiptsError::Unusable {
            topic: self.topic.clone(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}
