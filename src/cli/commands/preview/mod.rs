//! `doorbell preview`: the records that the next rows would become.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::{the_outbox, with_session};
use crate::cli::terminal::{harmless, print_json, text};
use crate::config::Settings;
use crate::numbers::{counted, counted_verb};
use crate::postgres::{self, Table};
use crate::relay::{Preview, Previewed, PreviewedRecord, PreviewedRow};

/// Characters of a payload that are shown.
const BEGINNING: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct PreviewFlags {
    /// Show this many rows, from the lowest id on
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rows: u32,
    /// Do not show the beginnings of payloads
    #[arg(long)]
    hide_payloads: bool,
    /// Print JSON: an object a row
    #[arg(long)]
    json: bool,
}

pub(crate) fn preview(settings: &Settings, flags: &PreviewFlags) -> Outcome {
    let outbox = the_outbox(settings)?;
    let work = with_session(settings, "preview", async |mut session| {
        session.wait_briefly();
        let table = Table::find_to_ask(&mut session, outbox).await?;
        let mut preview = Preview::new(&settings.kafka, outbox, &table);
        if let Err(reason) = preview.ask_brokers().await {
            eprintln!(
                "doorbell: no broker answers, so the settings of topics are not taken into account: {reason}"
            );
        }
        let most = flags.rows as usize;
        let mut shown = 0;
        while shown < most {
            let batch = preview.next(&mut session, most - shown).await?;
            for (place, event) in batch.events().enumerate() {
                let row = preview.of(&event, batch.unread(place)).await;
                match flags.json {
                    true => print_json(&as_json(&row, flags.hide_payloads))?,
                    false => print(&row, flags.hide_payloads)?,
                }
                shown += 1;
            }
            if batch.is_empty() {
                break;
            }
        }
        if shown == 0 {
            eprintln!("doorbell: no row waits in {}", table.quoted);
        }
        let (delayed, _) = postgres::delayed(&mut session, &table).await?;
        if delayed > 0 {
            let rows = counted_verb(delayed, "row", "are");
            eprintln!("doorbell: {rows} not shown: not due yet");
        }
        Ok(())
    });
    work.map_err(Failure::unable)
}

/// By what the partition is chosen.
fn partition_rule(record: &PreviewedRecord<'_>) -> String {
    match (record.partition, record.key) {
        (Some(partition), _) => partition.to_string(),
        (None, Some(_)) => "by the key".into(),
        (None, None) => "any".into(),
    }
}

/// Returns the beginning of a payload, and whether more follows.
fn beginning(payload: &[u8]) -> (String, bool) {
    let whole = text(payload);
    match whole.char_indices().nth(BEGINNING) {
        Some((end, _)) => (whole[..end].to_owned(), true),
        None => (whole, false),
    }
}

fn as_json(row: &PreviewedRow<'_>, hide_payloads: bool) -> Value {
    let mut value = json!({ "row": row.id, "topic": row.topic, "notes": row.notes });
    match &row.outcome {
        Previewed::Dropped => value["dropped"] = true.into(),
        Previewed::Refused(refusal) => {
            value["refused"] = json!({ "code": refusal.code, "reason": refusal.reason });
        }
        Previewed::Sent(record) => {
            let headers = record.headers.iter();
            let headers: Vec<_> = headers
                .map(|(name, value)| (name, value.as_deref().map(text)))
                .collect();
            value["key"] = record.key.map(text).into();
            value["partition"] = partition_rule(record).into();
            value["headers"] = json!(headers);
            value["timestamp"] = record.timestamp.into();
            value["size"] = record.size.into();
            value["payload_size"] = record.payload.map(<[u8]>::len).into();
            if !hide_payloads {
                let (payload, is_cut) = record.payload.map(beginning).unzip();
                value["payload"] = payload.into();
                value["payload_is_cut"] = is_cut.unwrap_or_default().into();
            }
        }
    }
    value
}

fn print(row: &PreviewedRow<'_>, hide_payloads: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "row {}", row.id)?;
    if !row.topic.is_empty() {
        write!(out, "  topic {}", row.topic.escape_debug())?;
    }
    match &row.outcome {
        Previewed::Dropped => writeln!(out, "  dropped: a route deletes it unsent")?,
        Previewed::Refused(refusal) => {
            let reason = refusal.reason.escape_debug();
            writeln!(out, "  refused: {}: {reason}", refusal.code)?;
        }
        Previewed::Sent(record) => {
            let key = record.key.map_or("-".into(), text);
            let (key, partition) = (key.escape_debug(), partition_rule(record));
            write!(out, "  key {key}  partition {partition}")?;
            for (name, value) in &record.headers {
                let value = value.as_deref().map_or("null".into(), text);
                write!(out, "  {}={}", name.escape_debug(), value.escape_debug())?;
            }
            writeln!(out, "  {}", counted(record.size as i64, "byte"))?;
            if let Some(payload) = record.payload.filter(|_| !hide_payloads) {
                let (payload, is_cut) = beginning(payload);
                let payload = harmless(&std::io::stdout(), &payload).into_owned();
                writeln!(out, "  {payload}{}", if is_cut { "…" } else { "" })?;
            } else if record.payload.is_none() {
                writeln!(out, "  a tombstone")?;
            }
        }
    }
    for note in &row.notes {
        writeln!(out, "  note: {}", note.escape_debug())?;
    }
    Ok(())
}
