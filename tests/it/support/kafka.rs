//! What a consumer sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{PATIENCE, World, eventually};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    /// A record to send, which has this text and nothing else.
    pub(crate) fn of(text: &str) -> Self {
        Self {
            partition: 0,
            key: None,
            payload: Some(text.into()),
            timestamp: None,
            headers: Vec::new(),
        }
    }

    /// Returns a header's text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(key, _)| key == name);
        let value = header.and_then(|(_, value)| value.as_deref());
        std::str::from_utf8(value.unwrap_or_else(|| panic!("no header {name}"))).expect("text")
    }

    /// Returns the row's id.
    pub(crate) fn seq(&self) -> i64 {
        self.header("seq").parse().expect("a number")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.payload.as_deref().expect("a payload")).expect("text")
    }
}

/// A consumer that reads a topic from its beginning.
pub(crate) struct Consumer {
    inner: BaseConsumer,
    pub(crate) received: Vec<Received>,
    /// Rewinds to the beginning.
    list: TopicPartitionList,
    /// Partitions whose end it has reached.
    ended: BTreeSet<i32>,
    committed: bool,
}

impl Consumer {
    /// The topic must exist.
    pub(crate) fn new(world: &World, topic: &str) -> Self {
        Self::of(world, topic, false)
    }

    /// Reads committed records only.
    pub(crate) fn committed(world: &World, topic: &str) -> Self {
        Self::of(world, topic, true)
    }

    fn of(world: &World, topic: &str, committed: bool) -> Self {
        let isolation = match committed {
            true => "read_committed",
            false => "read_uncommitted",
        };
        let inner: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &world.services.kafka_brokers)
            .set("group.id", "doorbell-tests")
            .set("enable.auto.commit", "false")
            .set("fetch.message.max.bytes", "10000000")
            .set("reconnect.backoff.max.ms", "1000")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        // A broker may hear of a topic later than the one that created it.
        let metadata = eventually(&format!("topic {topic} exists"), || {
            let metadata = inner.fetch_metadata(Some(topic), PATIENCE);
            let metadata = metadata.expect("metadata of the topic");
            (!metadata.topics()[0].partitions().is_empty()).then_some(metadata)
        });
        let partitions = metadata.topics()[0].partitions();
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)
                .expect("an offset");
        }
        inner.assign(&list).expect("an assignment");
        Self {
            inner,
            received: Vec::new(),
            list,
            ended: BTreeSet::new(),
            committed,
        }
    }

    /// Waits until that many records have arrived in all.
    #[track_caller]
    pub(crate) fn await_records(&mut self, count: usize) -> &[Received] {
        let mut last = Instant::now();
        while self.received.len() < count {
            if self.poll(Duration::from_millis(100)) {
                last = Instant::now();
            }
            assert!(
                last.elapsed() < PATIENCE,
                "{} of {count} records, then nothing for {PATIENCE:?}",
                self.received.len()
            );
        }
        &self.received
    }

    /// Returns all that is in the topic now: reads up to the ends that the broker names.
    pub(crate) fn drain(&mut self) -> &[Received] {
        if self.committed {
            return self.drain_committed();
        }
        let mut ends = BTreeMap::new();
        let assignment = self.inner.assignment().expect("an assignment");
        for element in assignment.elements() {
            let (low, high) = self
                .inner
                .fetch_watermarks(element.topic(), element.partition(), PATIENCE)
                .expect("the ends of a partition");
            ends.insert(element.partition(), high - low);
        }
        let total = usize::try_from(ends.values().sum::<i64>()).expect("a count");
        self.await_records(total)
    }

    /// Transaction markers have offsets too, so it is read again to the ends that the consumer
    /// itself reaches.
    fn drain_committed(&mut self) -> &[Received] {
        self.received.clear();
        self.ended.clear();
        self.inner.unassign().expect("an assignment that ends");
        self.inner.assign(&self.list).expect("an assignment");
        let mut last = Instant::now();
        while self.ended.len() < self.list.count() {
            if self.poll(Duration::from_millis(100)) {
                last = Instant::now();
            }
            assert!(last.elapsed() < PATIENCE, "no end within {PATIENCE:?}");
        }
        &self.received
    }

    /// Takes one record. Whether there was one.
    pub(crate) fn poll(&mut self, wait: Duration) -> bool {
        let Some(result) = self.inner.poll(wait) else {
            return false;
        };
        // A killed broker is an error that passes.
        let message = match result {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => {
                self.ended.insert(partition);
                return false;
            }
            Err(_) => return false,
        };
        let headers = message.headers().map(|headers| {
            let owned = |header: Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(owned).collect()
        });
        let received = Received {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        };
        self.received.push(received);
        true
    }
}

fn admin(world: &World) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &world.services.kafka_brokers)
        .create()
        .expect("an administration client")
}

/// Deletes what [`create_topic`] created: some tests fill hundreds of megabytes. An unreachable
/// broker keeps them.
pub(super) fn delete_topics(world: &World) {
    let topics = world.topics.take();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    if !names.is_empty() {
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
        world
            .block_on(admin(world).delete_topics(&names, &options))
            .ok();
    }
}

/// Deletes a topic, and waits until it is gone.
pub(crate) fn delete_topic(world: &World, topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let admin = admin(world);
    let results = world.block_on(admin.delete_topics(&[topic], &options));
    for result in results.expect("an answer") {
        result.expect("the topic is deleted");
    }
}

/// Begins as a producer with this transactional id does: the producer that used it before is
/// fenced.
pub(crate) fn steal_transactional_id(world: &World, id: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.services.kafka_brokers)
        .set("transactional.id", id)
        .create()
        .expect("a producer");
    eventually("the transactional id is taken", || {
        producer.init_transactions(PATIENCE).ok()
    });
}

/// Creates a topic with settings, to be deleted with the world.
pub(crate) fn create_topic(world: &World, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    // As many replicas as the brokers create by default: one on a single node, three on three.
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    create(world, new, settings);
}

/// Creates a topic of one partition, of which this node has the only replica.
pub(crate) fn create_topic_on(world: &World, topic: &str, node: i32, settings: &[(&str, &str)]) {
    let copies: [&[i32]; 1] = [&[node]];
    let new = NewTopic::new(topic, 1, TopicReplication::Variable(&copies));
    create(world, new, settings);
}

/// Creates a topic with a partition on each of these nodes, which has the only replica.
pub(crate) fn create_topic_over(world: &World, topic: &str, nodes: &[i32]) {
    let copies: Vec<&[i32]> = nodes.chunks(1).collect();
    let partitions = i32::try_from(nodes.len()).expect("few");
    let new = NewTopic::new(topic, partitions, TopicReplication::Variable(&copies));
    create(world, new, &[]);
}

fn create<'a>(world: &World, mut new: NewTopic<'a>, settings: &[(&'a str, &'a str)]) {
    let topic = new.name;
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    eventually(&format!("topic {topic} is created"), || {
        let results = world.block_on(admin(world).create_topics([&new], &options));
        let mut results = results.expect("an answer").into_iter();
        match results.next().expect("one for each topic") {
            // On a busy machine a broker's heartbeat is late, and no broker counts as alive for a
            // moment.
            Err((_, Code::InvalidReplicationFactor | Code::InvalidReplicaAssignment)) => None,
            result => Some(result.expect("the topic is created")),
        }
    });
    world.will_delete(topic);
}

/// Gives a topic this setting, and no other.
pub(crate) fn configure_topic(world: &World, topic: &str, name: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let results = world.block_on(admin(world).alter_configs(&[change], &AdminOptions::new()));
    for result in results.expect("an answer") {
        result.expect("the setting is changed");
    }
}

/// Deletes the records of the first partition below an offset, as a topic's retention does.
pub(crate) fn delete_records(world: &World, topic: &str, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(before))
        .expect("an offset");
    let deleted = world.block_on(admin(world).delete_records(&list, &AdminOptions::new()));
    for partition in deleted.expect("an answer").elements() {
        partition.error().expect("they are deleted");
    }
}

/// Returns the leader of the first partition of a topic.
pub(crate) fn leader_of(world: &World, topic: &str) -> i32 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.services.kafka_brokers)
        .create()
        .expect("a consumer");
    eventually(&format!("topic {topic} has a leader"), || {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).ok()?;
        let partition = metadata.topics().first()?.partitions().first()?;
        (partition.leader() > 0).then_some(partition.leader())
    })
}

/// A transaction of a foreign producer, open until it is told how to end.
pub(crate) struct Transaction(BaseProducer);

impl Transaction {
    /// Begins with records, and waits until a broker has them.
    pub(crate) fn begin(world: &World, id: &str, topic: &str, records: &[Received]) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &world.services.kafka_brokers)
            .set("transactional.id", id)
            .create()
            .expect("a producer");
        eventually("the transactional id is taken", || {
            producer.init_transactions(PATIENCE).ok()
        });
        producer.begin_transaction().expect("a transaction");
        send(&producer, topic, records);
        Self(producer)
    }

    pub(crate) fn commit(self) {
        self.0.commit_transaction(PATIENCE).expect("a commit");
    }

    pub(crate) fn abort(self) {
        self.0.abort_transaction(PATIENCE).expect("an abort");
    }
}

/// Writes records as a foreign producer might: in one transaction that is committed or aborted, or
/// in none.
pub(crate) fn produce(world: &World, topic: &str, records: &[Received], commit: Option<bool>) {
    let begun = || Transaction::begin(world, topic, topic, records);
    match commit {
        Some(true) => begun().commit(),
        Some(false) => begun().abort(),
        None => {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &world.services.kafka_brokers);
            send(&config.create().expect("a producer"), topic, records);
        }
    }
}

fn send(producer: &BaseProducer, topic: &str, records: &[Received]) {
    for received in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &received.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_ref(),
            });
        }
        let record = BaseRecord::<[u8], [u8]> {
            topic,
            partition: Some(received.partition),
            payload: received.payload.as_deref(),
            key: received.key.as_deref(),
            timestamp: received.timestamp,
            headers: Some(headers),
            delivery_opaque: (),
        };
        let taken = producer.send(record).map_err(|(error, _)| error);
        taken.expect("room in the queue");
    }
    eventually("the broker has them", || {
        producer.poll(Duration::ZERO);
        (producer.in_flight_count() == 0).then_some(())
    });
}
