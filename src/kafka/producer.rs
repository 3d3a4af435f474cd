//! The producer: idempotent, patient, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use secrecy::ExposeSecret;

use super::admin::Admin;
use super::condition::STATISTICS_INTERVAL_MS;
use super::failure::{Refusal, Verdict, decide, told};
use super::polled::{Polled, Record};
use super::record::{self, BadHeaders};
use super::reports::{Context, Reports};
use super::trouble::Silence;
use crate::config::Kafka;
use crate::event::{Event, OutboxId};

/// librdkafka's own default for `batch.size`.
pub const DEFAULT_BATCH_SIZE: usize = 1_000_000;

/// A broker that takes longer to answer about a topic is away: the producer waits for it anyway.
const INQUIRY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a refusal may go unnoticed while an answer is awaited.
const TURN: Duration = Duration::from_millis(100);

/// Why a record was not taken by the producer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The local queue is full: wait for reports, then send the same record again.
    #[error("the producer's queue is full")]
    QueueFull,
    /// This row can never be sent.
    #[error("{}", .0.reason)]
    Row(Refusal),
    /// Another producer uses the same transactional id now.
    #[error("{0}")]
    Fenced(String),
    /// The producer is of no more use.
    #[error("the producer failed: {0}")]
    Producer(String),
}

impl From<BadHeaders> for SendError {
    fn from(bad: BadHeaders) -> Self {
        Self::Row(Refusal {
            code: "InvalidHeaders".into(),
            reason: bad.to_string(),
        })
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// How records are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Batches of at most so many bytes.
    UpTo(usize),
    /// Each record by itself, so that the broker's word on a batch is its word on a record.
    Alone,
}

/// Sends rows of one outbox to Kafka.
pub struct Producer {
    pub(super) inner: Polled,
    outbox: OutboxId,
}

impl Producer {
    /// Builds a producer; nothing is contacted yet. Its queue holds what the outbox may have in flight: it is never full before the window is.
    pub fn new(
        kafka: &Kafka,
        outbox: OutboxId,
        (rows, bytes): (usize, usize),
        batching: Batching,
        reports: Arc<Reports>,
    ) -> Result<Self, ConfigError> {
        let config = configured(kafka, (rows, bytes), batching);
        Self::of(kafka, outbox, &config, reports)
    }

    pub(super) fn of(
        kafka: &Kafka,
        outbox: OutboxId,
        config: &ClientConfig,
        reports: Arc<Reports>,
    ) -> Result<Self, ConfigError> {
        let inner = Polled::new(config, Context::new(reports, kafka.clone()))
            .map_err(|error| ConfigError(explain(kafka, &error)))?;
        Ok(Self { inner, outbox })
    }

    /// Hands a row over, in order. The report will carry `ticket`.
    pub fn send(&self, topic: &str, event: &Event<'_>, ticket: usize) -> Result<(), SendError> {
        let record = Record {
            topic,
            partition: None,
            payload: event.payload,
            key: event.key,
            timestamp: record::timestamp(event.created_at),
            headers: Some(record::headers(self.outbox, event)?),
            delivery_opaque: ticket,
        };
        self.hand_over(record)
    }

    /// Puts a record into the queue.
    pub(super) fn hand_over(&self, record: Record<'_>) -> Result<(), SendError> {
        let topic = record.topic;
        self.inner.send(record).map_err(|error| {
            // The answer itself says no more than that it failed for good.
            match self.inner.client().fatal_error() {
                Some((RDKafkaErrorCode::Fenced, reason)) => SendError::Fenced(reason),
                _ => send_error(topic, &error),
            }
        })
    }

    /// A broker answered to another producer a moment ago: from now on its absence is worth a word in the log.
    pub fn assume_connected(&self) {
        self.inner.client().context().here();
    }

    /// Asks a broker about a topic when it is called, which blocks: why the topic takes no record, if the answer says so. What the producer knew of the topic
    /// is renewed by the answer.
    pub fn inquiry(&self, topic: &str) -> impl FnOnce() -> Option<Refusal> + Send + 'static {
        let (producer, topic) = (self.inner.shared(), topic.to_owned());
        move || {
            let metadata = producer
                .client()
                .fetch_metadata(Some(&topic), INQUIRY_PATIENCE)
                .ok()?;
            let answer = metadata.topics().iter().find(|it| it.name() == topic)?;
            let code = answer.error().map(RDKafkaErrorCode::from)?;
            match decide(code) {
                Verdict::Row | Verdict::Suspect => Some(told(code)),
                Verdict::Purged | Verdict::Producer => None,
            }
        }
    }

    /// Whether a broker answers within the time, or until it is known that none will. Blocks.
    pub fn is_connected(&self, wait: Duration) -> bool {
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

    /// Takes everything back that it has not delivered: nothing of it is sent from now on. Blocks for a moment.
    pub fn purge(&self) {
        let everything = PurgeConfig::default().queue().inflight();
        self.inner.producer().purge(everything);
    }

    /// Why no broker answers, as far as librdkafka said it. Blocks where a broker has to be asked for it.
    pub fn silence(&self) -> Silence {
        self.inner.client().context().told()
    }
}

/// What each producer of ours has: its queue holds what the outbox may have in flight.
pub(super) fn configured(
    kafka: &Kafka,
    (rows, bytes): (usize, usize),
    batching: Batching,
) -> ClientConfig {
    let mut config = client(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Retried without end and in order: an outage of the broker is a stall and nothing else.
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
        // A burst makes batches by itself; a lone event should not wait for company.
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

/// Whether the properties can be used: librdkafka reads certificates and keys when a client is built. Nothing is contacted.
pub fn check(kafka: &Kafka) -> Result<(), ConfigError> {
    Admin::new(kafka).map(drop)
}

/// Whether the library knows a property of this name and takes the value.
pub fn takes(name: &str, value: &str) -> bool {
    let mut config = ClientConfig::new();
    config.set(name, value).create_native_config().is_ok()
}

/// What the producer says at once about a record. It speaks of this one alone, so that a suspicion is a conviction.
fn send_error(topic: &str, error: &KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return SendError::Producer(error.to_string());
    };
    match (code, decide(code)) {
        (Code::QueueFull, _) => SendError::QueueFull,
        (Code::MessageSizeTooLarge, _) => SendError::Row(Refusal {
            code: format!("{code:?}"),
            reason: "it is larger than the producer's message.max.bytes: raise it under [kafka.properties], and max.message.bytes of the topic".into(),
        }),
        (_, Verdict::Row | Verdict::Suspect) => SendError::Row(Refusal {
            code: format!("{code:?}"),
            reason: format!("topic {topic}: {error}"),
        }),
        (_, Verdict::Purged | Verdict::Producer) => SendError::Producer(error.to_string()),
    }
}

/// What every client of ours starts from: the brokers, names, and the user's properties.
pub(crate) fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "doorbell")
        // What a broker takes by default; librdkafka's own default is a little less, and a megabyte of payload would not fit.
        .set("message.max.bytes", "1048588")
        .set("socket.keepalive.enable", "true")
        // Back within a second or two after a broker's restart; the default waits up to ten.
        .set("reconnect.backoff.max.ms", "1000")
        // librdkafka's thread for logs: everything goes to the log of the relay.
        .set("log_level", "6");
    for (key, value) in &kafka.properties {
        config.set(key, value.expose_secret());
    }
    config
}

/// Properties whose values are words of its own messages, and no secrets.
const PLAIN: [&str; 3] = ["security.protocol", "sasl.mechanism", "sasl.mechanisms"];

/// librdkafka's word on a configuration quotes values: ours does not.
pub(super) fn explain(kafka: &Kafka, error: &KafkaError) -> String {
    let (key, text) = match error {
        KafkaError::ClientConfig(_, text, key, _) => (key.clone(), text.clone()),
        other => ("[kafka.properties]".to_owned(), other.to_string()),
    };
    let text = kafka
        .properties
        .iter()
        .filter(|(name, _)| !name.ends_with(".location") && !PLAIN.contains(&name.as_str()))
        .map(|(_, value)| value.expose_secret())
        .filter(|value| !value.is_empty())
        .fold(text, |text, value| text.replace(value, "…"));
    format!("Kafka property {key} cannot be used: {text}; correct it under [kafka.properties]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_producer_says_at_once_of_a_record() {
        use RDKafkaErrorCode as Code;
        let said = |code| send_error("orders", &KafkaError::MessageProduction(code));
        assert!(matches!(said(Code::QueueFull), SendError::QueueFull));
        // That it is forbidden is known from an earlier answer: the same refusal as in a report.
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
        for code in [Code::Fatal, Code::Fenced, Code::State] {
            assert!(matches!(said(code), SendError::Producer(_)), "{code:?}");
        }
    }
}
