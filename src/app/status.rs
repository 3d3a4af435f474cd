//! `doorbell status`.

use std::io::Write;
use std::time::Duration;

use super::failure::Outcome;
use crate::config::Settings;
use crate::postgres::{self, Server, Session, Status, Table};

/// Says how each configured outbox is.
pub(super) fn status(settings: &Settings, json: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all: Vec<Status> = runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, "status").await?;
        let mut all = Vec::new();
        for outbox in &settings.outboxes {
            let table = Table::find(&mut session, &outbox.table, &outbox.columns).await?;
            all.push(postgres::status(&mut session, &table).await?);
        }
        Ok::<_, postgres::Error>(all)
    })?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &all)?;
        writeln!(out)?;
        return Ok(());
    }
    for status in &all {
        print(&mut out, status)?;
    }
    Ok(())
}

fn print(out: &mut impl Write, status: &Status) -> std::io::Result<()> {
    let more = if status.backlog_is_more {
        "more than "
    } else {
        ""
    };
    let age = |seconds: f64| {
        let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
        humantime::format_duration(whole).to_string()
    };
    writeln!(out, "{}", status.outbox)?;
    writeln!(out, "  backlog  {more}{} rows", status.backlog)?;
    if let Some(seconds) = status.oldest_seconds {
        writeln!(out, "  oldest   {}", age(seconds))?;
    }
    match &status.leader {
        Some(leader) => writeln!(
            out,
            "  leader   {} (server process {}, from {}, for {})",
            leader.application,
            leader.pid,
            leader.address.as_deref().unwrap_or("a local socket"),
            age(leader.connected_seconds)
        )?,
        None => writeln!(out, "  leader   none: no relay runs for this outbox")?,
    }
    writeln!(out, "  standbys {}", status.standbys.len())?;
    let remedy = match status.trigger {
        "missing" => ": rows wait for the sweep; run `doorbell migrate`",
        "disabled" => ": rows wait for the sweep; ALTER TABLE ... ENABLE TRIGGER doorbell_ring",
        _ => "",
    };
    writeln!(out, "  trigger  {}{remedy}", status.trigger)
}
