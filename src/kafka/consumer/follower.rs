//! Follows topics as records arrive, for `doorbell tail`.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};

use super::client::{TopicConsumer, header, isolating, listed, open, passes, row_id};
use super::topic_reader::{OffsetRange, TopicReadError, TopicReader, ago};
use crate::config::Kafka;

/// A consumer of all partitions of some topics that is never at their end.
pub(crate) struct TopicFollower {
    consumer: TopicConsumer,
    topics: Vec<TopicReader>,
}

/// A record as it was sent.
pub(crate) struct FollowedRecord<'a> {
    message: BorrowedMessage<'a>,
}

impl TopicFollower {
    /// Begins where the topics end, or with the records of the last so much time. Creates no topic.
    /// Blocks.
    pub(crate) fn of(
        kafka: &Kafka,
        topics: &[String],
        since: Option<Duration>,
    ) -> Result<Self, TopicReadError> {
        let range = OffsetRange {
            since: since.map(ago),
            // Without a time: the end.
            from: since.is_none().then_some(i64::MAX),
            ..OffsetRange::default()
        };
        let readers = topics
            .iter()
            .map(|topic| TopicReader::of(kafka, topic, range));
        let topics = readers.collect::<Result<Vec<_>, _>>()?;
        let consumer = open(&isolating(kafka, "read_committed"), kafka)?;
        let mut list = TopicPartitionList::new();
        for topic in &topics {
            topic.add_starts(&mut list)?;
        }
        if let (Err(error), Some(topic)) = (consumer.assign(&list), topics.first()) {
            return Err(topic.unreadable(&error));
        }
        Ok(Self { consumer, topics })
    }

    /// Waits for the next record so long. Errors that the library recovers from are waited out.
    pub(crate) fn next(
        &self,
        wait: Duration,
    ) -> Result<Option<FollowedRecord<'_>>, TopicReadError> {
        match self.consumer.poll(wait) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Ok(message)) => Ok(Some(FollowedRecord { message })),
            Some(Err(error)) => match (error.rdkafka_error_code(), self.topics.first()) {
                (Some(code), Some(topic)) if !passes(code) => Err(topic.unreadable(&error)),
                _ => Ok(None),
            },
        }
    }
}

impl FollowedRecord<'_> {
    /// Topic, partition and offset.
    pub(crate) fn place(&self) -> (&str, i32, i64) {
        let it = &self.message;
        (it.topic(), it.partition(), it.offset())
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    pub(crate) fn payload(&self) -> Option<&[u8]> {
        self.message.payload()
    }

    /// In milliseconds since the Unix epoch.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }

    /// The row's id, where the record is an event of an outbox.
    pub(crate) fn seq(&self) -> Option<i64> {
        row_id(&self.message)
    }

    /// One of the headers that the relay sets.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.message, name)
    }

    /// All headers in their order.
    pub(crate) fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        listed(self.message.headers())
    }
}
