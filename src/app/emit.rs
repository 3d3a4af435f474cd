//! `doorbell emit`.

use std::io::{Read, Write};

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value};

use super::failure::{Failure, Outcome};
use crate::config::Settings;
use crate::postgres::{self, NewEvent, Server, Session};

/// An event on the command line.
#[derive(Debug, Args)]
pub(super) struct EventFlags {
    /// What kind of event it is
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// The record's key
    #[arg(long)]
    key: Option<String>,
    /// The record's topic [default: the relay's route]
    #[arg(long)]
    topic: Option<String>,
    /// A header, may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Send a record without a value, which deletes its key from a compacted topic
    #[arg(long, conflicts_with = "payload")]
    tombstone: bool,
    /// The value, `-` for standard input
    #[arg(required_unless_present = "tombstone")]
    payload: Option<String>,
}

/// Inserts one event and prints its row's id, if our role may read it.
pub(super) fn emit(settings: &Settings, event: EventFlags, json: bool) -> Outcome {
    let [outbox] = settings.outboxes.as_slice() else {
        return Err(Failure::Usage("several outboxes are configured: say which with --config of one, or --table without a file".into()));
    };
    let headers = headers(&event.header).map_err(Failure::Usage)?;
    let payload = match event.payload.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("failed to read the payload from standard input")?;
            Some(text)
        }
        other => other.map(str::to_owned),
    };
    let event = NewEvent {
        event_type: event.event_type,
        payload,
        key: event.key,
        topic: event.topic,
        headers,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let id = runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, "emit").await?;
        postgres::emit(&mut session, &outbox.table, &outbox.columns, event).await
    })?;
    let mut out = std::io::stdout().lock();
    match id {
        id if json => writeln!(out, "{}", serde_json::json!({ "id": id }))?,
        Some(id) => writeln!(out, "{id}")?,
        None => writeln!(out, "inserted")?,
    }
    Ok(())
}

fn headers(given: &[String]) -> Result<Option<String>, String> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut headers = Map::new();
    for header in given {
        let (name, value) = header
            .split_once('=')
            .ok_or_else(|| format!("--header {header}: write NAME=VALUE"))?;
        headers.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Some(Value::Object(headers).to_string()))
}
