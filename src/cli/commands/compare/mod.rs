//! `doorbell compare`: whether two relays send the same.
//!
//! - `flags`: flags
//! - `judge`: pairs the records
//! - `pairing`: how they differ
//! - `json`: values as JSON
//! - `report`: the findings as text or JSON

mod flags;
mod json;
mod judge;
mod pairing;
mod report;

use std::time::{Duration, SystemTime};

use anyhow::anyhow;

pub(in crate::cli) use self::flags::CompareFlags;
use self::judge::{Compared, Ignored, Judged, PairJudge};
use self::report::CompareReport;
use crate::cli::exit::{Failure, Outcome};
use crate::config::{Settings, check_topic};
use crate::kafka::{OffsetRange, Record, TopicReader, ago};

/// A relay may give the record of an event another time than the other does: so much more is read.
const SLACK: Duration = Duration::from_secs(600);

pub(crate) fn compare(settings: &Settings, flags: &CompareFlags) -> Outcome {
    match look(settings, flags).map_err(Failure::unable)? {
        None => Ok(()),
        Some(against) => Err(Failure::Failed(anyhow!(
            "one cannot switch yet: {against}; the lines above name the first of each"
        ))),
    }
}

/// Prints what is found. Returns what speaks against switching.
fn look(settings: &Settings, flags: &CompareFlags) -> Result<Option<String>, Failure> {
    for topic in flags.old.iter().chain(&flags.with) {
        check_topic(topic).map_err(|fault| Failure::Usage(format!("topic {topic:?}: {fault}")))?;
        let all = flags.old.iter().chain(&flags.with);
        if all.filter(|it| *it == topic).count() > 1 {
            let words = format!("topic {topic} is named twice: each record belongs to one side");
            return Err(Failure::Usage(words));
        }
    }
    let judged = Judged {
        since: flags.since.map_or(i64::MIN, |since| millis(ago(since))),
        until: millis(ago(flags.settle)),
    };
    // The ends are fixed before the first record is read: first those of the relay that the other
    // must not fall behind.
    let (old, new) = (
        readers(settings, flags, &flags.old)?,
        readers(settings, flags, &flags.with)?,
    );
    let mut judge = PairJudge::new(judged, Ignored(flags.ignore_header.clone()));
    for (side, readers) in [old, new].iter().enumerate() {
        for reader in readers {
            judge.begin(&reader.topic, reader.partition_count);
            reader.read(|record| {
                see(&mut judge, &record, side, &flags.by);
                true
            })?;
        }
    }
    if judge.found.old + judge.found.new == 0 {
        return Err(Failure::Failed(match judge.found.without_id {
            [0, 0] => anyhow!("nothing to compare: the topics have no records"),
            _ => anyhow!(
                "no record has the header {:?}: name the one that both relays give an event with --by",
                flags.by
            ),
        }));
    }
    let report = CompareReport {
        found: judge.finish(),
        flags,
    };
    report.print()?;
    Ok(report.verdict())
}

fn readers(
    settings: &Settings,
    flags: &CompareFlags,
    topics: &[String],
) -> Result<Vec<TopicReader>, Failure> {
    let range = OffsetRange {
        since: flags.since.map(|since| ago(since + SLACK)),
        committed: true,
        ..OffsetRange::default()
    };
    let readers = topics.iter();
    let readers = readers.map(|topic| TopicReader::of(&settings.kafka, topic, range));
    Ok(readers.collect::<Result<_, _>>()?)
}

/// Passes a record of the old relay (0) or of the new one to the judge.
fn see(judge: &mut PairJudge, record: &Record<'_>, side: usize, by: &str) {
    let headers = record.headers();
    let id = headers.iter().find(|(name, _)| *name == by);
    let Some(id) = id.and_then(|(_, value)| *value) else {
        judge.found.without_id[side] += 1;
        return;
    };
    let compared = Compared {
        id,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp(),
        key: record.key,
        headers: &headers,
        payload: record.payload(),
    };
    match side {
        0 => judge.see_old(&compared),
        _ => judge.see_new(&compared),
    }
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |it| it.as_millis() as i64)
}
