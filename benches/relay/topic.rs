//! What a topic holds: how far it goes, when the broker appended it, and whether each row is there once.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::stage::{PARTITIONS, Stage};

/// For one answer of the broker.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// A consumer without a group that commits nothing.
pub(crate) fn consumer(stage: &Stage, settings: &[(&str, &str)]) -> anyhow::Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &stage.brokers)
        .set("group.id", "doorbell-bench")
        .set("enable.auto.commit", "false");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create()?)
}

/// Assigns all partitions, from these offsets.
pub(crate) fn assign(consumer: &BaseConsumer, topic: &str, from: &[i64]) -> anyhow::Result<()> {
    let mut partitions = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(from) {
        partitions.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
    }
    consumer.assign(&partitions)?;
    Ok(())
}

/// The offset after the last record of each partition.
pub(crate) fn ends(stage: &Stage, topic: &str) -> anyhow::Result<Vec<i64>> {
    (0..PARTITIONS)
        .map(|partition| {
            let (_, end) = stage.observer.fetch_watermarks(topic, partition, ANSWER)?;
            Ok(end)
        })
        .collect()
}

/// The number of the row that a record carries.
pub(crate) fn number(payload: Option<&[u8]>) -> Option<i64> {
    let rest = payload?.strip_prefix(b"{\"n\": ")?;
    let end = rest.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Reads the whole topic as readers of committed records do: each row from 1 to `rows` must be there. How many records are of a row that was there
/// already.
pub(crate) fn doubles(stage: &Stage, topic: &str, rows: usize) -> anyhow::Result<u64> {
    let settings = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
    ];
    let consumer = consumer(stage, &settings)?;
    assign(&consumer, topic, &[0; PARTITIONS as usize])?;
    let mut seen = vec![0_u64; rows];
    let mut at_end = 0;
    while at_end < PARTITIONS {
        match consumer.poll(ANSWER).context("a record cannot be read")? {
            Ok(message) => {
                let number = number(message.payload()).context("a record that nobody sent")?;
                let row = usize::try_from(number - 1).ok();
                let times = row.and_then(|row| seen.get_mut(row));
                *times.with_context(|| format!("row {number} was never inserted"))? += 1;
            }
            Err(KafkaError::PartitionEOF(_)) => at_end += 1,
            Err(error) => return Err(error.into()),
        }
    }
    let lost = seen.iter().filter(|times| **times == 0).count();
    ensure!(lost == 0, "{lost} of {rows} rows are not in the topic");
    Ok(seen.iter().map(|times| times - 1).sum())
}

/// Reads the whole topic: each row from 1 to `rows` must be there once, and nothing else. The time from the first to the last append of the
/// records from the offsets `from` on, by the broker's clock.
pub(crate) fn check(
    stage: &Stage,
    topic: &str,
    rows: i64,
    from: &[i64],
) -> anyhow::Result<Duration> {
    let records: i64 = ends(stage, topic)?.iter().sum();
    ensure!(
        records == rows,
        "the topic has {records} records for {rows} rows"
    );
    let consumer = consumer(stage, &[])?;
    assign(&consumer, topic, &[0; PARTITIONS as usize])?;
    let mut seen = vec![false; usize::try_from(rows)?];
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for _ in 0..records {
        let message = consumer.poll(ANSWER).context("a record cannot be read")??;
        let number = number(message.payload()).context("a record that nobody sent")?;
        match seen.get_mut(usize::try_from(number - 1)?) {
            Some(seen) if !*seen => *seen = true,
            _ => bail!("row {number} arrived twice, or was never inserted"),
        }
        if message.offset() >= from[usize::try_from(message.partition())?] {
            let at = message.timestamp().to_millis().context("no time")?;
            (first, last) = (first.min(at), last.max(at));
        }
    }
    // The broker counts whole milliseconds.
    Ok(Duration::from_millis(u64::try_from((last - first).max(1))?))
}
