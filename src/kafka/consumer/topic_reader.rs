//! Reads every record of a range of offsets of a topic once, for `verify` and `replay`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::client::{TopicConsumer, header, isolated, listed, metadata, passes, row_id};
use crate::config::Kafka;
use crate::kafka::client::ClientConfigError;
use crate::kafka::connect_error::ConnectError;

const PATIENCE: Duration = Duration::from_secs(10);
/// How long no record may arrive while records are missing. It is longer than a broker keeps a
/// transaction open by default (60 s).
const SILENCE: Duration = Duration::from_secs(90);
const TURN: Duration = Duration::from_millis(100);
/// Header of a record that `doorbell replay` has sent: `topic/partition/offset` of the one that it
/// copied.
pub(crate) const REPLAYED_FROM: &str = "replayed-from";

#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicReadError {
    #[error(transparent)]
    Config(#[from] ClientConfigError),
    /// The brokers refuse the client, or the client rejects their certificate.
    #[error("{0}")]
    Distrust(String),
    #[error("topic {0} does not exist; check its name, --topic or the topic of the outbox")]
    NoTopic(String),
    #[error("topic {topic} cannot be read from Kafka at {brokers}: {reason}")]
    Unreadable {
        topic: String,
        brokers: String,
        reason: String,
    },
    #[error(
        "topic {topic}, partition {partition}: the records from offset {from} on were deleted before they were read, by the retention of the \
         topic or by DeleteRecords; the partition now begins at offset {low}. Run the command again for what is left; a longer retention.ms keeps more"
    )]
    Deleted {
        topic: String,
        partition: i32,
        from: i64,
        low: i64,
    },
}

/// Which records of each partition to read. The range is cut to what exists.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OffsetRange {
    pub from: Option<i64>,
    /// Up to this offset, exclusive.
    pub until: Option<i64>,
    /// From the first record of this time or later.
    pub since: Option<SystemTime>,
    /// Whether to read committed records only. Then the reader waits for open transactions.
    pub committed: bool,
}

/// A record, and the parts of it that identify its event.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    /// The header `id`, if it exists and is a UUID.
    pub id: Option<Uuid>,
    /// The header `seq`, if it exists and is a number.
    pub seq: Option<i64>,
    /// The whole of it.
    pub(in crate::kafka) message: &'a BorrowedMessage<'a>,
}

impl<'a> Record<'a> {
    /// Returns the text of the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        header(self.message, name)
    }

    /// Returns all headers in their order.
    pub(crate) fn headers(&self) -> Vec<(&'a str, Option<&'a [u8]>)> {
        listed(self.message.headers())
    }

    pub(crate) fn payload(&self) -> Option<&'a [u8]> {
        self.message.payload()
    }

    /// Returns its time in milliseconds since the Unix epoch.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }

    /// Returns topic, partition and offset of the record that `doorbell replay` copied to this one.
    pub(crate) fn replayed_from(&self) -> Option<(&'a str, i32, i64)> {
        let mut parts = self.header(REPLAYED_FROM)?.split('/');
        let topic = parts.next()?;
        Some((
            topic,
            parts.next()?.parse().ok()?,
            parts.next()?.parse().ok()?,
        ))
    }
}

/// A part of a topic with fixed bounds: later records are not in it.
pub(crate) struct TopicReader {
    consumer: TopicConsumer,
    kafka: Kafka,
    pub topic: String,
    committed: bool,
    /// First offset and the offset after the last, for each partition that is not empty.
    partitions: BTreeMap<i32, (i64, i64)>,
    /// The first offset of each partition, also of one that is empty.
    starts: BTreeMap<i32, i64>,
    pub partition_count: usize,
    /// Number of records before the first offset that the topic still has: deleted by its
    /// retention, or compacted.
    pub expired: i64,
}

impl TopicReader {
    /// Fixes the bounds: each partition ends where it ends now. Does not create the topic. Blocks.
    pub(crate) fn of(
        kafka: &Kafka,
        topic: &str,
        range: OffsetRange,
    ) -> Result<Self, TopicReadError> {
        let mut history = Self {
            consumer: isolated(kafka, isolation(range.committed))?,
            kafka: kafka.clone(),
            topic: topic.to_owned(),
            committed: range.committed,
            partitions: BTreeMap::new(),
            starts: BTreeMap::new(),
            partition_count: 0,
            expired: 0,
        };
        // These ends include open transactions, whose records may turn out to be committed.
        history.find_bounds(&isolated(kafka, "read_uncommitted")?, range)?;
        Ok(history)
    }

    /// Returns a reader of the same records, from the first one again.
    pub(crate) fn again(&self) -> Result<Self, TopicReadError> {
        Ok(Self {
            consumer: isolated(&self.kafka, isolation(self.committed))?,
            kafka: self.kafka.clone(),
            topic: self.topic.clone(),
            partitions: self.partitions.clone(),
            starts: self.starts.clone(),
            ..*self
        })
    }

    fn find_bounds(
        &mut self,
        whole: &TopicConsumer,
        range: OffsetRange,
    ) -> Result<(), TopicReadError> {
        let ids = self.partition_ids(whole)?;
        self.partition_count = ids.len();
        let young = match range.since {
            Some(time) => self.first_since(whole, &ids, time)?,
            None => BTreeMap::new(),
        };
        for id in ids {
            let (low, high) = whole
                .fetch_watermarks(&self.topic, id, PATIENCE)
                .map_err(|error| self.unreadable(&error))?;
            self.expired += low;
            let from = match range.since {
                // `None`: all records of the partition are older.
                Some(_) => young.get(&id).copied().unwrap_or(high),
                None => range.from.unwrap_or(low),
            };
            let from = from.max(low).min(high);
            let until = range.until.unwrap_or(high).min(high);
            self.starts.insert(id, from);
            if from < until {
                self.partitions.insert(id, (from, until));
            }
        }
        Ok(())
    }

    fn partition_ids(&self, whole: &TopicConsumer) -> Result<Vec<i32>, TopicReadError> {
        let metadata = metadata(whole, Some(&self.topic), PATIENCE).map_err(|error| match whole
            .context()
            .told()
        {
            ConnectError::Refused(words) => TopicReadError::Distrust(words),
            ConnectError::Unreachable(_) => self.unreadable(&error),
        })?;
        let no_topic = || TopicReadError::NoTopic(self.topic.clone());
        let found = metadata.topics().first().ok_or_else(no_topic)?;
        match found.error().map(Code::from) {
            None => Ok(found.partitions().iter().map(|p| p.id()).collect()),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Err(no_topic()),
            Some(code) => Err(self.unreadable(&code)),
        }
    }

    fn first_since(
        &self,
        whole: &TopicConsumer,
        ids: &[i32],
        time: SystemTime,
    ) -> Result<BTreeMap<i32, i64>, TopicReadError> {
        let unreadable = |error: KafkaError| self.unreadable(&error);
        let time = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let since = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
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

    /// Adds where each partition begins to the list of a consumer that goes on behind the end.
    pub(super) fn add_starts(&self, list: &mut TopicPartitionList) -> Result<(), TopicReadError> {
        for (partition, start) in &self.starts {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*start))
                .map_err(|error| self.unreadable(&error))?;
        }
        Ok(())
    }

    /// Passes on every record, each partition in order. Ends when `take` returns false. Blocks.
    pub(crate) fn read(
        &self,
        mut take: impl FnMut(Record<'_>) -> bool,
    ) -> Result<(), TopicReadError> {
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
                // What is left before the end are transaction markers and aborted records.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if passes(code) => last = code.to_string(),
                    Some(Code::AutoOffsetReset) => return Err(self.deleted(&open)),
                    _ => return Err(self.unreadable(&error)),
                },
                Some(Ok(message)) => {
                    if !self.hand_over(&message, &mut open, &mut take)? {
                        return Ok(());
                    }
                    // What takes the record may take long.
                    heard = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Passes on a record. One at the end of its partition, or beyond it, closes the partition.
    fn hand_over(
        &self,
        message: &BorrowedMessage<'_>,
        open: &mut BTreeMap<i32, (i64, i64)>,
        take: &mut impl FnMut(Record<'_>) -> bool,
    ) -> Result<bool, TopicReadError> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some((next, until)) = open.get_mut(&partition) else {
            return Ok(true);
        };
        *next = offset + 1;
        let until = *until;
        if offset + 1 >= until {
            open.remove(&partition);
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.topic, partition);
            // The partition may grow while the others are read.
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
                message,
            }))
    }

    /// Waits until every transaction that was open below the ends has ended. Before that, its
    /// records are not visible.
    fn await_open_transactions(&self) -> Result<(), TopicReadError> {
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

    /// Names the partition that has lost records which were not read.
    fn deleted(&self, open: &BTreeMap<i32, (i64, i64)>) -> TopicReadError {
        for (partition, (from, _)) in open {
            let ends = self
                .consumer
                .fetch_watermarks(&self.topic, *partition, PATIENCE);
            if let Ok((low, _)) = ends
                && low > *from
            {
                return TopicReadError::Deleted {
                    topic: self.topic.clone(),
                    partition: *partition,
                    from: *from,
                    low,
                };
            }
        }
        self.unreadable(
            &"an offset of it does not exist any more: was the topic deleted and created again?",
        )
    }

    pub(super) fn unreadable(&self, reason: &impl ToString) -> TopicReadError {
        TopicReadError::Unreadable {
            topic: self.topic.clone(),
            brokers: self.kafka.brokers.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Returns the time that is so long ago.
pub(crate) fn ago(age: Duration) -> SystemTime {
    let time = SystemTime::now().checked_sub(age);
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn isolation(committed: bool) -> &'static str {
    match committed {
        true => "read_committed",
        false => "read_uncommitted",
    }
}
