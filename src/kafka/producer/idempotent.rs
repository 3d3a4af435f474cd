//! The producer: idempotent, in order, and retrying without end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use rustc_hash::FxHashSet;
use tracing::warn;

use super::callbacks::ReportingContext;
use super::poll_thread::{PolledProducer, QueuedRecord};
use super::record::{BadRecord, RecordHeaders};
use super::reports::Reports;
use crate::config::Kafka;
use crate::event::Event;
use crate::kafka::client::{ClientConfigError, client, explain};
use crate::kafka::connect_error::ConnectError;
use crate::kafka::error_policy::{Refusal, Verdict, decide};
use crate::kafka::health::STATISTICS_INTERVAL_MS;

/// librdkafka's own default for `batch.size`.
pub(crate) const DEFAULT_BATCH_SIZE: usize = 1_000_000;

/// A broker that takes longer to answer about a topic counts as unreachable. The producer waits for
/// it anyway.
const INQUIRY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a refusal may go unnoticed while the relay waits for an answer.
const TURN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The local queue is full. Wait for reports, then send the same record again.
    #[error("the producer's queue is full")]
    QueueFull,
    #[error("{}", .0.reason)]
    Row(Refusal),
    /// Another producer uses the same transactional id now.
    #[error("{0}")]
    Fenced(String),
    /// The open transaction cannot be committed, because of an earlier record. Reports say why.
    #[error("the transaction has failed")]
    Transaction,
    /// The producer has failed and must be replaced.
    #[error("the producer failed: {0}")]
    Producer(String),
}

impl From<BadRecord> for SendError {
    fn from(bad: BadRecord) -> Self {
        Self::Row(bad.into())
    }
}

impl From<BadRecord> for Refusal {
    fn from(bad: BadRecord) -> Self {
        Self {
            code: bad.code().into(),
            reason: bad.to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batching {
    /// Batches of at most this many bytes.
    UpTo(usize),
    /// Each record in a batch of its own, so that the broker's answer on a batch is about one
    /// record.
    Alone,
}

pub(crate) struct Producer {
    pub(crate) inner: PolledProducer,
    headers: RecordHeaders,
}

impl Producer {
    /// Builds a producer. Contacts no broker. Its queue has room for everything that the outbox may
    /// have in flight, so it is never full before the in-flight limit is reached.
    pub(crate) fn new(
        kafka: &Kafka,
        headers: RecordHeaders,
        (rows, bytes): (usize, usize),
        batching: Batching,
        reports: Arc<Reports>,
    ) -> Result<Self, ClientConfigError> {
        let config = configured(kafka, (rows, bytes), batching);
        Self::of(kafka, headers, &config, reports)
    }

    pub(crate) fn of(
        kafka: &Kafka,
        headers: RecordHeaders,
        config: &ClientConfig,
        reports: Arc<Reports>,
    ) -> Result<Self, ClientConfigError> {
        let inner = PolledProducer::new(config, ReportingContext::new(reports, kafka.clone()))
            .map_err(|error| explain(kafka, &error))?;
        Ok(Self { inner, headers })
    }

    /// Queues a row, in order. Its report carries `ticket`, and its timestamp is `created_at`, or
    /// the time of this call.
    pub(crate) fn send(
        &self,
        topic: &str,
        event: &Event<'_>,
        created_at: Option<i64>,
        ticket: usize,
    ) -> Result<(), SendError> {
        let (record, left_out) = self.headers.record(topic, event, created_at, ticket)?;
        if left_out > 0 && self.inner.client().context().left_out(left_out) {
            warn!(
                row.id = event.id,
                "a row has headers of names that the relay sets: its own are left out, and counted as reserved headers"
            );
        }
        self.hand_over(record)
    }

    pub(crate) fn hand_over(&self, record: QueuedRecord<'_>) -> Result<(), SendError> {
        let topic = record.topic;
        self.inner.send(record).map_err(|error| {
            // The error itself says only that the producer failed for good.
            match self.inner.client().fatal_error() {
                Some((RDKafkaErrorCode::Fenced, reason)) => SendError::Fenced(reason),
                _ => send_error(topic, &error),
            }
        })
    }

    /// Assumes that a broker is reachable, because it answered another producer a moment ago: from
    /// now on an outage is logged.
    pub(crate) fn assume_connected(&self) {
        self.inner.client().context().here();
    }

    /// Returns a function that asks a broker about a topic: why the topic takes no record, if the
    /// answer says so. The answer also renews what the producer knows of the topic. The function
    /// blocks.
    pub(crate) fn inquiry(&self, topic: &str) -> impl FnOnce() -> Option<Refusal> + Send + 'static {
        let (producer, topic) = (self.inner.shared(), topic.to_owned());
        move || {
            let metadata = producer
                .client()
                .fetch_metadata(Some(&topic), INQUIRY_PATIENCE)
                .ok()?;
            let answer = metadata.topics().iter().find(|it| it.name() == topic)?;
            let code = answer.error().map(RDKafkaErrorCode::from)?;
            let mut refusal = match decide(code) {
                Verdict::Row | Verdict::Suspect => Refusal::from(code),
                Verdict::Purged | Verdict::Producer => return None,
            };
            refusal.reason = match refusal.is_missing_topic() {
                true => format!(
                    "the brokers do not know its topic {topic} ({code}): create it with kafka-topics.sh --bootstrap-server ... --create --topic {topic}"
                ),
                false => format!("topic {topic}: {code}"),
            };
            Some(refusal)
        }
    }

    /// Returns a function that asks a broker for the names of all topics. It blocks.
    pub(crate) fn listing(&self) -> impl FnOnce() -> Option<FxHashSet<String>> + Send + 'static {
        let producer = self.inner.shared();
        move || {
            let all = producer.client().fetch_metadata(None, INQUIRY_PATIENCE);
            let all = all.ok()?;
            let there = all.topics().iter().filter(|it| it.error().is_none());
            Some(there.map(|it| it.name().to_owned()).collect())
        }
    }

    /// Returns whether a broker answers within the time. Ends early once it is known that none
    /// will. Blocks.
    pub(crate) fn is_connected(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let client = self.inner.client();
        while Instant::now() < until {
            if client.fetch_cluster_id(TURN).is_some() {
                client.context().met();
                return true;
            }
            if client.context().is_refused() {
                return false;
            }
        }
        false
    }

    /// Purges what was not delivered: nothing of it is sent from now on. Blocks for a moment.
    pub(crate) fn purge(&self) {
        let everything = PurgeConfig::default().queue().inflight();
        self.inner.producer().purge(everything);
    }

    /// Returns why no broker answers, as far as librdkafka reported it. Blocks if it has to ask a
    /// broker.
    pub(crate) fn silence(&self) -> ConnectError {
        self.inner.client().context().told()
    }
}

/// Returns the configuration of every producer of the relay. The queue has room for everything that
/// the outbox may have in flight.
pub(crate) fn configured(
    kafka: &Kafka,
    (rows, bytes): (usize, usize),
    batching: Batching,
) -> ClientConfig {
    let mut config = client(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Retried without end and in order, so an outage of the broker only delays records.
        .set("message.timeout.ms", "0")
        .set(
            "queue.buffering.max.messages",
            (rows * 2).clamp(1_000, 10_000_000).to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            (bytes / 512 + 262_144).clamp(1, 2_147_483_647).to_string(),
        );
    if !kafka.properties.contains_key("partitioner") {
        config.set("partitioner", "murmur2_random");
    }
    if ["linger.ms", "queue.buffering.max.ms"]
        .iter()
        .all(|name| !kafka.properties.contains_key(*name))
    {
        // A burst forms batches by itself, and a single event must not wait for others.
        config.set("linger.ms", "0");
    }
    if !kafka.properties.contains_key("statistics.interval.ms") {
        config.set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    }
    match batching {
        Batching::UpTo(bytes) => config.set("batch.size", bytes.to_string()),
        Batching::Alone => config.set("batch.num.messages", "1"),
    };
    config
}

/// The refusal of a record that the producer itself does not take for its size.
pub(crate) fn too_large() -> Refusal {
    let reason = "it is larger than the producer's message.max.bytes: raise it under [kafka.properties], and max.message.bytes of the topic";
    Refusal::foreseen(RDKafkaErrorCode::MessageSizeTooLarge, reason)
}

/// Interprets an error at queueing. It is about this record alone, so a suspect is rejected.
fn send_error(topic: &str, error: &KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return SendError::Producer(error.to_string());
    };
    match (code, decide(code)) {
        (Code::QueueFull, _) => SendError::QueueFull,
        (Code::State, _) => SendError::Transaction,
        (Code::MessageSizeTooLarge, _) => SendError::Row(too_large()),
        (_, Verdict::Row | Verdict::Suspect) => SendError::Row(Refusal {
            code: format!("{code:?}"),
            reason: format!("topic {topic}: {error}"),
        }),
        (_, Verdict::Purged | Verdict::Producer) => SendError::Producer(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_producer_says_at_once_of_a_record() {
        use RDKafkaErrorCode as Code;
        let said = |code| send_error("orders", &KafkaError::MessageProduction(code));
        assert!(matches!(said(Code::QueueFull), SendError::QueueFull));
        // The producer knows from an earlier answer that it is forbidden. The refusal is that of a
        // report.
        for code in [
            Code::TopicAuthorizationFailed,
            Code::UnknownTopic,
            Code::InvalidTopic,
        ] {
            let SendError::Row(refusal) = said(code) else {
                panic!("{code:?} is the row's fault");
            };
            assert_eq!(refusal.code, format!("{code:?}"));
            assert!(refusal.reason.starts_with("topic orders: "), "{refusal:?}");
        }
        for code in [Code::Fatal, Code::Fenced] {
            assert!(matches!(said(code), SendError::Producer(_)), "{code:?}");
        }
        assert!(matches!(said(Code::State), SendError::Transaction));
    }
}
