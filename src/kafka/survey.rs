//! What `doorbell check` asks the brokers. Nothing is changed: no topic is made by asking for it, and the only record that is sent is one
//! that the broker cannot take (`super::probe`).

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, Producer as _};
use serde::Serialize;

use super::admin::Admin;
use super::ear::Ear;
use super::probe::{self, Writing};
use super::producer::{ConfigError, client, explain};
use crate::config::Kafka;

/// For one answer of the brokers.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the first answer, where an attempt has failed: the library tries all brokers once a second.
const PATIENCE_REFUSED: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(500);

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No broker answers, with what was seen.
    #[error("Kafka at {brokers} {}: {reason}", if *.refused { "does not let us in" } else { "does not answer" })]
    Away {
        /// Who was asked.
        brokers: String,
        /// What was seen last, or the library's word.
        reason: String,
        /// Whether a broker was there and refused us: wrong password, certificate, protocol.
        refused: bool,
    },
}

/// The cluster as far as the relay has to do with it.
#[derive(Debug, Serialize)]
pub struct Cluster {
    /// How many brokers are there.
    pub brokers: usize,
    /// Whether a topic is made when somebody writes to it; `None`: they do not say.
    pub makes_topics: Option<bool>,
    /// The largest batch that the relay sends.
    pub message_max_bytes: usize,
    /// Why the brokers give no identity to an idempotent producer, if they do not.
    pub no_identity: Option<String>,
    /// The topics that were asked for.
    pub topics: Vec<Topic>,
}

/// A topic as the brokers know it.
#[derive(Debug, Serialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub state: TopicState,
    /// Partitions.
    pub partitions: usize,
    /// Copies of the partition that has the fewest, and the fewest of one that are in sync.
    pub replicas: (usize, usize),
    /// Partitions without a leader, with the brokers' word.
    pub leaderless: Vec<(i32, String)>,
    /// Its settings, as far as the brokers say them.
    pub settings: TopicSettings,
    /// What came of the attempt to write.
    pub writing: Writing,
}

/// What the brokers say about a topic's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicState {
    /// It is there.
    There,
    /// There is none of this name.
    Missing,
    /// We may not know.
    Forbidden,
    /// Something else.
    Unknown(String),
}

/// Settings of a topic.
#[derive(Debug, Default, Serialize)]
pub struct TopicSettings {
    /// `max.message.bytes`.
    pub max_message_bytes: Option<usize>,
    /// `min.insync.replicas`.
    pub min_insync: Option<usize>,
    /// `cleanup.policy`.
    pub cleanup: Option<String>,
    /// Whether `message.timestamp.type` is the broker's own time.
    pub broker_time: bool,
    /// `message.timestamp.before.max.ms`: how old a record may be.
    pub oldest: Option<Duration>,
}

impl TopicSettings {
    /// Whether only the last record of a key is kept.
    pub fn is_compacted(&self) -> bool {
        let policy = self.cleanup.as_deref();
        policy.is_some_and(|text| text.contains("compact"))
    }
}

/// Asks about the cluster and these topics.
pub async fn survey(kafka: &Kafka, topics: &[String]) -> Result<Cluster, SurveyError> {
    let ear = Ear::of(kafka);
    let unusable = |error| ConfigError(explain(kafka, &error));
    let client: BaseProducer<Ear> = config(kafka)
        .create_with_context(ear.clone())
        .map_err(unusable)?;
    // Where a token is needed, it is asked for here.
    client.poll(Duration::ZERO);
    let admin = Admin::with(&mut config(kafka), kafka)?;
    let metadata = first_answer(kafka, &client, &ear)?;
    let broker = metadata.brokers().first().map(|broker| broker.id());
    let mut found = Vec::new();
    for name in topics {
        let metadata = client
            .client()
            .fetch_metadata(Some(name), PATIENCE)
            .map_err(|error| away(kafka, &client, &ear, &error))?;
        if let Some(topic) = metadata.topics().first() {
            found.push(describe(&admin, topic).await);
        }
    }
    let no_identity = probe::no_identity(kafka)?;
    for topic in &mut found {
        topic.writing = probe::writing(kafka, topic)?;
    }
    Ok(Cluster {
        brokers: metadata.brokers().len(),
        makes_topics: match broker {
            Some(id) => makes_topics(&admin, id).await,
            None => None,
        },
        message_max_bytes: config(kafka)
            .get("message.max.bytes")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        no_identity,
        topics: found,
    })
}

/// To ask for one topic costs the brokers less than to ask for all. It need not be there, and is not made.
const NO_TOPIC: &str = "doorbell-check";

/// Waits for a broker. One that refuses the connection is not waited for to the end.
fn first_answer(
    kafka: &Kafka,
    client: &BaseProducer<Ear>,
    ear: &Ear,
) -> Result<Metadata, SurveyError> {
    let begun = Instant::now();
    loop {
        let error = match client.client().fetch_metadata(Some(NO_TOPIC), TURN) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => away(kafka, client, ear, &error),
        };
        let heard = ear.heard();
        let wait = match heard.last.or(heard.last_refusal) {
            Some(_) => PATIENCE_REFUSED,
            None => PATIENCE,
        };
        if begun.elapsed() > wait {
            return Err(error);
        }
    }
}

/// A client that makes no topic.
pub(super) fn config(kafka: &Kafka) -> rdkafka::ClientConfig {
    let mut config = client(kafka);
    config
        .set("allow.auto.create.topics", "false")
        .set_log_level(RDKafkaLogLevel::Emerg);
    config
}

fn away(kafka: &Kafka, client: &BaseProducer<Ear>, ear: &Ear, error: &KafkaError) -> SurveyError {
    // What was seen comes as an event, which somebody has to take.
    client.poll(Duration::from_millis(100));
    let heard = ear.heard();
    let refused = heard.last_refusal.is_some();
    SurveyError::Away {
        brokers: kafka.brokers.clone(),
        reason: (heard.last_refusal.or(heard.last)).unwrap_or_else(|| error.to_string()),
        refused,
    }
}

async fn describe(admin: &Admin, topic: &MetadataTopic) -> Topic {
    let state = match topic.error().map(Code::from) {
        None => TopicState::There,
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => TopicState::Missing,
        Some(Code::TopicAuthorizationFailed) => TopicState::Forbidden,
        Some(code) => TopicState::Unknown(code.to_string()),
    };
    let partitions = topic.partitions();
    let leaderless = partitions.iter().filter(|it| it.leader() < 0).map(|it| {
        let word = it.error().map(|code| Code::from(code).to_string());
        (it.id(), word.unwrap_or_else(|| "no leader".into()))
    });
    let fewest = |count: fn(&rdkafka::metadata::MetadataPartition) -> usize| {
        partitions.iter().map(count).min().unwrap_or_default()
    };
    Topic {
        name: topic.name().to_owned(),
        partitions: partitions.len(),
        replicas: (
            fewest(|it| it.replicas().len()),
            fewest(|it| it.isr().len()),
        ),
        leaderless: leaderless.collect(),
        settings: match state {
            TopicState::There => settings(admin, topic.name()).await,
            _ => TopicSettings::default(),
        },
        writing: Writing::Untold("not tried".into()),
        state,
    }
}

async fn ask(admin: &Admin, resource: ResourceSpecifier<'_>) -> Option<ConfigResource> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let answer = admin
        .get()
        .describe_configs(&[resource], &options)
        .await
        .ok()?;
    answer.into_iter().find_map(Result::ok)
}

async fn settings(admin: &Admin, topic: &str) -> TopicSettings {
    let Some(resource) = ask(admin, ResourceSpecifier::Topic(topic)).await else {
        return TopicSettings::default();
    };
    let get = |name: &str| resource.get(name)?.value.clone();
    let millis = |text: String| text.parse().ok().map(Duration::from_millis);
    TopicSettings {
        max_message_bytes: get("max.message.bytes").and_then(|text| text.parse().ok()),
        min_insync: get("min.insync.replicas").and_then(|text| text.parse().ok()),
        cleanup: get("cleanup.policy"),
        broker_time: get("message.timestamp.type").is_some_and(|text| text == "LogAppendTime"),
        oldest: get("message.timestamp.before.max.ms").and_then(millis),
    }
}

async fn makes_topics(admin: &Admin, broker: i32) -> Option<bool> {
    let resource = ask(admin, ResourceSpecifier::Broker(broker)).await?;
    let value = resource.get("auto.create.topics.enable")?.value.as_deref();
    value.map(|text| text == "true")
}
