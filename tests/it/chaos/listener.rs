//! The consumer of the run: when each record arrived, and which records are duplicates or out of
//! order.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::database::{OUTBOXES, TWINS};
use super::ledger::{Ledger, Name};
use super::plan::Delivery;

/// An offset of each partition, by the topic and its number.
type Offsets = BTreeMap<(String, i32), i64>;

/// A record of a row that had already arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duplicate {
    pub(crate) name: Name,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) first: Instant,
    pub(crate) at: Instant,
}

/// Everything seen besides first arrivals.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) records: usize,
    pub(crate) duplicates: Vec<Duplicate>,
    /// First arrivals after a later row of their key.
    pub(crate) disorder: Vec<(Name, Name)>,
    /// Records that no writer wrote.
    pub(crate) strangers: Vec<String>,
    /// How often a consumer that read nothing for a long time was replaced by one that continues at
    /// its position.
    pub(crate) renewed: usize,
    /// The last error of a consumer.
    pub(crate) complaint: String,
    /// The last offset of each partition.
    pub(crate) offsets: Offsets,
}

/// Longer than a killed broker stays unreachable. A problem of the topic shows again with the next
/// consumer; a problem of the consumer does not.
const DEAF: Duration = Duration::from_secs(45);

/// What is read, and how.
struct Source {
    brokers: String,
    topics: Vec<String>,
    partitions: i32,
    isolation: &'static str,
}

impl Source {
    /// Reads after these offsets.
    fn consumer(&self, offsets: &Offsets) -> BaseConsumer {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "doorbell-chaos")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", self.isolation)
            .set("reconnect.backoff.max.ms", "500")
            .set("fetch.error.backoff.ms", "100")
            .set("topic.metadata.refresh.fast.interval.ms", "100")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            for partition in 0..self.partitions {
                let last = offsets.get(&(topic.clone(), partition));
                let next = last.map_or(Offset::Beginning, |last| Offset::Offset(last + 1));
                list.add_partition_offset(topic, partition, next)
                    .expect("an offset");
            }
        }
        consumer.assign(&list).expect("an assignment");
        consumer
    }
}

pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Reads the topics from their beginning.
    pub(crate) fn start(
        brokers: &str,
        topics: Vec<String>,
        partitions: i32,
        delivery: Delivery,
        ledger: Arc<Ledger>,
    ) -> Self {
        let isolation = match delivery {
            Delivery::AtLeastOnce => "read_uncommitted",
            Delivery::ExactlyOnce => "read_committed",
        };
        let source = Source {
            brokers: brokers.to_owned(),
            topics,
            partitions,
            isolation,
        };
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || listen(&source, &ledger, &stopped, &noted));
        Self {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Describes the positions of the consumer, to find out what hangs.
    pub(crate) fn words(&self) -> String {
        let seen = self.seen();
        format!(
            "consumer: {} records, last offsets {:?}, renewed {} times, last complaint {:?}",
            seen.records, seen.offsets, seen.renewed, seen.complaint
        )
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(source: &Source, ledger: &Ledger, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut highest: HashMap<String, Name> = HashMap::new();
    let mut consumer = source.consumer(&BTreeMap::new());
    let mut heard = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        if heard.elapsed() > DEAF {
            consumer = source.consumer(&seen().offsets);
            heard = Instant::now();
            seen().renewed += 1;
        }
        let message = match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => message,
            // An unreachable broker is an error that passes.
            Some(Err(error)) => {
                seen().complaint = error.to_string();
                continue;
            }
            None => continue,
        };
        let at = Instant::now();
        heard = at;
        let (partition, offset) = (message.partition(), message.offset());
        // A consumer that loses its position and rereads does not count duplicates.
        let mut seen = seen();
        let place = (message.topic().to_owned(), partition);
        let last = seen.offsets.entry(place).or_insert(-1);
        if offset <= *last {
            continue;
        }
        *last = offset;
        seen.records += 1;
        let payload = message.payload().unwrap_or_default();
        let Some(name) = Name::read(payload) else {
            seen.strangers
                .push(String::from_utf8_lossy(payload).into_owned());
            continue;
        };
        match ledger.arrive(name, at) {
            Err(name) => seen.strangers.push(name.text()),
            Ok(Some(first)) => seen.duplicates.push(Duplicate {
                name,
                partition,
                offset,
                first,
                at,
            }),
            Ok(None) => match highest.get(&name.key()) {
                // A row that commits after another with its id is found below the cursor.
                _ if OUTBOXES[name.outbox()] == TWINS => {}
                Some(before) if before.number > name.number => seen.disorder.push((name, *before)),
                _ => {
                    highest.insert(name.key(), name);
                }
            },
        }
    }
}
