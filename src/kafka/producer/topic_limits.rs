//! Settings of topics, as the brokers report them.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, ConfigResourceResult, ResourceSpecifier};
use tracing::debug;

use crate::config::Kafka;
use crate::kafka::admin::Admin;

/// If a broker takes longer to answer about a topic, the relay asks again when the topic next
/// occurs after a restart of the producer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a topic's settings say of records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopicFacts {
    /// `max.message.bytes`, the limit for a *batch*. `None`: the broker does not say, because the
    /// topic does not exist yet or the user may not ask.
    pub(crate) limit: Option<usize>,
    /// Whether it is compacted.
    pub(crate) needs_key: bool,
    /// How many milliseconds old a record may be.
    pub(crate) most_age: Option<i64>,
}

/// Settings of topics. Each topic is asked about once.
pub(crate) struct Topics {
    kafka: Kafka,
    admin: Option<Admin>,
    known: HashMap<String, TopicFacts>,
}

impl Topics {
    pub(crate) fn new(kafka: Kafka) -> Self {
        Self {
            kafka,
            admin: None,
            known: HashMap::new(),
        }
    }

    pub(crate) async fn facts(&mut self, topic: &str) -> TopicFacts {
        if let Some(facts) = self.known.get(topic) {
            return *facts;
        }
        let facts = self.ask(topic).await.unwrap_or_default();
        debug!(topic, ?facts, "topic's settings");
        self.known.insert(topic.to_owned(), facts);
        facts
    }

    /// Forgets the settings, since an operator can change them.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }

    /// Asks again about a topic that exists, if it did not when it was asked about.
    pub(crate) fn is_made(&mut self, topic: &str) {
        if self.known.get(topic).is_some_and(|it| it.limit.is_none()) {
            self.known.remove(topic);
        }
    }

    /// Asks a broker about any topic, or says why none answers.
    pub(crate) async fn ask_any(&mut self) -> Result<(), String> {
        self.describe("doorbell").await.map(drop)
    }

    async fn describe(&mut self, topic: &str) -> Result<Vec<ConfigResourceResult>, String> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => Admin::new(&self.kafka).map_err(|error| error.to_string())?,
        };
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let topic = [ResourceSpecifier::Topic(topic)];
        let client = self.admin.insert(admin).get();
        let answer = client.describe_configs(&topic, &options).await;
        answer.map_err(|error| error.to_string())
    }

    async fn ask(&mut self, topic: &str) -> Option<TopicFacts> {
        let told = self.describe(topic).await.inspect_err(
            |error| debug!(topic, %error, "the broker did not say the topic's settings"),
        );
        let settings = told.ok()?.into_iter().find_map(Result::ok)?;
        let get = |name: &str| settings.get(name)?.value.as_deref();
        let is_compacted = |policy: &str| policy.contains("compact");
        let by_creation = get("message.timestamp.type") != Some("LogAppendTime");
        let most_age = get("message.timestamp.before.max.ms").filter(|_| by_creation);
        Some(TopicFacts {
            limit: get("max.message.bytes").and_then(|text| text.parse().ok()),
            needs_key: get("cleanup.policy").is_some_and(is_compacted),
            most_age: most_age
                .and_then(|text| text.parse().ok())
                .filter(|millis| *millis < i64::MAX),
        })
    }
}
