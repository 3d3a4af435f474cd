//! `doorbell tail --pending`: what of a key waits, is held, is a dead letter, or was sent where.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::cli::terminal::print_json;
use crate::config::{Outbox, Settings};
use crate::kafka::{OffsetRange, TopicReader, ago};
use crate::numbers::age;
use crate::postgres::{self, DeadLetter, DeadLetters, HeldRow, Table, WaitingRow};

/// How far back it looks into the topics.
const LOOK_BACK: Duration = Duration::from_secs(3600);

pub(super) fn pending(
    settings: &Settings,
    outbox: &Outbox,
    topics: &[String],
    key: &str,
    (since, json): (Option<Duration>, bool),
) -> Outcome {
    // First the table, then the topics: an event cannot move from one to the other unseen.
    let (waiting, held, dead) = in_database(settings, outbox, key)?;
    let since = since.unwrap_or(LOOK_BACK);
    let range = OffsetRange {
        since: Some(ago(since)),
        // What a transaction aborted was not sent.
        committed: true,
        ..OffsetRange::default()
    };
    let mut sent = Vec::new();
    for topic in topics {
        TopicReader::of(&settings.kafka, topic, range)?.read(|record| {
            if record.key == Some(key.as_bytes()) {
                let (partition, offset) = (record.partition, record.offset);
                sent.push((topic.as_str(), partition, offset, record.seq, record.id));
            }
            true
        })?;
    }
    if json {
        let sent = sent.iter().map(|(topic, partition, offset, seq, id)| {
            serde_json::json!({ "topic": topic, "partition": partition, "offset": offset, "seq": seq, "id": id })
        });
        let sent: Vec<Value> = sent.collect();
        return Ok(print_json(
            &serde_json::json!({ "waiting": waiting, "held": held, "dead": dead, "sent": sent }),
        )?);
    }
    let mut out = std::io::stdout().lock();
    for it in &waiting {
        let (id, event_type) = (it.id, it.event_type.escape_debug());
        let age = it.age_seconds.map(|it| format!("  {} old", age(it)));
        let age = age.unwrap_or_default();
        let due = match it.due_in_seconds {
            None => String::new(),
            Some(never) if never.is_infinite() => "  never due".into(),
            Some(seconds) => format!("  due in {}", crate::numbers::age(seconds)),
        };
        writeln!(out, "waits  row {id}  type {event_type}{age}{due}")?;
    }
    for it in &held {
        let reason = it.reason.escape_debug();
        writeln!(
            out,
            "held   row {} keeps the others waiting: {reason}",
            it.row
        )?;
    }
    for it in &dead {
        let (id, row, code, reason) = (it.id, it.row_id, &it.code, it.reason.escape_debug());
        writeln!(out, "dead   letter {id}, row {row}: {code}: {reason}")?;
    }
    for (topic, partition, offset, seq, _) in &sent {
        let row = seq.map_or("of another program".to_owned(), |seq| format!("row {seq}"));
        writeln!(out, "sent   {topic}/{partition}/{offset}  {row}")?;
    }
    if waiting.is_empty() && dead.is_empty() && sent.is_empty() {
        let since = humantime::format_duration(since);
        writeln!(
            out,
            "nothing of this key: neither in the table, nor a dead letter, nor in {} in the last {since}; --since looks back further",
            topics.join(", ")
        )?;
    }
    Ok(())
}

type InDatabase = (Vec<WaitingRow>, Vec<HeldRow>, Vec<DeadLetter>);

fn in_database(settings: &Settings, outbox: &Outbox, key: &str) -> Result<InDatabase, Failure> {
    with_session(settings, "tail", async |mut session| {
        let table = Table::find_to_ask(&mut session, outbox).await?;
        let waiting = postgres::waiting_of_key(&mut session, &table, key).await?;
        let mut held = Vec::new();
        // The leader alone knows them; without rows there are none.
        if !waiting.is_empty() {
            match postgres::held(&mut session, &table).await? {
                Some(all) => held = all,
                None => eprintln!(
                    "doorbell: no leader of {} answered, so it is not known which rows are held; see `doorbell status`",
                    outbox.table
                ),
            }
            held.retain(|it| it.key.as_deref() == Some(key) || it.holds_topic);
        }
        let outboxes = std::slice::from_ref(outbox);
        let dead = DeadLetters::of(&mut session, outboxes)
            .await?
            .of_key(key)
            .await?;
        Ok((waiting, held, dead))
    })
}
