//! `doorbell verify`.
//!
//! - `judge`: what records, table and list say together
//! - `report`: for people, or as JSON

mod judge;
#[cfg(test)]
mod judge_test;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use uuid::Uuid;

use self::judge::{Judge, Sighting};
use self::report::Report;
use super::failure::{Failure, Outcome};
use crate::config::{Kafka, Outbox, Settings, check_topic};
use crate::kafka::{History, Range};
use crate::postgres::{self, Server, Session, Table};

/// What verify is asked for.
#[derive(Debug, Args)]
pub(super) struct VerifyFlags {
    /// Read this topic, may be repeated: every topic that rows of the outbox went to [default: the outbox's route]
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Vec<String>,
    /// Ids of rows that were committed, one a line, `-` for standard input: one that is in no topic, not in the table and no dead letter is missing
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Fail also for what may be a loss or a leak and may have another reason: without --ids, an id between the lowest
    /// and the highest that is nowhere; with --ids, an event that the file does not list
    #[arg(long)]
    strict: bool,
    /// Count doubles and do not fail for them: they are permitted around a crash
    #[arg(long)]
    allow_doubles: bool,
    /// Count events that follow one of their key with a higher id, and do not fail for them: a transaction that commits late sends such
    #[arg(long)]
    allow_late: bool,
    /// Skip and count records without the headers `id` and `seq`, which others wrote
    #[arg(long)]
    allow_foreign: bool,
    /// Read as consumers with isolation.level=read_committed do
    #[arg(long)]
    committed: bool,
    /// Begin at this offset in each partition [default: the first]
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    from: Option<i64>,
    /// End before this offset in each partition [default: the end as it is now]
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    until: Option<i64>,
    /// Begin with events that were created in the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "from")]
    since: Option<Duration>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// What `--help` says after the flags.
pub(super) const PROVES: &str = "\
What it proves: no event is in the topics twice (by the header `id`), the events of a key ascend by the header `seq` in each \
partition, and with --ids that each listed row is in a topic, still in the table, or a dead letter. The table is read before the topics, so a \
relay may run meanwhile, and rows in the table are waiting and dead letters are parked: neither is missing.

What it cannot know: without --ids an id that is nowhere was rolled back, sent to a topic that was not read, deleted by hand, or \
lost. Records that a topic's retention or compaction removed are missing too. --ids must name only what was committed before verify starts; what came after counts as not listed. A late commit and \
a wrong order look the same, and so does a dead letter that was sent back; use --allow-late where transactions of one key overlap. A repetition of an event that came before is a \
double, and no matter of order. Records without a key have no order.

It changes nothing. Memory: at most 150 bytes an event, and the keys of one topic. Exit code 1: something was found.";

/// Judges the topics of one outbox.
pub(super) fn verify(settings: &Settings, flags: &VerifyFlags) -> Outcome {
    let [outbox] = settings.outboxes.as_slice() else {
        return Err(Failure::Usage("several outboxes are configured: say which with --config of one, or --table without a file".into()));
    };
    let topics = topics(outbox, &flags.topic).map_err(Failure::Usage)?;
    // First the list, then the table, then the ends of the topics: what is in one of them cannot have left it unseen for the next.
    let listed = flags.ids.as_deref().map(read_ids).transpose()?;
    let rows = read_table(settings, outbox)?;
    let range = Range {
        from: flags.from,
        until: flags.until,
        since: flags.since,
        committed: flags.committed,
    };
    let mut report = Report::new(rows.outbox, flags);
    let mut judge = Judge::default();
    for history in histories(&settings.kafka, &topics, range)? {
        report.note(&history.0, &history.1);
        judge.begin(&history.0);
        report.foreign += read(&history, flags.allow_foreign, &mut judge)?;
    }
    report.findings = judge.finish(&rows.waiting, &rows.parked, listed);
    report.print(flags.json)?;
    match report.verdict() {
        None => Ok(()),
        Some(offences) => Err(Failure::Failed(anyhow::anyhow!("found {offences}"))),
    }
}

/// What is named, or the one topic of the route.
fn topics(outbox: &Outbox, named: &[String]) -> Result<Vec<String>, String> {
    let topics = match named {
        [] => vec![outbox.topic.fixed(&outbox.table.name).ok_or_else(|| {
            format!(
                "the route {} has no one topic: name each with --topic",
                outbox.topic
            )
        })?],
        named => named.to_vec(),
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

/// What the database has: each row's id and its event's.
struct Rows {
    outbox: String,
    waiting: Vec<(i64, Uuid)>,
    parked: Vec<(i64, Uuid)>,
}

fn read_table(settings: &Settings, outbox: &Outbox) -> Result<Rows, postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| postgres::Error::Lost(error.to_string()))?;
    runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, "verify").await?;
        let table = Table::find(&mut session, &outbox.table, &outbox.columns).await?;
        // Before and after: a row goes from the table to the dead letters, and may be sent back.
        let mut parked = postgres::parked(&mut session, &table).await?;
        let waiting = postgres::waiting(&mut session, &table).await?;
        parked.extend(postgres::parked(&mut session, &table).await?);
        Ok(Rows {
            outbox: table.quoted,
            waiting,
            parked,
        })
    })
}

/// All ends are fixed before the first record is read.
fn histories(
    kafka: &Kafka,
    topics: &[String],
    range: Range,
) -> anyhow::Result<Vec<(String, History)>> {
    let fixed = topics.iter().map(|topic| {
        let history = History::of(kafka, topic, range)?;
        Ok((topic.clone(), history))
    });
    fixed.collect()
}

/// Hands a topic's records to the judge; how many were not ours.
fn read(
    (topic, history): &(String, History),
    allow_foreign: bool,
    judge: &mut Judge,
) -> anyhow::Result<u64> {
    let mut foreign = 0;
    let mut stranger = None;
    history.read(|record| {
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
            stranger = Some((record.partition, record.offset));
        }
        allow_foreign
    })?;
    match stranger {
        None => Ok(foreign),
        Some((partition, offset)) => bail!(
            "topic {topic}, partition {partition}, offset {offset}: the record has no headers `id` and `seq` of an event, so nothing can be \
             said about it; --allow-foreign skips such records"
        ),
    }
}
