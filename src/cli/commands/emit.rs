//! `doorbell emit`.

use std::io::{Read, Write};

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value};

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::{the_outbox, with_session};
use crate::cli::terminal::print_json;
use crate::config::Settings;
use crate::postgres::{self, NewEvent};

/// Event on the command line.
#[derive(Debug, Args)]
pub(crate) struct EventFlags {
    /// Type of the event, unless the outbox has no column for it
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Key of the record
    #[arg(long)]
    key: Option<String>,
    /// Topic of the record [default: the relay's route]
    #[arg(long)]
    topic: Option<String>,
    /// Add a header; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Send a record without a value, which deletes its key from a compacted topic
    #[arg(long, conflicts_with = "payload")]
    tombstone: bool,
    /// Value of the record, `-` for standard input
    #[arg(required_unless_present = "tombstone")]
    payload: Option<String>,
}

/// Inserts one event and prints the id of its row, if the role may read it.
pub(crate) fn emit(settings: &Settings, event: EventFlags, json: bool) -> Outcome {
    let outbox = the_outbox(settings)?;
    if event.event_type.is_some() != outbox.columns.event_type.is_some() {
        let words = match event.event_type {
            None => "name the type of the event: --type TYPE",
            Some(_) => "the outbox has no column for a type: leave out --type",
        };
        return Err(Failure::Usage(words.into()));
    }
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
    let id = with_session(settings, "emit", async |mut session| {
        Ok(postgres::emit(&mut session, &outbox.table, &outbox.columns, event).await?)
    })?;
    match id {
        id if json => print_json(&serde_json::json!({ "id": id }))?,
        Some(id) => writeln!(std::io::stdout(), "{id}")?,
        None => writeln!(std::io::stdout(), "inserted")?,
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
            .ok_or_else(|| format!("--header {header} has no `=`: write NAME=VALUE"))?;
        headers.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Some(Value::Object(headers).to_string()))
}
