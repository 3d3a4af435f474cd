//! What `doorbell check` asks the brokers. It changes nothing: asking for a topic does not create
//! it, and the only record that is sent is one that the broker cannot take (`write_probe`).

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::Producer as _;

use super::diagnostic_client::{DiagnosticClient, config, open};
use super::write_probe::{WriteAccess, no_identity, writing};
use crate::config::Kafka;
use crate::kafka::admin::Admin;
use crate::kafka::client::ClientConfigError;

const PATIENCE: Duration = Duration::from_secs(10);
/// Time-out of the first answer once an attempt has failed. The library tries all brokers once a
/// second.
const PATIENCE_REFUSED: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Config(#[from] ClientConfigError),
    #[error("Kafka at {brokers} {}: {reason}", if *.refused { "refuses the client" } else { "does not answer" })]
    Unreachable {
        brokers: String,
        /// The last error that was seen, or the library's message.
        reason: String,
        /// Whether a broker answered and refused the client: wrong password, certificate or
        /// protocol.
        refused: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub brokers: usize,
    /// Addresses that the brokers name for themselves and that cannot be resolved here.
    pub unresolved: Vec<String>,
    /// Whether writing to a topic creates it. `None`: the brokers do not say.
    pub makes_topics: Option<bool>,
    /// `transaction.max.timeout.ms`. `None`: the brokers do not say.
    pub longest_transaction: Option<Duration>,
    /// The largest batch that the relay sends.
    pub message_max_bytes: usize,
    /// Why the brokers give an idempotent producer no id. `None`: they give one.
    pub no_identity: Option<String>,
    pub topics: Vec<Topic>,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub name: String,
    pub state: TopicState,
    pub partitions: usize,
    /// Replicas of the partition with the fewest, and the fewest in-sync replicas of any partition.
    pub replicas: (usize, usize),
    /// Partitions without a leader, with the brokers' message.
    pub leaderless: Vec<(i32, String)>,
    pub settings: TopicSettings,
    pub writing: WriteAccess,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicState {
    There,
    Missing,
    Forbidden,
    Unknown(String),
}

#[derive(Debug, Default)]
pub(crate) struct TopicSettings {
    pub max_message_bytes: Option<usize>,
    /// `min.insync.replicas`.
    pub min_insync: Option<usize>,
    /// `cleanup.policy`.
    pub cleanup: Option<String>,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub broker_time: bool,
    /// `retention.ms`, if the topic deletes records by their age.
    pub retention: Option<Duration>,
    /// `message.timestamp.before.max.ms`: how old a record may be.
    pub oldest: Option<Duration>,
}

impl TopicSettings {
    /// Returns whether the topic keeps only the last record of a key.
    pub(crate) fn is_compacted(&self) -> bool {
        let policy = self.cleanup.as_deref();
        policy.is_some_and(|text| text.contains("compact"))
    }
}

pub(crate) async fn inspect(kafka: &Kafka, topics: &[String]) -> Result<Cluster, InspectError> {
    let client = open(&config(kafka), kafka)?;
    // A token that is needed is requested here.
    client.poll(Duration::ZERO);
    let admin = Admin::with(&mut config(kafka), kafka)?;
    let metadata = first_answer(kafka, &client)?;
    let broker = metadata.brokers().first().map(|broker| broker.id());
    let mut found = Vec::new();
    for name in topics {
        let metadata = client
            .client()
            .fetch_metadata(Some(name), PATIENCE)
            .map_err(|error| unreachable(kafka, &client, &error))?;
        if let Some(topic) = metadata.topics().first() {
            found.push(describe(&admin, topic).await);
        }
    }
    let no_identity = no_identity(kafka)?;
    for topic in &mut found {
        if topic.state == TopicState::There {
            topic.writing = writing(kafka, &topic.name, topic.settings.max_message_bytes)?;
        }
    }
    let broker = match broker {
        Some(id) => ask(&admin, ResourceSpecifier::Broker(id)).await,
        None => None,
    };
    let setting = |name: &str| broker.as_ref()?.get(name)?.value.clone();
    Ok(Cluster {
        brokers: metadata.brokers().len(),
        unresolved: unresolved(&metadata),
        makes_topics: setting("auto.create.topics.enable").map(|text| text == "true"),
        longest_transaction: setting("transaction.max.timeout.ms").and_then(millis),
        message_max_bytes: config(kafka)
            .get("message.max.bytes")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        no_identity,
        topics: found,
    })
}

/// Asking about one topic costs the brokers less than asking about all. It need not exist, and is
/// not created.
const NO_TOPIC: &str = "doorbell-check";

/// Waits for the first answer of a broker. Ends early if a broker refuses the connection.
fn first_answer(kafka: &Kafka, client: &DiagnosticClient) -> Result<Metadata, InspectError> {
    let begun = Instant::now();
    loop {
        let error = match client.client().fetch_metadata(Some(NO_TOPIC), TURN) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => unreachable(kafka, client, &error),
        };
        let seen = client.context().seen();
        let wait = match seen.last.or(seen.last_refusal) {
            Some(_) => PATIENCE_REFUSED,
            None => PATIENCE,
        };
        if begun.elapsed() > wait {
            return Err(error);
        }
    }
}

fn unreachable(kafka: &Kafka, client: &DiagnosticClient, error: &KafkaError) -> InspectError {
    // librdkafka reports what it has seen as an event, which a poll delivers.
    client.poll(Duration::from_millis(100));
    let seen = client.context().seen();
    let refused = seen.last_refusal.is_some();
    InspectError::Unreachable {
        brokers: kafka.brokers.clone(),
        reason: (seen.last_refusal.or(seen.last)).unwrap_or_else(|| error.to_string()),
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
        let message = it.error().map(|code| Code::from(code).to_string());
        (it.id(), message.unwrap_or_else(|| "no leader".into()))
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
        writing: WriteAccess::Untold("the topic does not exist".into()),
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

fn millis(text: String) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

/// Returns the addresses of brokers (`advertised.listeners`) whose host this machine does not know.
fn unresolved(metadata: &Metadata) -> Vec<String> {
    let brokers = metadata.brokers().iter();
    let unknown = brokers.filter(|it| {
        let address = (it.host(), it.port().unsigned_abs() as u16);
        address.to_socket_addrs().is_err()
    });
    unknown
        .map(|it| format!("{}:{}", it.host(), it.port()))
        .collect()
}

async fn settings(admin: &Admin, topic: &str) -> TopicSettings {
    let Some(resource) = ask(admin, ResourceSpecifier::Topic(topic)).await else {
        return TopicSettings::default();
    };
    let get = |name: &str| resource.get(name)?.value.clone();
    TopicSettings {
        max_message_bytes: get("max.message.bytes").and_then(|text| text.parse().ok()),
        min_insync: get("min.insync.replicas").and_then(|text| text.parse().ok()),
        cleanup: get("cleanup.policy"),
        broker_time: get("message.timestamp.type").is_some_and(|text| text == "LogAppendTime"),
        retention: match get("cleanup.policy").is_some_and(|text| text.contains("delete")) {
            true => get("retention.ms").and_then(millis),
            false => None,
        },
        oldest: get("message.timestamp.before.max.ms").and_then(millis),
    }
}
