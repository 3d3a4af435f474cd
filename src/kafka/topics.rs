//! What the brokers say about topics.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use tracing::debug;

use super::admin::Admin;
use crate::config::Kafka;

/// A broker that takes longer to answer about a topic is asked again at the topic's next appearance after a restart of the producer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Limits of topics, asked once for each.
pub struct Topics {
    kafka: Kafka,
    admin: Option<Admin>,
    limits: HashMap<String, Option<usize>>,
}

impl Topics {
    /// Nothing is asked yet.
    pub fn new(kafka: Kafka) -> Self {
        Self {
            kafka,
            admin: None,
            limits: HashMap::new(),
        }
    }

    /// Whether the topic was asked about.
    pub fn knows(&self, topic: &str) -> bool {
        self.limits.contains_key(topic)
    }

    /// The topic's `max.message.bytes`: what the broker allows a *batch* to have. `None` where it does not say: the topic is yet to be made, or we may not ask.
    pub async fn limit(&mut self, topic: &str) -> Option<usize> {
        if let Some(limit) = self.limits.get(topic) {
            return *limit;
        }
        let limit = self.ask(topic).await;
        self.limits.insert(topic.to_owned(), limit);
        limit
    }

    /// Forgets what it knows: limits can be changed.
    pub fn forget(&mut self) {
        self.limits.clear();
    }

    async fn ask(&mut self, topic: &str) -> Option<usize> {
        if self.admin.is_none() {
            self.admin = Admin::new(&self.kafka).ok();
        }
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let answer = self
            .admin
            .as_ref()?
            .get()
            .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
            .await;
        let limit = match answer {
            Ok(resources) => resources
                .into_iter()
                .filter_map(Result::ok)
                .find_map(|resource| {
                    resource
                        .get("max.message.bytes")?
                        .value
                        .as_ref()?
                        .parse()
                        .ok()
                }),
            Err(error) => {
                debug!(topic, %error, "the broker did not say the topic's limit");
                None
            }
        };
        debug!(topic, limit, "topic's max.message.bytes");
        limit
    }
}
