//! `doorbell status`.

use std::io::Write;
use std::time::Duration;

use super::failure::Outcome;
use crate::config::Settings;
use crate::postgres::{self, Holder, Pause, Server, Session, Status, Table};

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

/// A transaction that is open for longer keeps the relay awake; those of ordinary writers come and go.
const LONG_OPEN: f64 = 1.0;

fn print(out: &mut impl Write, status: &Status) -> std::io::Result<()> {
    let more = if status.backlog_is_more {
        "more than "
    } else {
        ""
    };
    writeln!(out, "{}", status.outbox)?;
    if let Some(pause) = &status.paused {
        writeln!(out, "  PAUSED   {}", paused(pause))?;
    }
    writeln!(out, "  backlog  {more}{} rows", status.backlog)?;
    if let Some(seconds) = status.oldest_seconds {
        writeln!(out, "  oldest   {}", age(seconds))?;
    }
    if let Some(dead @ 1..) = status.dead {
        writeln!(out, "  dead     {dead} rows; see `doorbell dead list`")?;
    }
    writeln!(out, "  leader   {}", leader(status))?;
    writeln!(out, "  standbys {}", status.standbys.len())?;
    for line in bell(status) {
        writeln!(out, "  bell     {line}")?;
    }
    let remedy = match status.trigger {
        "missing" => ": rows wait for the sweep; run `doorbell migrate`",
        "of an earlier version" => {
            ": it rings at every insert, which costs writers; run `doorbell migrate`"
        }
        "disabled" => ": rows wait for the sweep; ALTER TABLE ... ENABLE TRIGGER doorbell_ring",
        _ => "",
    };
    writeln!(out, "  trigger  {}{remedy}", status.trigger)
}

fn paused(pause: &Pause) -> String {
    let by = pause
        .by
        .as_ref()
        .map_or(String::new(), |by| format!(" by {by}"));
    let reason = pause
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(": {reason}"));
    let age = age(pause.seconds);
    format!("for {age}{by}{reason}; no row leaves before `doorbell resume`")
}

fn leader(status: &Status) -> String {
    match &status.leader {
        None => "none: no relay runs for this outbox".into(),
        Some(holder) if holder.is_doorbell => {
            format!("{} ({})", holder.application, origin(holder))
        }
        Some(holder) => format!(
            "its lock is taken by {}, which is no relay: nothing is delivered until that ends; {}",
            described(holder),
            remedy(holder)
        ),
    }
}

/// What the key of the bell says: who sleeps, and who keeps the relay from it.
fn bell(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    match &status.bell.held_by {
        Some(holder) if holder.is_doorbell => lines.push("asleep: writers ring".to_owned()),
        Some(holder) => lines.push(format!(
            "its key is taken by {}, which is no relay: writers ring at each commit and the relay cannot sleep, but rows flow; {}",
            described(holder),
            remedy(holder)
        )),
        None if status.leader.is_some() => lines.push("awake: writers are silent".to_owned()),
        None => {}
    }
    if let Some(oldest) = &status.bell.oldest_silent_writer
        && oldest
            .transaction_seconds
            .is_none_or(|seconds| seconds >= LONG_OPEN)
    {
        let others = match status.bell.silent_writers - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        lines.push(format!(
            "a transaction that was silent is open{others}: {}; the relay cannot sleep before it has ended",
            described(oldest)
        ));
    }
    lines
}

/// Name and origin of whoever is no relay.
fn described(holder: &Holder) -> String {
    let name = match (&holder.prepared, holder.application.as_str()) {
        (Some(name), _) => format!("the prepared transaction {name:?}"),
        (None, "") => "a session without a name".to_owned(),
        (None, name) => format!("{name:?}"),
    };
    format!("{name} ({})", origin(holder))
}

/// Process, role, address and times, as far as our role may see them.
fn origin(holder: &Holder) -> String {
    let address = match (&holder.address, holder.connected_seconds) {
        (Some(address), _) => Some(format!("from {address}")),
        (None, Some(_)) => Some("from a local socket".to_owned()),
        (None, None) => None,
    };
    let parts = [
        holder.pid.map(|pid| format!("server process {pid}")),
        holder.user.as_ref().map(|user| format!("user {user}")),
        address,
        holder
            .connected_seconds
            .map(|it| format!("for {}", age(it))),
        holder
            .transaction_seconds
            .map(|it| format!("in a transaction for {}", age(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How to end it.
fn remedy(holder: &Holder) -> String {
    match (&holder.prepared, holder.pid) {
        (Some(name), _) => format!(
            "COMMIT PREPARED or ROLLBACK PREPARED '{}' ends it",
            name.replace('\'', "''")
        ),
        (None, Some(pid)) => format!("SELECT pg_terminate_backend({pid}) ends it"),
        (None, None) => "look into pg_locks".into(),
    }
}

pub(super) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}
