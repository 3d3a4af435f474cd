//! `doorbell held`.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::config::Settings;
use crate::postgres::{Error, HeldRow, Table, held};

#[derive(Debug, Subcommand)]
pub(crate) enum HeldCommand {
    /// List the rows by id, the first 1,000 of an outbox, with key, reason and next try
    List,
    /// Show one of them
    Show {
        /// Id of the row
        #[arg(allow_negative_numbers = true)]
        id: i64,
    },
}

#[derive(Debug, Serialize)]
struct OutboxRow {
    outbox: String,
    #[serde(flatten)]
    row: HeldRow,
}

pub(crate) fn held_rows(settings: &Settings, command: HeldCommand, json: bool) -> Outcome {
    let mut rows = with_session(settings, "held", async |mut session| {
        let mut rows = Vec::new();
        for outbox in &settings.outboxes {
            let table = Table::find_to_ask(&mut session, &outbox.table, &outbox.columns).await?;
            let answer = held(&mut session, &table).await?.ok_or_else(|| {
                let problem = format!("no leader of {} answered within 10 s", outbox.table);
                Error::refused(
                    problem,
                    "see `doorbell status`; the leader alone knows what is held",
                )
            })?;
            let name = outbox.table.to_string();
            rows.extend(answer.into_iter().map(|row| OutboxRow {
                outbox: name.clone(),
                row,
            }));
        }
        Ok::<_, Failure>(rows)
    })?;
    if let HeldCommand::Show { id } = command {
        rows.retain(|it| it.row.row == id);
        if rows.is_empty() {
            let problem = format!("the row {id} keeps no key and no topic waiting");
            return Err(Error::refused(problem, "see `doorbell held list`").into());
        }
    }
    Ok(print(&rows, json)?)
}

fn print(rows: &[OutboxRow], json: bool) -> Result<(), anyhow::Error> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, rows)?;
        writeln!(out)?;
        return Ok(());
    }
    for OutboxRow { outbox, row } in rows {
        let held = match row.holds_topic {
            true => "its topic",
            false => "its key",
        };
        let key = row.key.as_deref().unwrap_or("-").escape_debug();
        let wait = Duration::from_secs(row.next_try_seconds.max(0.0).ceil() as u64);
        writeln!(
            out,
            "row {} of {outbox}  key {key}  holds {held}  {}  next try in {}",
            row.row,
            row.reason.escape_debug(),
            humantime::format_duration(wait),
        )?;
    }
    Ok(())
}
