//! `doorbell replay`: sends records of a topic once more.

use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use clap::Args;
use rustc_hash::FxHashSet;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::run::{heeding_signals, on_threads};
use crate::cli::exit::{Failure, Outcome};
use crate::cli::logging::Log;
use crate::cli::progress::CommandProgress;
use crate::cli::terminal::print_json;
use crate::config::{Settings, check_topic};
use crate::kafka::{Copier, OffsetRange, Record, TopicReader, Topics, ago};
use crate::numbers::{counted, counted_verb};

/// The longest sleep before it is seen that the command is to stop.
const TURN: Duration = Duration::from_millis(50);
/// How late a record may be and still be made up for: after an outage the rate is the same.
const SLACK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct ReplayFlags {
    /// Read this topic
    #[arg(long, value_name = "TOPIC")]
    from: String,
    /// Send the records to this topic, which must exist
    #[arg(long, value_name = "TOPIC")]
    to: String,
    /// Allow --to to be the topic of --from: its consumers get the records again
    #[arg(long)]
    same_topic: bool,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only records whose header `type` is this
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Start with events that were created in the last DURATION (2h), or since a time
    /// (2026-11-30T08:00:00Z)
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Since>,
    /// Send at most this many records a second; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rate: u32,
    /// Leave out what --to already has from --from: after an interruption, the same command goes on
    #[arg(long)]
    resume: bool,
    /// Leave out records without a header `id`, which other programs wrote
    #[arg(long)]
    allow_foreign: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// From when on events are replayed.
#[derive(Debug, Clone, Copy)]
enum Since {
    Ago(Duration),
    Time(SystemTime),
}

impl Since {
    fn time(self) -> SystemTime {
        match self {
            Self::Ago(age) => ago(age),
            Self::Time(time) => time,
        }
    }
}

/// Reads how long ago, or when.
fn since(text: &str) -> Result<Since, &'static str> {
    let age = humantime::parse_duration(text).map(Since::Ago);
    age.or_else(|_| humantime::parse_rfc3339_weak(text).map(Since::Time))
        .map_err(|_| "write a duration (2h) or a time (2026-11-30T08:00:00Z)")
}

/// What is replayed, and how far it is.
struct Replay {
    flags: ReplayFlags,
    /// Places in --from that --to already has a copy of, with its id: a topic that was created
    /// again has other records there.
    present: FxHashSet<(i32, i64, Option<Uuid>)>,
    /// Records to send.
    total: u64,
    progress: CommandProgress,
}

pub(crate) fn replay(settings: Settings, flags: ReplayFlags, log: Log) -> Outcome {
    for (flag, topic) in [("--from", &flags.from), ("--to", &flags.to)] {
        check_topic(topic).map_err(|fault| Failure::Usage(format!("{flag} {topic:?}: {fault}")))?;
    }
    if flags.from == flags.to && !flags.same_topic {
        return Err(Failure::Usage(format!(
            "--from and --to are both {}: its consumers would get every record again; add --same-topic if that is meant",
            flags.to
        )));
    }
    if let (true, Some(Since::Ago(_))) = (flags.resume, flags.since) {
        let words = "--since as a duration counts from each start, so --resume would leave a gap: write the time from which the first run counted, such as 2026-11-30T08:00:00Z";
        return Err(Failure::Usage(words.into()));
    }
    let progress = CommandProgress::new(0, ("replayed", "records"));
    progress.begin_log(log);
    on_threads(async {
        let mut topics = Topics::new(settings.kafka.clone());
        if flags.resume && topics.facts(&flags.to).await.needs_key {
            return Err(anyhow!(
                "topic {} is compacted: what it had already cannot be told, and an older value would come after a newer one. Run without --resume: \
                 everything is sent once more, and the last value of each key comes last",
                flags.to
            )
            .into());
        }
        let stop = CancellationToken::new();
        let its_stop = stop.clone();
        let replay = Replay {
            flags,
            present: FxHashSet::default(),
            total: 0,
            progress,
        };
        let work = spawn_blocking(move || replay.run(&settings, &its_stop));
        heeding_signals(work, &stop).await??
    })
}

impl Replay {
    fn run(mut self, settings: &Settings, stop: &CancellationToken) -> Outcome {
        let range = OffsetRange {
            since: self.flags.since.map(Since::time),
            committed: true,
            ..OffsetRange::default()
        };
        // The ends of both topics are fixed before the first copy.
        let source = TopicReader::of(&settings.kafka, &self.flags.from, range)?;
        let target = TopicReader::of(&settings.kafka, &self.flags.to, OffsetRange::default())?;
        if self.flags.resume {
            self.find_copies(&target, stop)?;
        }
        info!(from = self.flags.from, "counting the records to send");
        self.count(&source, stop)?;
        info!(
            from = self.flags.from,
            to = self.flags.to,
            records = self.total,
            already_there = self.present.len(),
            "replaying"
        );
        self.progress.begin(self.total);
        self.send(settings, &source.again()?, stop)
    }

    /// Finds what the target already has from the source.
    fn find_copies(&mut self, target: &TopicReader, stop: &CancellationToken) -> Outcome {
        target.read(|record| {
            if let Some((topic, partition, offset)) = record.replayed_from()
                && topic == self.flags.from
            {
                self.present.insert((partition, offset, record.id));
            }
            !stop.is_cancelled()
        })?;
        Ok(())
    }

    /// Counts the records to send. One without an id is an error, while nothing is sent yet.
    fn count(&mut self, source: &TopicReader, stop: &CancellationToken) -> Outcome {
        let mut foreign = None;
        let mut total = 0;
        source.read(|record| {
            total += u64::from(self.is_wanted(&record));
            if record.id.is_none() && self.is_selected(&record) && !self.flags.allow_foreign {
                foreign = Some((record.partition, record.offset));
            }
            foreign.is_none() && !stop.is_cancelled()
        })?;
        self.total = total;
        match foreign {
            None => Ok(()),
            Some((partition, offset)) => Err(anyhow!(
                "topic {}, partition {partition}, offset {offset}: the record has no header `id`, so its consumers could not tell \
                 it from a new event; nothing was sent. Add --allow-foreign to leave such records out",
                self.flags.from
            )
            .into()),
        }
    }

    /// Returns whether key and type are as asked, and the record is no copy within its own topic.
    fn is_selected(&self, record: &Record<'_>) -> bool {
        let flags = &self.flags;
        let is_copy = flags.from == flags.to
            && record
                .replayed_from()
                .is_some_and(|(topic, ..)| topic == flags.from);
        let has_key = |key: &String| record.key == Some(key.as_bytes());
        let has_type = |it: &String| record.header("type") == Some(it.as_str());
        !is_copy
            && flags.key.as_ref().is_none_or(has_key)
            && flags.event_type.as_ref().is_none_or(has_type)
    }

    fn is_wanted(&self, record: &Record<'_>) -> bool {
        record.id.is_some()
            && self.is_selected(record)
            && !self
                .present
                .contains(&(record.partition, record.offset, record.id))
    }

    fn send(self, settings: &Settings, source: &TopicReader, stop: &CancellationToken) -> Outcome {
        let mut copier = Copier::new(&settings.kafka, stop.clone(), settings.stop_timeout)?;
        let begun = Instant::now();
        let mut pace = Pace::new(self.flags.rate);
        let mut sent = 0_u64;
        let mut refused = Ok(());
        let read = source.read(|record| {
            if self.is_wanted(&record) {
                pace.wait(stop);
                if stop.is_cancelled() {
                    return false;
                }
                refused = copier.send(&self.flags.from, &record, &self.flags.to);
                sent += 1;
                self.progress.set(sent);
            }
            refused.is_ok() && !stop.is_cancelled()
        });
        let refused = refused
            .and(read.map_err(|error| error.to_string()))
            .and_then(|()| copier.finish());
        let done = copier.acknowledged() as u64;
        self.progress.end(done);
        let (from, to) = (&self.flags.from, &self.flags.to);
        if let Err(reason) = refused {
            return Err(anyhow!(
                "{reason}; {done} of {} of {from} are in {to}: remove the cause, then run the same command with --resume",
                counted(self.total, "record")
            )
            .into());
        }
        self.say(done, begun.elapsed())?;
        if stop.is_cancelled() {
            return Err(anyhow!(
                "stopped after {done} of {}: the same command with --resume sends the others",
                counted(self.total, "record")
            )
            .into());
        }
        Ok(())
    }

    fn say(&self, done: u64, took: Duration) -> std::io::Result<()> {
        let (from, to) = (&self.flags.from, &self.flags.to);
        let present = self.present.len();
        if self.flags.json {
            return print_json(&serde_json::json!({
                "from": from, "to": to, "replayed": done, "already_there": present, "seconds": took.as_secs_f64(),
            }));
        }
        let took = humantime::format_duration(Duration::from_millis(took.as_millis() as u64));
        let done = counted(done, "record");
        println!("replayed {done} of {from} into {to} in {took}");
        if present > 0 {
            println!(
                "  {} there already",
                counted_verb(present, "record", "were")
            );
        }
        Ok(())
    }
}

/// When the next record may be sent.
struct Pace {
    next: Instant,
    /// Zero: no limit.
    interval: Duration,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            next: Instant::now(),
            interval: Duration::from_secs(1).checked_div(rate).unwrap_or_default(),
        }
    }

    fn wait(&mut self, stop: &CancellationToken) {
        if self.interval.is_zero() {
            return;
        }
        while !stop.is_cancelled() {
            let now = Instant::now();
            let left = self.next.saturating_duration_since(now);
            if left.is_zero() {
                let earliest = now.checked_sub(SLACK).unwrap_or(now);
                self.next = self.next.max(earliest) + self.interval;
                return;
            }
            std::thread::sleep(left.min(TURN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_goes_at_the_rate() {
        let begun = Instant::now();
        let mut pace = Pace::new(1_000);
        pace.next = begun.checked_sub(Duration::from_secs(3)).expect("uptime");
        for _ in 0..300 {
            pace.wait(&CancellationToken::new());
        }
        assert!(begun.elapsed() > Duration::from_millis(150));
    }
}
