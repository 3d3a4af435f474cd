//! What `doorbell bench` measures on the user's own database and brokers.
//!
//! | file | what |
//! |---|---|
//! | `plan`, `cost` | what is measured, and what that will write |
//! | `preflight` | what is told before the start, and whether there is room |
//! | `writers`, `bulk_insert`, `cold_start` | what a trigger costs writers; `clients` are they |
//! | `drain` | rows a second until a backlog is empty |
//! | `latency` | from a commit to a consumer |
//! | `idle` | what a relay costs while nothing happens; `sockets` counts its bytes |

mod bulk_insert;
mod clients;
mod cold_start;
mod cost;
mod drain;
mod idle;
mod latency;
mod plan;
mod preflight;
mod sockets;
mod writers;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use doorbell::Settings;
use doorbell::bench_support::Failure;
use serde_json::json;

use crate::fixture::{self, Fixture, Progress};
use crate::report::{Machine, Results};
use plan::Part;
pub(crate) use plan::Plan;

/// Measures, and shows what was measured; of a run that was interrupted, the parts that are
/// complete.
pub(crate) async fn run(settings: &Settings, plan: &Plan) -> Result<(), Failure> {
    if let Some(path) = &plan.html {
        // Known at once, and not after ten minutes.
        let refused = |error| Failure::Usage(format!("--html {}: {error}", path.display()));
        try_writing(path).map_err(refused)?;
    }
    let Some(ground) = preflight::prepare(settings, plan).await? else {
        eprintln!("doorbell: nothing was done");
        return Ok(());
    };
    let mut results = Results::default();
    let measured = fixture::measured(
        settings,
        ground,
        plan.partitions,
        Progress::bar(plan.cost().time),
        async |fixture: &mut Fixture| measure(fixture, plan, &mut results).await,
    );
    let measured = Box::pin(measured).await;
    if !results.is_empty() {
        let mut out = std::io::stdout().lock();
        match plan.json {
            true => writeln!(out, "{:#}", results.json())?,
            false => write!(out, "{}", results.text())?,
        }
        if let Some(path) = &plan.html {
            let written = std::fs::write(path, results.html().context("no page")?);
            written.with_context(|| format!("failed to write {}", path.display()))?;
        }
    }
    Ok(measured?)
}

async fn measure(fixture: &mut Fixture, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let machine = Machine::here(&mut fixture.scratch.session).await?;
    let head = [
        // The name of the schema and the topics that were used.
        ("scratch", json!(fixture.scratch.schema())),
        ("plan", plan.summary()),
        ("machine", json!(machine)),
    ];
    results.begin(machine.to_string(), head);
    for part in plan.parts() {
        let measured = match part {
            Part::Writers => Box::pin(writers::measure(fixture, plan)).await?,
            Part::Drain => Box::pin(drain::measure(fixture, plan)).await?,
            Part::Latency => Box::pin(latency::measure(fixture, plan)).await?,
            Part::Idle => Box::pin(idle::measure(fixture, plan)).await?,
        };
        results.push(&part, measured);
    }
    Ok(())
}

/// Whether a file can be written there; it is left as it is.
fn try_writing(path: &Path) -> std::io::Result<()> {
    let is_new = !path.exists();
    File::options().create(true).append(true).open(path)?;
    if is_new {
        std::fs::remove_file(path)
    } else {
        Ok(())
    }
}
