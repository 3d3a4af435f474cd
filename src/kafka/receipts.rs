//! Where receipts are kept: a compacted topic of one partition. It is read to a record of one's own, never to "the end": another's open transaction
//! holds the end back, and an old receipt would come out.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::Admin;
use super::consumer::Reader;
use super::history::{consumer, passes};
use super::producer::{ConfigError, Producer, SendError};
use super::receipt::{Receipt, Unreadable};
use crate::config::Kafka;
use crate::event::OutboxId;

/// For one answer of the brokers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a wait goes on before it is looked whether it is still wanted.
const TURN: Duration = Duration::from_millis(50);
/// Offsets before the end where the last receipt is looked for first: each transaction takes two or three.
const FIRST_STEP: i64 = 64;
/// And so many times as far back, where it is not there.
const WIDER: i64 = 16;

/// The receipts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptsError {
    /// The brokers do not answer now.
    #[error("the receipts in topic {topic} cannot be reached: {reason}")]
    Away {
        /// The topic.
        topic: String,
        /// What the library said.
        reason: String,
    },
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topic is not what it must be.
    #[error("topic {topic} cannot hold receipts: {problem}; {remedy}")]
    Wrong {
        /// The topic.
        topic: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A right is missing.
    #[error(
        "Kafka does not let this user do what receipts need on topic {topic}; grant {right}: kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:... --operation {right} --topic {topic}"
    )]
    Forbidden {
        /// Who was asked.
        brokers: String,
        /// The topic.
        topic: String,
        /// The right, by Kafka's name.
        right: &'static str,
    },
    /// What is read is no longer wanted.
    #[error("reading the receipts was given up")]
    GivenUp,
}

/// The receipts of one outbox.
pub struct Receipts {
    kafka: Kafka,
    topic: String,
    /// The key of its records: an outbox has one receipt, the last.
    key: String,
    barrier_key: String,
    opener_key: String,
    consumer: Reader,
    /// Sees also what is neither committed nor aborted.
    whole: Reader,
    admin: Admin,
}

impl Receipts {
    /// Nothing is contacted yet.
    pub fn of(kafka: &Kafka, topic: &str, outbox: OutboxId) -> Result<Self, ConfigError> {
        let OutboxId(id) = outbox;
        Ok(Self {
            kafka: kafka.clone(),
            topic: topic.to_owned(),
            key: id.to_string(),
            barrier_key: format!("{id}:barrier"),
            opener_key: format!("{id}:opener"),
            consumer: consumer(kafka, "read_committed")?,
            whole: consumer(kafka, "read_uncommitted")?,
            admin: Admin::new(kafka)?,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Who is asked.
    pub fn brokers(&self) -> &str {
        &self.kafka.brokers
    }

    /// Sends a receipt, in the transaction that is open.
    pub fn send(&self, producer: &Producer, value: &[u8], ticket: usize) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.key, value, ticket)
    }

    /// Sends a record that says nothing: it has the partition added to the transaction before there is a receipt.
    pub fn send_opener(&self, producer: &Producer, ticket: usize) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.opener_key, b"", ticket)
    }

    /// Sends a barrier: whoever reads up to it has read every receipt that was committed before.
    pub fn send_barrier(
        &self,
        producer: &Producer,
        token: &str,
        ticket: usize,
    ) -> Result<(), SendError> {
        producer.send_receipt(&self.topic, &self.barrier_key, token.as_bytes(), ticket)
    }

    /// Prepares it before that is needed: each of its clients is connected then, which takes the library up to a second.
    pub async fn meet(&self) -> Result<(), ReceiptsError> {
        self.prepare().await?;
        let asked = self.whole.fetch_metadata(Some(&self.topic), PATIENCE);
        asked.map(drop).map_err(|error| self.away(&error))
    }

    /// Makes the topic where there is none, and checks one that is there.
    pub async fn prepare(&self) -> Result<(), ReceiptsError> {
        let new = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact")
            // What is no longer needed goes soon: only closed segments are compacted.
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
            // Whoever may not create it may still use one that is there.
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
            Some(Err((_, code @ (Code::InvalidTopic | Code::PolicyViolation)))) => {
                return Err(self.wrong(&code.to_string(), "set `receipts` to another topic"));
            }
            Some(Err((_, code))) => return Err(self.away(&code)),
            Some(Ok(_)) | None => return Ok(()),
        }
        self.check(&options).await
    }

    async fn check(&self, options: &AdminOptions) -> Result<(), ReceiptsError> {
        match self.partitions()? {
            Some(1) => {}
            None => return Err(self.away(&"the topic is not there yet")),
            Some(count) => {
                return Err(self.wrong(
                    &format!("it has {count} partitions"),
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
        let policy = match answer.into_iter().next() {
            Some(Ok(resource)) => {
                let entry = resource.get("cleanup.policy");
                entry.and_then(|entry| entry.value.clone())
            }
            Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => None,
            Some(Err(code)) => return Err(self.away(&code)),
            None => return Err(self.away(&"no answer about its configuration")),
        };
        // The library has an answer without entries where the broker refuses one.
        let Some(policy) = policy else {
            return Err(self.forbidden(&self.topic, "DescribeConfigs"));
        };
        if policy != "compact" {
            let problem =
                format!("its cleanup.policy is {policy}, which forgets receipts by their age");
            let remedy = format!(
                "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} --add-config cleanup.policy=compact",
                self.kafka.brokers, self.topic
            );
            return Err(self.wrong(&problem, &remedy));
        }
        Ok(())
    }

    /// How many partitions the topic has. No topic is made by asking.
    fn partitions(&self) -> Result<Option<usize>, ReceiptsError> {
        Ok(self.partition_ids(&self.topic)?.map(|ids| ids.len()))
    }

    fn partition_ids(&self, topic: &str) -> Result<Option<Vec<i32>>, ReceiptsError> {
        let metadata = self
            .awake()
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| self.away(&error))?;
        let Some(found) = metadata.topics().first() else {
            return Ok(None);
        };
        match found.error().map(Code::from) {
            None => Ok(Some(found.partitions().iter().map(|p| p.id()).collect())),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(Code::TopicAuthorizationFailed) => Err(self.forbidden(topic, "Describe")),
            Some(code) => Err(self.away(&code)),
        }
    }

    /// The consumer. A token that it wants it gets only by a poll, and before a takeover it may have waited for hours.
    fn awake(&self) -> &Reader {
        self.consumer.poll(Duration::ZERO);
        &self.consumer
    }

    /// The last receipt that was committed before the barrier with this token; `None` where there was none. Blocks.
    pub fn last_before(
        &self,
        token: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Receipt>, ReceiptsError> {
        let (low, high) = self
            .awake()
            .fetch_watermarks(&self.topic, 0, PATIENCE)
            .map_err(|error| self.away(&error))?;
        let mut step = FIRST_STEP;
        loop {
            let from = high.saturating_sub(step).max(low);
            let found = self.read(from, token, wanted)?;
            if found.is_some() || from <= low {
                // Nothing more is fetched.
                self.consumer
                    .unassign()
                    .map_err(|error| self.away(&error))?;
                return Ok(found);
            }
            step = step.saturating_mul(WIDER);
        }
    }

    fn read(
        &self,
        from: i64,
        token: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Receipt>, ReceiptsError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(from))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| self.away(&error))?;
        let mut last = None;
        let mut heard = Instant::now();
        while wanted() {
            match self.consumer.poll(TURN) {
                None if heard.elapsed() < PATIENCE => {}
                None => {
                    return Err(self.away(&"a transaction of somebody else's is open in it"));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) if passes(code) => {}
                    Some(Code::TopicAuthorizationFailed) => {
                        return Err(self.forbidden(&self.topic, "Read"));
                    }
                    _ => return Err(self.away(&error)),
                },
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let value = message.payload().unwrap_or_default();
                    let is = |key: &str| message.key() == Some(key.as_bytes());
                    if is(&self.key) {
                        let read = Receipt::decode(value).map_err(|Unreadable| {
                            self.wrong(
                                &format!("at offset {} {Unreadable}", message.offset()),
                                "use the version of Doorbell that wrote it, or set `receipts` to another topic",
                            )
                        })?;
                        last = Some(read);
                    } else if is(&self.barrier_key) && value == token.as_bytes() {
                        return Ok(last);
                    }
                }
            }
        }
        Err(ReceiptsError::GivenUp)
    }

    /// Waits until everything that the topics hold now is either committed or aborted: until then nobody can know which. Blocks.
    pub fn await_stable(
        &self,
        topics: &[String],
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), ReceiptsError> {
        for topic in topics {
            // Of a topic that is gone nothing is read any more.
            let Some(partitions) = self.partition_ids(topic)? else {
                continue;
            };
            self.whole.poll(Duration::ZERO);
            // A consumer that does not know the topic asks for it at growing distances.
            self.whole
                .fetch_metadata(Some(topic), PATIENCE)
                .map_err(|error| self.away(&error))?;
            let until = self.ends(&self.whole, topic, &partitions)?;
            let begun = Instant::now();
            loop {
                let stable = self.ends(&self.consumer, topic, &partitions)?;
                let mut open = until
                    .iter()
                    .zip(&stable)
                    .filter(|(end, stable)| end.1 > stable.1);
                let Some(((partition, end), _)) = open.next() else {
                    break;
                };
                if !wanted() {
                    return Err(ReceiptsError::GivenUp);
                }
                if begun.elapsed() > PATIENCE {
                    let reason = format!(
                        "a transaction is open in topic {topic}, partition {partition}, before offset {end}: what became of its records is not known"
                    );
                    return Err(self.away(&reason));
                }
                std::thread::sleep(TURN);
            }
        }
        Ok(())
    }

    /// Each partition, and where it ends for this consumer.
    fn ends(
        &self,
        consumer: &Reader,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<(i32, i64)>, ReceiptsError> {
        let mut ask = TopicPartitionList::new();
        for partition in partitions {
            ask.add_partition_offset(topic, *partition, Offset::End)
                .map_err(|error| self.away(&error))?;
        }
        // One question for all of them: with the end in place of a time, it is answered with the end.
        let answer = consumer
            .offsets_for_times(ask, PATIENCE)
            .map_err(|error| self.away(&error))?;
        let end = |it: &TopicPartitionListElem<'_>| {
            it.error().map_err(|error| self.away(&error))?;
            match it.offset() {
                Offset::Offset(end) => Ok((it.partition(), end)),
                _ => Err(self.away(&"a partition's end is not known")),
            }
        };
        answer.elements().iter().map(end).collect()
    }

    fn away(&self, reason: &impl ToString) -> ReceiptsError {
        ReceiptsError::Away {
            topic: self.topic.clone(),
            reason: reason.to_string(),
        }
    }

    /// The broker's word on a receipt or a barrier, where it is that we may not write them.
    pub fn refused(&self, code: Option<Code>) -> Option<ReceiptsError> {
        (code == Some(Code::TopicAuthorizationFailed)).then(|| self.forbidden(&self.topic, "Write"))
    }

    fn forbidden(&self, topic: &str, right: &'static str) -> ReceiptsError {
        ReceiptsError::Forbidden {
            brokers: self.kafka.brokers.clone(),
            topic: topic.to_owned(),
            right,
        }
    }

    fn wrong(&self, problem: &str, remedy: &str) -> ReceiptsError {
        ReceiptsError::Wrong {
            topic: self.topic.clone(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}
