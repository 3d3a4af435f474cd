//! `doorbell verify`.
//!
//! - `flags`: flags and help
//! - `judge`: finds duplicates, wrong order and loss
//! - `report`: the findings as text or JSON

mod flags;
mod judge;
#[cfg(test)]
mod judge_test;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use uuid::Uuid;

pub(in crate::cli) use self::flags::{PROVES, VerifyFlags};
use self::judge::{Judge, Sighting};
use self::report::VerifyReport;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::{the_outbox, with_session};
use crate::config::{Outbox, Profile, Settings, check_topic};
use crate::kafka::{OffsetRange, TopicReader, ago};
use crate::postgres::{self, Table};

pub(crate) fn verify(settings: &Settings, flags: &VerifyFlags) -> Outcome {
    match look(settings, flags).map_err(Failure::unable)? {
        None => Ok(()),
        Some(offences) => Err(Failure::Failed(anyhow::anyhow!(
            "found {offences}; the lines above name the first of each"
        ))),
    }
}

/// Prints what is found. Returns what of it is an offence.
fn look(settings: &Settings, flags: &VerifyFlags) -> Result<Option<String>, Failure> {
    let outbox = the_outbox(settings)?;
    if outbox.profile != Profile::Doorbell {
        let profile = outbox.profile.name();
        return Err(Failure::Usage(format!(
            "the profile `{profile}` gives records no header `seq`, by which verify compares them"
        )));
    }
    let topics = topics(outbox, &flags.topic).map_err(Failure::Usage)?;
    // First the list, then the table, then the ends of the topics: a row cannot move from one to
    // the next unseen.
    let listed = flags.ids.as_deref().map(read_ids).transpose()?;
    let rows = read_table(settings, outbox)?;
    let range = OffsetRange {
        from: flags.from,
        until: flags.until,
        since: flags.since.map(ago),
        committed: flags.committed,
    };
    let has_times = outbox.columns.not_before.is_some();
    let mut report = VerifyReport::new(rows.outbox, flags, has_times);
    let mut judge = Judge::default();
    // The ends of all topics are fixed before the first record is read.
    let readers = topics.iter();
    let readers = readers.map(|topic| TopicReader::of(&settings.kafka, topic, range));
    for reader in readers.collect::<Result<Vec<_>, _>>()? {
        report.note(&reader);
        judge.begin(&reader.topic);
        report.foreign += read(&reader, flags.allow_foreign, &mut judge)?;
    }
    report.findings = judge.finish(&rows.waiting, &rows.parked, listed);
    report.findings.delayed = rows.delayed;
    report.print()?;
    Ok(report.verdict())
}

/// Returns the named topics, or those of the configuration if they do not depend on the row.
pub(super) fn topics(outbox: &Outbox, named: &[String]) -> Result<Vec<String>, String> {
    let topics = match (named, outbox.fixed_topics()) {
        ([], (topics, false)) => topics,
        ([], (_, true)) => {
            let mut templates = outbox.templates();
            let depends = templates.find(|it| it.fixed(&outbox.table.name).is_none());
            return Err(format!(
                "the route {} has more than one topic: name each with --topic",
                depends.unwrap_or(&outbox.topic)
            ));
        }
        (named, _) => named.to_vec(),
    };
    let mut known: Vec<String> = Vec::new();
    for topic in topics {
        check_topic(&topic).map_err(|fault| format!("--topic {topic:?}: {fault}"))?;
        if !known.contains(&topic) {
            known.push(topic);
        }
    }
    Ok(known)
}

fn read_ids(path: &Path) -> anyhow::Result<Vec<i64>> {
    let shown = path.display();
    let lines: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(BufReader::new(
            File::open(path).with_context(|| format!("failed to open --ids {shown}"))?,
        )),
    };
    let mut ids = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("failed to read --ids {shown}"))?;
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => bail!(
                "--ids {shown}, line {}: {text:?} is not a row's id; write one number a line",
                number + 1
            ),
        }
    }
    Ok(ids)
}

/// Rows in the database: the id of each, and that of its event.
struct Rows {
    outbox: String,
    waiting: Vec<(i64, Uuid)>,
    parked: Vec<(i64, Uuid)>,
    delayed: u64,
}

fn read_table(settings: &Settings, outbox: &Outbox) -> Result<Rows, Failure> {
    with_session(settings, "verify", async |mut session| {
        let table = Table::find(&mut session, outbox).await?;
        // Before and after: a row may be moved to the dead letters meanwhile, or retried.
        let mut parked = postgres::parked(&mut session, &table).await?;
        let waiting = postgres::waiting(&mut session, &table).await?;
        parked.extend(postgres::parked(&mut session, &table).await?);
        let (delayed, _) = postgres::delayed(&mut session, &table).await?;
        Ok(Rows {
            outbox: table.quoted,
            waiting,
            parked,
            delayed: delayed.unsigned_abs(),
        })
    })
}

/// Passes the records of a topic to the judge. Returns the number of records of other programs.
fn read(reader: &TopicReader, allow_foreign: bool, judge: &mut Judge) -> anyhow::Result<u64> {
    let mut foreign = 0;
    let mut first_foreign = None;
    reader.read(|record| {
        if let (Some(id), Some(seq)) = (record.id, record.seq) {
            judge.see(&Sighting {
                partition: record.partition,
                offset: record.offset,
                key: record.key,
                seq,
                id,
            });
            return true;
        }
        foreign += 1;
        if !allow_foreign {
            first_foreign = Some((record.partition, record.offset));
        }
        allow_foreign
    })?;
    match first_foreign {
        None => Ok(foreign),
        Some((partition, offset)) => bail!(
            "topic {}, partition {partition}, offset {offset}: the record has no headers `id` and `seq`, so it is no event of \
             an outbox; add --allow-foreign to skip such records",
            reader.topic
        ),
    }
}
