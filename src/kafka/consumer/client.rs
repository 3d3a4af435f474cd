//! A consumer without a group: it commits nothing, and says why no broker answers.

use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::Metadata;

use crate::config::Kafka;
use crate::kafka::client::{ClientConfigError, client, explain};
use crate::kafka::connect_error::{ConnectError, LastConnectError};
use crate::kafka::oauth_token;

/// A consumer of the relay or of a command.
pub type TopicConsumer = BaseConsumer<ReadingContext>;

/// Callbacks of librdkafka for a consumer.
pub struct ReadingContext {
    kafka: Kafka,
    last_error: LastConnectError,
}

impl ReadingContext {
    /// Returns why no broker answers, as far as it is known.
    pub fn told(&self) -> ConnectError {
        self.last_error.told(&self.kafka)
    }
}

impl ClientContext for ReadingContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.last_error.note(code, reason);
        }
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth_token::read(self.kafka.token_file.as_deref())
    }
}

impl ConsumerContext for ReadingContext {}

/// Builds a consumer. Contacts no broker.
pub fn open(config: &ClientConfig, kafka: &Kafka) -> Result<TopicConsumer, ClientConfigError> {
    let context = ReadingContext {
        kafka: kafka.clone(),
        last_error: LastConnectError::default(),
    };
    let consumer: TopicConsumer = config
        .create_with_context(context)
        .map_err(|error| explain(kafka, &error))?;
    // A token that is needed is requested here. Without it no request is sent.
    consumer.poll(Duration::ZERO);
    Ok(consumer)
}

/// Asks for the metadata of a topic, or of all. Gives up early if the brokers refuse the client.
/// Blocks.
pub fn metadata(
    consumer: &TopicConsumer,
    topic: Option<&str>,
    patience: Duration,
) -> KafkaResult<Metadata> {
    let begun = Instant::now();
    loop {
        let asked = consumer.fetch_metadata(topic, patience.min(Duration::from_secs(1)));
        let Err(error) = asked else { return asked };
        // Takes what librdkafka has reported meanwhile.
        for _ in 0..20 {
            consumer.poll(Duration::ZERO);
        }
        if begun.elapsed() >= patience || consumer.context().last_error.is_refusal() {
            return Err(error);
        }
    }
}

/// Returns the configuration that every consumer starts from. It joins no group and commits
/// nothing.
pub fn reading(kafka: &Kafka) -> ClientConfig {
    let mut config = client(kafka);
    config
        .set_log_level(RDKafkaLogLevel::Emerg)
        // The library requires it.
        .set("group.id", "doorbell")
        .set("enable.auto.commit", "false");
    config
}

pub(crate) fn row_id(message: &impl Message) -> Option<i64> {
    header(message, "seq")?.parse().ok()
}

/// Returns the text of one of Doorbell's headers: the first of its name, because the row's own
/// headers follow.
pub(crate) fn header<'a>(message: &'a impl Message, name: &str) -> Option<&'a str> {
    let mut headers = message.headers()?.iter();
    let found = headers.find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Returns all headers in their order.
pub(crate) fn listed(headers: Option<&impl Headers>) -> Vec<(&str, Option<&[u8]>)> {
    let all = headers.into_iter().flat_map(Headers::iter);
    all.map(|header| (header.key, header.value)).collect()
}

/// Returns whether the library recovers from this error by itself.
pub(crate) fn passes(code: Code) -> bool {
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
            // The consumer is in no group, but the library looks for a coordinator all the same.
            | Code::GroupAuthorizationFailed
    )
}

/// Returns whether the brokers do not know a topic. Does not create it. Blocks.
pub(crate) fn is_missing(kafka: &Kafka, topic: &str, patience: Duration) -> bool {
    let Ok(consumer) = isolated(kafka, "read_uncommitted") else {
        return false;
    };
    let answer = metadata(&consumer, Some(topic), patience).ok();
    let code = answer.and_then(|it| it.topics().first()?.error());
    let code = code.map(Code::from);
    matches!(
        code,
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic)
    )
}

/// Returns the configuration of a consumer that is told where to read.
pub(crate) fn isolating(kafka: &Kafka, isolation: &str) -> ClientConfig {
    let mut config = reading(kafka);
    config
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        // If records expire under the reader, this must be an error, not a jump to the end.
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false");
    config
}

pub(crate) fn isolated(kafka: &Kafka, isolation: &str) -> Result<TopicConsumer, ClientConfigError> {
    let mut config = isolating(kafka, isolation);
    // A broker answers a connection in order: a request behind a fetch that waits for records
    // waits as long.
    config.set("fetch.wait.max.ms", "10");
    open(&config, kafka)
}
