//! Creates the topic of the receipts, or checks the one that exists.

use rdkafka::admin::{AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::error::ReceiptsError;
use super::store::{PATIENCE, Receipts};
use crate::numbers::counted;

/// A receipt of as many rows as it may name has to fit; a topic's default is a little more.
pub(crate) const LARGEST_RECEIPT: usize = 1_000_000;

impl Receipts {
    /// Prepares the topic ahead of its use. Each of the clients connects, which takes the library
    /// up to a second.
    pub(crate) async fn meet(&self) -> Result<(), ReceiptsError> {
        self.prepare().await?;
        let asked = self.whole.fetch_metadata(Some(&self.topic), PATIENCE);
        asked.map(drop).map_err(|error| self.away(&error))
    }

    /// Whether the topic is known to exist. It asks no consumer, which would remember for a while
    /// that a topic is missing.
    pub(super) async fn exists(&self) -> bool {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let topic = [ResourceSpecifier::Topic(&self.topic)];
        let answer = self.admin.get().describe_configs(&topic, &options).await;
        let answer = answer.ok().and_then(|it| it.into_iter().next());
        matches!(answer, Some(Ok(it)) if it.get("cleanup.policy").is_some())
    }

    /// Creates the topic if it does not exist, and checks it otherwise.
    pub(crate) async fn prepare(&self) -> Result<(), ReceiptsError> {
        let new = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact")
            // Old receipts are removed soon: only closed segments are compacted.
            .set("segment.ms", "3600000")
            .set("segment.bytes", "104857600")
            .set("max.message.bytes", "10485760");
        let options = AdminOptions::new()
            .operation_timeout(Some(PATIENCE))
            .request_timeout(Some(PATIENCE));
        let made = self
            .admin
            .get()
            .create_topics(&[new], &options)
            .await
            .map_err(|error| self.away(&error))?;
        match made.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => {}
            // A user that may not create the topic may still use an existing one.
            Some(Err((_, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => {
                if self.partitions()?.is_none() {
                    return Err(self.wrong(
                        "it does not exist, and this user may not create it",
                        &format!(
                            "create it with one partition and cleanup.policy=compact, or grant the user Create on topic {}",
                            self.topic
                        ),
                    ));
                }
            }
            Some(Err((_, code @ Code::InvalidTopic))) => {
                return Err(self.wrong(&code.to_string(), "set `receipts` to another topic"));
            }
            Some(Err((_, code @ Code::PolicyViolation))) if self.partitions()?.is_none() => {
                return Err(self.wrong(
                    &format!("the brokers' policy does not let it be created ({code})"),
                    "create it with one partition and cleanup.policy=compact, as the policy asks",
                ));
            }
            Some(Err((_, Code::PolicyViolation))) => {}
            Some(Err((_, code))) => return Err(self.away(&code)),
            Some(Ok(_)) | None => return Ok(()),
        }
        self.check(&options).await
    }

    async fn check(&self, options: &AdminOptions) -> Result<(), ReceiptsError> {
        match self.partitions()? {
            Some(1) => {}
            None => return Err(self.away(&"the topic does not exist yet")),
            Some(count) => {
                return Err(self.wrong(
                    &("it has ".to_owned() + &counted(count, "partition")),
                    "set `receipts` to a topic with one partition, or to one that does not exist",
                ));
            }
        }
        let resources = [ResourceSpecifier::Topic(&self.topic)];
        let answer = self
            .admin
            .get()
            .describe_configs(&resources, options)
            .await
            .map_err(|error| self.away(&error))?;
        let setting = |resource: &ConfigResource, name| resource.get(name)?.value.clone();
        let (policy, largest) = match answer.into_iter().next() {
            Some(Ok(resource)) => (
                setting(&resource, "cleanup.policy"),
                setting(&resource, "max.message.bytes"),
            ),
            Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                (None, None)
            }
            Some(Err(code)) => return Err(self.away(&code)),
            None => return Err(self.away(&"no answer about its configuration")),
        };
        // The library returns an answer without entries if the broker refuses.
        let Some(policy) = policy else {
            return Err(self.forbidden(&self.topic, "DescribeConfigs"));
        };
        if policy != "compact" {
            let problem =
                format!("its cleanup.policy is {policy}, which deletes receipts by their age");
            return Err(self.wrong(&problem, &self.altering("cleanup.policy=compact")));
        }
        let largest: Option<usize> = largest.and_then(|bytes| bytes.parse().ok());
        if let Some(bytes) = largest.filter(|bytes| *bytes < LARGEST_RECEIPT) {
            let problem = format!("its max.message.bytes is {bytes}, and a receipt may be larger");
            let remedy = self.altering(&format!("max.message.bytes={LARGEST_RECEIPT}"));
            return Err(self.wrong(&problem, &remedy));
        }
        Ok(())
    }

    /// The command that changes a setting of the topic.
    fn altering(&self, setting: &str) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} --add-config {setting}",
            self.kafka.brokers, self.topic
        )
    }
}
