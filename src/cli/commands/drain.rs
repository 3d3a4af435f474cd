//! `doorbell drain`: relays until the outboxes are empty.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use serde::Serialize;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::run::{failure, heeding_signals, on_threads};
use crate::cli::exit::{Failure, Outcome};
use crate::cli::logging::Log;
use crate::cli::progress::CommandProgress;
use crate::cli::terminal::print_json;
use crate::config::Settings;
use crate::numbers::plural;
use crate::otel::Traces;
use crate::postgres::{self, Server, Session, Table};
use crate::relay::{Monitor, Relay};

/// Interval of the progress bar.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize)]
struct Drained {
    outbox: String,
    published: u64,
    deleted: u64,
    parked: u64,
    /// Rows that are left: they are new, or Kafka rejects them.
    left: u64,
    /// Rows whose time is to come.
    delayed: u64,
}

/// Relays until no row is left of those that were visible at some moment after the start.
pub(crate) fn drain(
    settings: Settings,
    start_timeout: Option<Duration>,
    log: Log,
    json: bool,
) -> Outcome {
    let traces = Traces::start(&settings.telemetry).map_err(Failure::Usage)?;
    let result = on_threads(async {
        let before = backlogs(&settings).await?;
        let total = before.iter().map(|(_, rows, _)| rows).sum();
        let progress = CommandProgress::new(total, ("drained", "rows"));
        progress.begin_log(log);
        let begun = Instant::now();
        let relay = Relay::new(settings.clone()).start_timeout(start_timeout);
        let relay = traces.follow(relay);
        let monitors = relay.monitors();
        let stop = CancellationToken::new();
        let draining = async {
            tokio::select! {
                drained = relay.drain(stop.clone()) => drained,
                never = follow(&progress, &monitors) => match never {},
            }
        };
        let drained = heeding_signals(draining, &stop).await?;
        progress.end(gone(&monitors));
        drained.map_err(failure)?;
        let after = backlogs(&settings).await?;
        let mut all = Vec::new();
        for ((outbox, left, delayed), monitor) in after.into_iter().zip(&monitors) {
            let rows = monitor.snapshot().rows;
            all.push(Drained {
                outbox,
                published: rows.published,
                deleted: rows.deleted,
                parked: rows.parked,
                left,
                delayed,
            });
        }
        Ok(say(&all, begun.elapsed(), json)?)
    });
    traces.end();
    result
}

/// Returns each outbox with the approximate numbers of rows that may be sent and of the others.
async fn backlogs(settings: &Settings) -> Result<Vec<(String, u64, u64)>, Failure> {
    let server = Server::find(&settings.database.url).await?;
    let mut session = Session::open(&server, "drain").await?;
    let mut all = Vec::new();
    for outbox in &settings.outboxes {
        let table = Table::find(&mut session, outbox).await?;
        let rows = postgres::backlog(&mut session, &table).await?;
        let (delayed, _) = postgres::delayed(&mut session, &table).await?;
        all.push((table.quoted, rows, delayed.unsigned_abs()));
    }
    Ok(all)
}

fn say(all: &[Drained], took: Duration, json: bool) -> std::io::Result<()> {
    if json {
        let seconds = took.as_secs_f64();
        return print_json(&serde_json::json!({ "seconds": seconds, "outboxes": all }));
    }
    let mut out = std::io::stdout().lock();
    let took = humantime::format_duration(Duration::from_millis(took.as_millis() as u64));
    for it in all {
        let rows = |count: u64| format!("{} {}", HumanCount(count), plural(&count, "row"));
        let sent = rows(it.deleted);
        writeln!(out, "{}: drained, {sent} sent in {took}", it.outbox)?;
        let parked = "moved to the dead letters; see `doorbell dead list`";
        let left = "left: new, or rejected by Kafka, or waiting for such a row";
        let delayed = "not to be sent yet: their time is to come";
        for (count, what) in [(it.parked, parked), (it.left, left), (it.delayed, delayed)] {
            if count > 0 {
                writeln!(out, "  {} {what}", rows(count))?;
            }
        }
    }
    Ok(())
}

/// Shows progress without end.
async fn follow(progress: &CommandProgress, monitors: &[Arc<Monitor>]) -> Infallible {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        progress.set(gone(monitors));
    }
}

fn gone(monitors: &[Arc<Monitor>]) -> u64 {
    let rows = monitors.iter().map(|monitor| monitor.snapshot().rows);
    rows.map(|rows| rows.deleted + rows.parked).sum()
}
