//! A consumer that waits for records and says when each row came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::producer::{ConfigError, client, explain};
use super::token;
use super::trouble::{Silence, Trouble};
use crate::config::Kafka;

/// How long a stop may go unnoticed.
const TURN: Duration = Duration::from_millis(100);

/// A row's id, and when a waiting consumer had its record.
pub type Arrival = (i64, Instant);

/// Reads a topic of `doorbell run` from its beginning, in a thread of its own until it is dropped.
pub struct Arrivals {
    arrived: mpsc::UnboundedReceiver<Arrival>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    /// Begins to read.
    pub fn of(kafka: &Kafka, topic: &str, partitions: i32) -> Result<Self, ConfigError> {
        let consumer = consumer(kafka, topic, partitions)?;
        let (sender, arrived) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // An error passes, or the records stay away, which whoever waits for them notices.
                let Some(Ok(message)) = consumer.poll(TURN) else {
                    continue;
                };
                let at = Instant::now();
                if let Some(id) = row_id(&message) {
                    sender.send((id, at)).ok();
                }
            }
        });
        Ok(Self {
            arrived,
            stop,
            thread: Some(thread),
        })
    }

    /// The next arrival; `None` when nothing more will come. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.arrived.recv().await
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn consumer(kafka: &Kafka, topic: &str, partitions: i32) -> Result<Reader, ConfigError> {
    let mut config = reading(kafka);
    // The broker answers with the first record, whenever it comes.
    config
        .set("fetch.wait.max.ms", "1000")
        .set("fetch.min.bytes", "1");
    let consumer = open(&config, kafka)?;
    let failed = |error| ConfigError(explain(kafka, &error));
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    Ok(consumer)
}

/// Any consumer of ours.
pub(super) type Reader = BaseConsumer<Listener>;

/// What librdkafka calls for a consumer.
pub(super) struct Listener {
    kafka: Kafka,
    trouble: Trouble,
}

impl Listener {
    /// Why no broker answers, as far as it was said.
    pub(super) fn told(&self) -> Silence {
        self.trouble.told(&self.kafka)
    }
}

impl ClientContext for Listener {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.trouble.note(code, reason);
        }
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::read(self.kafka.token_file.as_deref())
    }
}

impl ConsumerContext for Listener {}

/// Builds a consumer; nothing is contacted yet.
pub(super) fn open(config: &ClientConfig, kafka: &Kafka) -> Result<Reader, ConfigError> {
    let context = Listener {
        kafka: kafka.clone(),
        trouble: Trouble::default(),
    };
    let consumer: Reader = config
        .create_with_context(context)
        .map_err(|error| ConfigError(explain(kafka, &error)))?;
    // Where a token is needed, it is asked for here: without it no request is sent.
    consumer.poll(Duration::ZERO);
    Ok(consumer)
}

/// Asks what topics there are; gives up early where the brokers refuse us. Blocks.
pub(super) fn metadata(
    consumer: &Reader,
    topic: Option<&str>,
    patience: Duration,
) -> KafkaResult<Metadata> {
    let begun = Instant::now();
    loop {
        let asked = consumer.fetch_metadata(topic, patience.min(Duration::from_secs(1)));
        let Err(error) = asked else { return asked };
        // What librdkafka said meanwhile.
        for _ in 0..20 {
            consumer.poll(Duration::ZERO);
        }
        if begun.elapsed() >= patience || consumer.context().trouble.is_refusal() {
            return Err(error);
        }
    }
}

/// What every consumer of ours starts from: it joins no group and commits nothing.
pub(super) fn reading(kafka: &Kafka) -> ClientConfig {
    let mut config = client(kafka);
    config
        .set_log_level(RDKafkaLogLevel::Emerg)
        // Needed by the library.
        .set("group.id", "doorbell")
        .set("enable.auto.commit", "false");
    config
}

/// The row's id, from the header `seq`.
pub(super) fn row_id(message: &impl Message) -> Option<i64> {
    header(message, "seq")?.parse().ok()
}

/// The text of a header of ours: the first of its name, the row's own come later.
pub(super) fn header<'a>(message: &'a impl Message, name: &str) -> Option<&'a str> {
    let mut headers = message.headers()?.iter();
    let found = headers.find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
