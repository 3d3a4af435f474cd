//! What is in a topic: every record of a range of offsets, once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::consumer::{Reader, header, metadata, open, reading, row_id};
use super::producer::ConfigError;
use super::trouble::Silence;
use crate::config::Kafka;

/// For one answer of the brokers.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nothing may come while records are missing. Longer than a broker keeps a transaction open by default (60 s).
const SILENCE: Duration = Duration::from_secs(90);
const TURN: Duration = Duration::from_millis(100);

/// Reading came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The brokers refuse us, or we them.
    #[error("{0}")]
    Distrust(String),
    /// No broker has this topic.
    #[error("topic {0} does not exist; check --topic, or the topic of the outbox")]
    NoTopic(String),
    /// The brokers did not answer, or refused.
    #[error("topic {topic} cannot be read from Kafka at {brokers}: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// Who was asked.
        brokers: String,
        /// Their word.
        reason: String,
    },
}

/// Which records of each partition to read. What was given is cut to what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// From this offset.
    pub from: Option<i64>,
    /// Up to this offset, without it.
    pub until: Option<i64>,
    /// From the first record whose timestamp is not older.
    pub since: Option<Duration>,
    /// As a consumer that reads committed records only: open transactions are waited for.
    pub committed: bool,
}

/// One record, as far as it says which event it is.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The header `id`, if it is there and is a UUID.
    pub id: Option<Uuid>,
    /// The header `seq`, if it is there and is a number.
    pub seq: Option<i64>,
}

/// A part of a topic whose bounds are fixed: what comes later is not in it.
pub struct History {
    consumer: Reader,
    kafka: Kafka,
    topic: String,
    committed: bool,
    /// First offset and the one after the last, of each partition with something between.
    partitions: BTreeMap<i32, (i64, i64)>,
    /// Partitions of the topic.
    pub partition_count: usize,
    /// Records before the first offset that the topic still has: deleted by its retention, or compacted away.
    pub expired: i64,
}

impl History {
    /// Fixes the bounds: the ends are those of now. Blocks. No topic is made by asking for it.
    pub fn of(kafka: &Kafka, topic: &str, range: Range) -> Result<Self, HistoryError> {
        let isolation = match range.committed {
            true => "read_committed",
            false => "read_uncommitted",
        };
        let mut history = Self {
            consumer: consumer(kafka, isolation)?,
            kafka: kafka.clone(),
            topic: topic.to_owned(),
            committed: range.committed,
            partitions: BTreeMap::new(),
            partition_count: 0,
            expired: 0,
        };
        // The ends that include open transactions: what is in them may turn out committed.
        history.find_bounds(&consumer(kafka, "read_uncommitted")?, range)?;
        Ok(history)
    }

    fn find_bounds(&mut self, whole: &Reader, range: Range) -> Result<(), HistoryError> {
        let ids = self.partition_ids(whole)?;
        self.partition_count = ids.len();
        let young = match range.since {
            Some(age) => self.first_since(whole, &ids, age)?,
            None => BTreeMap::new(),
        };
        for id in ids {
            let (low, high) = whole
                .fetch_watermarks(&self.topic, id, PATIENCE)
                .map_err(|error| self.unreadable(&error))?;
            self.expired += low;
            let from = match range.since {
                // None: all of its records are older.
                Some(_) => young.get(&id).copied().unwrap_or(high),
                None => range.from.unwrap_or(low),
            };
            let (from, until) = (from.max(low), range.until.unwrap_or(high).min(high));
            if from < until {
                self.partitions.insert(id, (from, until));
            }
        }
        Ok(())
    }

    fn partition_ids(&self, whole: &Reader) -> Result<Vec<i32>, HistoryError> {
        let metadata = metadata(whole, Some(&self.topic), PATIENCE).map_err(|error| match whole
            .context()
            .told()
        {
            Silence::Refused(words) => HistoryError::Distrust(words),
            Silence::Away(_) => self.unreadable(&error),
        })?;
        let no_topic = || HistoryError::NoTopic(self.topic.clone());
        let found = metadata.topics().first().ok_or_else(no_topic)?;
        match found.error().map(Code::from) {
            None => Ok(found.partitions().iter().map(|p| p.id()).collect()),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Err(no_topic()),
            Some(code) => Err(self.unreadable(&code)),
        }
    }

    fn first_since(
        &self,
        whole: &Reader,
        ids: &[i32],
        age: Duration,
    ) -> Result<BTreeMap<i32, i64>, HistoryError> {
        let unreadable = |error: KafkaError| self.unreadable(&error);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let since = i64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(i64::MAX);
        let mut asked = TopicPartitionList::new();
        for id in ids {
            asked
                .add_partition_offset(&self.topic, *id, Offset::Offset(since))
                .map_err(unreadable)?;
        }
        let found = whole
            .offsets_for_times(asked, PATIENCE)
            .map_err(unreadable)?;
        let offsets = found.elements().into_iter();
        Ok(offsets
            .filter_map(|element| Some((element.partition(), element.offset().to_raw()?)))
            .filter(|(_, offset)| *offset >= 0)
            .collect())
    }

    /// Hands every record over, each partition in its order. Blocks. A `false` of `take` ends the reading.
    pub fn read(&self, mut take: impl FnMut(Record<'_>) -> bool) -> Result<(), HistoryError> {
        if self.committed {
            self.await_open_transactions()?;
        }
        let mut list = TopicPartitionList::new();
        let unreadable = |error: KafkaError| self.unreadable(&error);
        for (partition, (from, _)) in &self.partitions {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*from))
                .map_err(unreadable)?;
        }
        self.consumer.assign(&list).map_err(unreadable)?;
        let mut open = self.partitions.clone();
        let mut heard = Instant::now();
        let mut last = String::from("no record came");
        while !open.is_empty() {
            match self.consumer.poll(TURN) {
                None if heard.elapsed() < SILENCE => {}
                None => return Err(self.unreadable(&last)),
                // What is left before the end are marks of transactions and aborted records.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if passes(code) => last = code.to_string(),
                    _ => return Err(self.unreadable(&error)),
                },
                Some(Ok(message)) => {
                    heard = Instant::now();
                    if !self.hand_over(&message, &mut open, &mut take)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// What lies at the end of a partition or beyond it closes it.
    fn hand_over(
        &self,
        message: &BorrowedMessage<'_>,
        open: &mut BTreeMap<i32, (i64, i64)>,
        take: &mut impl FnMut(Record<'_>) -> bool,
    ) -> Result<bool, HistoryError> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some((_, until)) = open.get(&partition).copied() else {
            return Ok(true);
        };
        if offset + 1 >= until {
            open.remove(&partition);
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.topic, partition);
            // It may grow on while the others are read.
            self.consumer
                .pause(&list)
                .map_err(|error| self.unreadable(&error))?;
        }
        let id = header(message, "id").and_then(|text| text.parse().ok());
        Ok(offset >= until
            || take(Record {
                partition,
                offset,
                key: message.key(),
                id,
                seq: row_id(message),
            }))
    }

    /// Waits until every transaction that was open below the ends has ended: before, its records are not to be seen.
    fn await_open_transactions(&self) -> Result<(), HistoryError> {
        let begun = Instant::now();
        for (partition, (_, until)) in &self.partitions {
            loop {
                let (_, stable) = self
                    .consumer
                    .fetch_watermarks(&self.topic, *partition, PATIENCE)
                    .map_err(|error| self.unreadable(&error))?;
                if stable >= *until {
                    break;
                }
                if begun.elapsed() > SILENCE {
                    let reason = format!(
                        "a transaction is open in partition {partition} since before offset {until}"
                    );
                    return Err(self.unreadable(&reason));
                }
                std::thread::sleep(TURN);
            }
        }
        Ok(())
    }

    fn unreadable(&self, reason: &impl ToString) -> HistoryError {
        HistoryError::Unreadable {
            topic: self.topic.clone(),
            brokers: self.kafka.brokers.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Whether the library goes on by itself after this.
pub(super) fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::OffsetNotAvailable
            // We are in no group: the library looks for its coordinator all the same.
            | Code::GroupAuthorizationFailed
    )
}

pub(super) fn consumer(kafka: &Kafka, isolation: &str) -> Result<Reader, ConfigError> {
    let mut config = reading(kafka);
    config
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        // Records that expire under the reader are to be an error, and no leap to the end.
        .set("auto.offset.reset", "error")
        // A broker answers a connection in order: whatever is asked behind a fetch that waits for records waits as long.
        .set("fetch.wait.max.ms", "10")
        .set("allow.auto.create.topics", "false");
    open(&config, kafka)
}
