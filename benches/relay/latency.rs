//! One row into an idle outbox, until a consumer has it.
//!
//! What a relay in a process of its own knows of the broker's acknowledgement cannot be seen from outside. So both sides are measured by what
//! can: from the moment the writer's commit has returned to the moment a waiting consumer has the record. For the bare loop the
//! acknowledgement is also noted in process: it shows how far the two lie apart.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use sqlx::{Executor, Row};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::bare::Bare;
use crate::figures::Percentiles;
use crate::process::Relay;
use crate::stage::{PARTITIONS, PATIENCE, Stage};

/// Between two rows: the outbox is to be idle, with the delete of the row before it done.
const PAUSE: Duration = Duration::from_millis(20);

/// Rows ahead of each block, not counted: connections to partitions' leaders, plans, caches.
const WARM_UP: u32 = 5;

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    samples: u32,
    bare: Percentiles,
    relay: Percentiles,
    /// Commit to acknowledgement, seen by the bare loop itself.
    bare_to_acknowledgement: Percentiles,
    /// All of it in milliseconds, in the order of measurement.
    raw: Raw,
}

#[derive(Debug, Default, Serialize)]
struct Raw {
    bare: Vec<f64>,
    relay: Vec<f64>,
    bare_to_acknowledgement: Vec<f64>,
}

/// A committed row: its id, and when the commit had returned.
type Committed = (i64, Instant);

/// Blocks of bare loop and relay in turn.
pub(crate) async fn measure(
    stage: &mut Stage,
    samples: u32,
    rounds: u32,
) -> anyhow::Result<Results> {
    let mut raw = Raw::default();
    for round in 0..rounds {
        let block = samples / rounds + u32::from(round < samples % rounds);
        eprintln!("latency {}/{rounds}: bare loop, then relay", round + 1);
        bare(stage, block, &mut raw).await?;
        relay(stage, block, &mut raw).await?;
    }
    Ok(Results {
        samples,
        bare: Percentiles::of(&raw.bare),
        relay: Percentiles::of(&raw.relay),
        bare_to_acknowledgement: Percentiles::of(&raw.bare_to_acknowledgement),
        raw,
    })
}

async fn bare(stage: &mut Stage, block: u32, raw: &mut Raw) -> anyhow::Result<()> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let bare = Bare::start(stage, &topic, true).await?;
    let mut consumer = Consumer::start(stage, &topic)?;
    insert(stage, &mut consumer, WARM_UP).await?;
    let rows = insert(stage, &mut consumer, block).await?;
    // A consumer may have the last record before its acknowledgement is back.
    let acknowledged = async {
        loop {
            let times = bare.times();
            if times.len() >= (WARM_UP + block) as usize {
                return times;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let acknowledged = timeout(Duration::from_secs(10), acknowledged)
        .await
        .context("a record that arrived was not acknowledged")?;
    for ((id, committed), millis) in rows {
        raw.bare.push(millis);
        let (_, at) = acknowledged
            .iter()
            .find(|(acknowledged, _)| *acknowledged == id)
            .context("a record arrived that was never sent")?;
        raw.bare_to_acknowledgement
            .push(millis_between(committed, *at));
    }
    bare.stop().await
}

async fn relay(stage: &mut Stage, block: u32, raw: &mut Raw) -> anyhow::Result<()> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let relay = Relay::lead(stage, &topic)?;
    let mut consumer = Consumer::start(stage, &topic)?;
    insert(stage, &mut consumer, WARM_UP).await?;
    let rows = insert(stage, &mut consumer, block).await?;
    raw.relay.extend(rows.into_iter().map(|(_, millis)| millis));
    relay.stop()
}

/// Inserts rows one by one, each when the one before has arrived; how long each took to arrive.
async fn insert(
    stage: &mut Stage,
    consumer: &mut Consumer,
    rows: u32,
) -> anyhow::Result<Vec<(Committed, f64)>> {
    let mut measured = Vec::new();
    for _ in 0..rows {
        // Time itself is what is wanted here: rows that come alone.
        sleep(PAUSE).await;
        let row = stage
            .session
            .fetch_one("INSERT INTO outbox (type, key, payload) VALUES ('OrderCreated', 'key', repeat('x', 200)) RETURNING id")
            .await?;
        let committed = (row.try_get(0)?, Instant::now());
        loop {
            let (id, at) = timeout(PATIENCE, consumer.arrivals.recv())
                .await
                .context("a row did not arrive")?
                .context("the consumer ended")?;
            if id == committed.0 {
                measured.push((committed, millis_between(committed.1, at)));
                break;
            }
        }
    }
    Ok(measured)
}

/// A record may arrive before the writer has read that its commit is done: that counts as nothing.
fn millis_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// A consumer that waits in a thread of its own, and says when each row arrived.
struct Consumer {
    arrivals: mpsc::UnboundedReceiver<(i64, Instant)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    fn start(stage: &Stage, topic: &str) -> anyhow::Result<Self> {
        let inner: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &stage.brokers)
            .set("group.id", "doorbell-bench")
            .set("enable.auto.commit", "false")
            // The broker answers with the first record, whenever it comes.
            .set("fetch.wait.max.ms", "1000")
            .set("fetch.min.bytes", "1")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        inner.assign(&partitions)?;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(Ok(message)) = inner.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let at = Instant::now();
                let id = message
                    .headers()
                    .and_then(|headers| headers.iter().find(|header| header.key == "seq"))
                    .and_then(|header| std::str::from_utf8(header.value?).ok()?.parse().ok());
                if let Some(id) = id {
                    arrived.send((id, at)).ok();
                }
            }
        });
        Ok(Self {
            arrivals,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let (relay, ratio) = (self.relay.p50, self.relay.over(&self.bare).p50);
        format!("latency p50, relay {relay:.2} ms, relay / bare loop {ratio:.2}")
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "latency: {} rows one by one into an idle outbox, milliseconds from the commit's return",
            self.samples
        )?;
        writeln!(f, "| | p50 | p90 | p99 | max |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        writeln!(f, "| bare loop, to the consumer | {} |", self.bare)?;
        writeln!(f, "| relay, to the consumer | {} |", self.relay)?;
        writeln!(f, "| relay / bare | {} |", self.relay.over(&self.bare))?;
        write!(
            f,
            "| bare loop, to the acknowledgement | {} |",
            self.bare_to_acknowledgement
        )
    }
}
