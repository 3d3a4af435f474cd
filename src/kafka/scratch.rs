//! A benchmark's own topics: made for a measurement, removed afterwards.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::admin::Admin;
use super::consumer::{metadata, open, reading};
use super::producer::ConfigError;
use super::trouble::Silence;
use crate::config::Kafka;

/// For one answer of the brokers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Making a topic waits until each of its partitions has a leader.
const MAKING: Duration = Duration::from_secs(60);

/// A topic could not be made or removed, or the brokers do not answer.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answered.
    #[error(
        "Kafka at {0} does not answer; check kafka.brokers, and that the broker's advertised.listeners can be reached from here"
    )]
    Away(String),
    /// The brokers refuse us, or we them.
    #[error("{0}")]
    Distrust(String),
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The brokers refused.
    #[error(
        "topic {topic} could not be {done}: {reason}; the user needs the rights to create, describe, write, read and delete topics"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// `created` or `deleted`.
        done: &'static str,
        /// The brokers' word.
        reason: String,
    },
}

/// Topics with a common prefix, each with the same number of partitions.
pub struct ScratchTopics {
    kafka: Kafka,
    admin: Admin,
    prefix: String,
    partitions: i32,
    names: Vec<String>,
}

impl ScratchTopics {
    /// Makes no topic yet.
    pub fn new(kafka: &Kafka, prefix: &str, partitions: i32) -> Result<Self, TopicError> {
        Ok(Self {
            kafka: kafka.clone(),
            admin: Admin::new(kafka)?,
            prefix: prefix.to_owned(),
            partitions,
            names: Vec::new(),
        })
    }

    /// Partitions of each.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Makes a topic, with as many replicas as the brokers give by default; its name.
    pub async fn make(&mut self, purpose: &str) -> Result<String, TopicError> {
        let name = format!("{}.{}.{purpose}", self.prefix, self.names.len());
        let options = AdminOptions::new()
            .operation_timeout(Some(MAKING))
            .request_timeout(Some(MAKING));
        let new = NewTopic::new(&name, self.partitions, TopicReplication::Fixed(-1));
        // Noted before: an answer that is lost may still have made it.
        self.names.push(name.clone());
        let made = self.admin.get().create_topics(&[new], &options).await;
        self.judge(&name, "created", made)?;
        Ok(name)
    }

    /// The name of the topic that relays make for their receipts: one and the same, since the database knows how far they have come.
    pub fn receipts(&mut self) -> String {
        if let Some(known) = self.names.iter().find(|name| name.ends_with(".receipts")) {
            return known.clone();
        }
        let name = format!("{}.{}.receipts", self.prefix, self.names.len());
        self.names.push(name.clone());
        name
    }

    /// Removes a topic.
    pub async fn remove(&mut self, name: &str) -> Result<(), TopicError> {
        let options = AdminOptions::new().request_timeout(Some(MAKING));
        let removed = self.admin.get().delete_topics(&[name], &options).await;
        self.judge(name, "deleted", removed)?;
        self.names.retain(|known| known != name);
        Ok(())
    }

    /// Removes all topics that were made.
    pub async fn remove_all(&mut self) -> Result<(), TopicError> {
        for name in self.names.clone() {
            self.remove(&name).await?;
        }
        Ok(())
    }

    /// Names of the topics that are there now.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn judge(
        &self,
        topic: &str,
        done: &'static str,
        answer: Result<Vec<TopicResult>, KafkaError>,
    ) -> Result<(), TopicError> {
        let refused = |reason: String| TopicError::Refused {
            topic: topic.to_owned(),
            done,
            reason,
        };
        for result in answer.map_err(|error| refused(error.to_string()))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((
                    _,
                    RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut,
                )) => {
                    return Err(TopicError::Away(self.kafka.brokers.clone()));
                }
                Err((_, code)) => return Err(refused(code.to_string())),
            }
        }
        Ok(())
    }
}

/// Names of scratch topics that begin with `prefix`; proves on the way that the brokers answer. Blocks.
pub fn scratch_topics(kafka: &Kafka, prefix: &str) -> Result<Vec<String>, TopicError> {
    let client = open(&reading(kafka), kafka)?;
    let found = metadata(&client, None, PATIENCE).map_err(|_| match client.context().told() {
        Silence::Away(_) => TopicError::Away(kafka.brokers.clone()),
        Silence::Refused(words) => TopicError::Distrust(words),
    })?;
    let names = found.topics().iter().map(|topic| topic.name());
    Ok(names
        // As `make` names them: prefix, number, purpose.
        .filter(|name| name.starts_with(prefix) && name.split('.').count() == 3)
        .map(str::to_owned)
        .collect())
}

/// The version of the C library underneath.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}
