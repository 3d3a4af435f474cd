//! `doorbell tail`: records as they arrive, or where the events of a key are (`pending`).

mod pending;

use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};

use super::verify::topics;
use crate::cli::arg_errors::duration;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::the_outbox;
use crate::cli::terminal::{harmless, print_json, text};
use crate::config::Settings;
use crate::kafka::{FollowedRecord, TopicFollower};
use crate::numbers::{age, counted};

/// One wait for records.
const TURN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct TailFlags {
    /// Read this topic; repeat it for each topic of the outbox [default: the outbox's route]
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Show records of this key only
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Show events of this type only
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Start with records of the last DURATION [default: with new ones; 1h for --pending]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// End after this many records
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Show payloads
    #[arg(long)]
    payloads: bool,
    /// Show instead what of this key waits, is held, is a dead letter, or was sent where
    #[arg(long, value_name = "KEY", conflicts_with_all = ["key", "event_type", "limit", "payloads"])]
    pending: Option<String>,
    /// Print JSON: an object a record
    #[arg(long)]
    json: bool,
}

pub(crate) fn tail(settings: &Settings, flags: &TailFlags) -> Outcome {
    let outbox = the_outbox(settings)?;
    let topics = topics(outbox, &flags.topic).map_err(Failure::Usage)?;
    match &flags.pending {
        Some(key) => pending::pending(settings, outbox, &topics, key, (flags.since, flags.json)),
        None => follow(settings, &topics, flags),
    }
}

fn follow(settings: &Settings, topics: &[String], flags: &TailFlags) -> Outcome {
    let follower = TopicFollower::of(&settings.kafka, topics, flags.since)?;
    eprintln!(
        "doorbell: waiting for records of {}; Ctrl-C ends",
        topics.join(", ")
    );
    let mut left = flags.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(record) = follower.next(TURN)? else {
            continue;
        };
        let key = flags
            .key
            .as_ref()
            .is_none_or(|key| record.key() == Some(key.as_bytes()));
        let wanted = flags.event_type.as_deref();
        if !key || wanted.is_some_and(|it| record.header("type") != Some(it)) {
            continue;
        }
        match flags.json {
            true => print_json(&as_json(&record, flags.payloads))?,
            false => print(&record, flags.payloads)?,
        }
        left -= 1;
    }
    Ok(())
}

/// Time since the record's timestamp, which is the row's `created_at` unless `timestamp = "sent"`.
fn age_of(record: &FollowedRecord<'_>) -> Option<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    record
        .timestamp()
        .map(|millis| now - millis as f64 / 1000.0)
}

fn as_json(record: &FollowedRecord<'_>, payloads: bool) -> Value {
    let (topic, partition, offset) = record.place();
    let headers = record.headers().into_iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name, value.map(text)))
        .collect();
    let mut value = json!({
        "topic": topic, "partition": partition, "offset": offset, "key": record.key().map(text),
        "type": record.header("type"), "seq": record.seq(), "id": record.header("id"), "headers": headers,
        "timestamp": record.timestamp(), "age_seconds": age_of(record),
        "payload_size": record.payload().map(<[u8]>::len),
    });
    if payloads {
        value["payload"] = record.payload().map(text).into();
    }
    value
}

fn print(record: &FollowedRecord<'_>, payloads: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let (topic, partition, offset) = record.place();
    let key = record.key().map_or("-".into(), text);
    write!(
        out,
        "{topic}/{partition}/{offset}  key {}",
        key.escape_debug()
    )?;
    for (name, value) in record.headers() {
        let value = value.map_or("null".into(), text);
        write!(out, "  {}={}", name.escape_debug(), value.escape_debug())?;
    }
    let since = age_of(record).map_or("-".into(), |seconds| age(seconds.max(0.0)));
    let size = match record.payload() {
        Some(payload) => counted(payload.len() as i64, "byte"),
        None => "tombstone".into(),
    };
    writeln!(out, "  {size}  {since} ago")?;
    if let Some(payload) = record.payload().filter(|_| payloads) {
        writeln!(out, "{}", harmless(&std::io::stdout(), &text(payload)))?;
    }
    Ok(())
}
