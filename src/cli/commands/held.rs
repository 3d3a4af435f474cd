//! `doorbell held`.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::cli::terminal::{print_json, table};
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
            let found = Table::find_to_ask(&mut session, outbox).await?;
            let answer = held(&mut session, &found).await?.ok_or_else(|| {
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
    if json {
        return Ok(print_json(&rows)?);
    }
    let rows: Vec<_> = rows.iter().map(cells).collect();
    let mut out = std::io::stdout();
    match command {
        HeldCommand::List if rows.is_empty() => {}
        HeldCommand::List => write!(out, "{}", table(HEAD, &rows))?,
        HeldCommand::Show { .. } => {
            for (name, value) in rows.iter().flat_map(|row| HEAD.iter().zip(row)) {
                writeln!(out, "{:9} {value}", name.to_lowercase())?;
            }
        }
    }
    Ok(())
}

const HEAD: [&str; 6] = ["ROW", "OUTBOX", "KEY", "HOLDS", "NEXT TRY", "REASON"];

fn cells(OutboxRow { outbox, row }: &OutboxRow) -> [String; HEAD.len()] {
    let held = match row.holds_topic {
        true => "its topic",
        false => "its key",
    };
    let wait = Duration::from_secs(row.next_try_seconds.max(0.0).ceil() as u64);
    [
        row.row.to_string(),
        outbox.clone(),
        row.key.as_deref().unwrap_or("-").escape_debug().to_string(),
        held.to_owned(),
        format!("in {}", humantime::format_duration(wait)),
        row.reason.escape_debug().to_string(),
    ]
}
