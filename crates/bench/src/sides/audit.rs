//! Whether a topic holds each row, and when the broker appended them.

use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use crate::fixture::{ANSWER, Fixture, consumer};

/// Reads the whole topic as readers of committed records do: each row from 1 to `rows` must be
/// there, and nothing else. How many records are of a row that was there already; and the time from
/// the first to the last append of the records from the offsets `from` on, by the broker's clock,
/// which counts whole milliseconds.
pub(crate) fn audit(
    fixture: &Fixture,
    topic: &str,
    rows: i64,
    from: &[i64],
) -> anyhow::Result<(i64, Duration)> {
    let partitions = fixture.topics.partitions as usize;
    let properties = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
    ];
    let begin = vec![0; partitions];
    let reader = fixture.topics.reader(topic, &begin, &properties)?;
    let mut seen = vec![0_i64; usize::try_from(rows)?];
    let (mut first, mut last, mut at_end) = (i64::MAX, i64::MIN, 0);
    while at_end < partitions {
        let message = match reader.poll(ANSWER).context("a record cannot be read")? {
            Err(KafkaError::PartitionEOF(_)) => {
                at_end += 1;
                continue;
            }
            message => message?,
        };
        let number = consumer::number(&message).context("a record of no row")?;
        let row = usize::try_from(number - 1).ok();
        let times = row.and_then(|row| seen.get_mut(row));
        *times.with_context(|| format!("row {number} was never inserted"))? += 1;
        let partition = usize::try_from(message.partition())?;
        if message.offset() >= from.get(partition).copied().unwrap_or(0) {
            let at = message.timestamp().to_millis().context("no time")?;
            (first, last) = (first.min(at), last.max(at));
        }
    }
    let lost = seen.iter().filter(|times| **times == 0).count();
    ensure!(lost == 0, "{lost} of {rows} rows are not in the topic");
    let appends = Duration::from_millis(u64::try_from((last - first).max(1))?);
    Ok((seen.iter().map(|times| times - 1).sum(), appends))
}

/// The same where no row may be there twice.
pub(crate) fn each_once(
    fixture: &Fixture,
    topic: &str,
    rows: i64,
    from: &[i64],
) -> anyhow::Result<Duration> {
    let (doubled, appends) = audit(fixture, topic, rows, from)?;
    ensure!(doubled == 0, "{doubled} of {rows} rows arrived twice");
    Ok(appends)
}
