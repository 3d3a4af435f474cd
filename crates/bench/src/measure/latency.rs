//! From a commit to a consumer, and through the stages of the relay.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::plan::{Plan, WARM_UP_GAP};
use crate::fixture::{Delivery, Fixture, Ringing};
use crate::report::figures::{Latency, Samples, thousands};
use crate::report::plot;
use crate::report::{Measured, Table};
use crate::sides::embedded::STAGES;
use crate::sides::stream::{Stream, samples, written_a_second};
use crate::sides::{Side, Start};

/// One session commits so often a second with time to spare.
const COMMITS_A_SESSION: u32 = 100;
const MOST_SESSIONS: u32 = 32;
/// More commits a second than this would be a measurement of the disk: above it a commit has
/// several rows.
const MOST_COMMITS: u32 = 2_500;

#[derive(Debug)]
struct Load {
    name: String,
    /// Commits in all, and rows in each.
    commits: u32,
    rows: u32,
    gap: Duration,
    sessions: u32,
}

#[derive(Debug, Serialize)]
struct Run {
    load: String,
    /// Rows a second that were wanted, and that came.
    rate: f64,
    reached: f64,
    rows_a_commit: u32,
    /// Milliseconds from the return of a commit until a waiting consumer has the record.
    to_consumer_ms: Latency,
    stages_ms: Vec<StageLatency>,
    /// (Share of the rows, milliseconds to the consumer.)
    quantiles: Vec<(f64, f64)>,
}

#[derive(Debug, Serialize)]
struct StageLatency {
    stage: &'static str,
    #[serde(flatten)]
    latency: Latency,
}

impl Load {
    fn at_rate(rate: u32, time: Duration) -> Self {
        let rows = rate.div_ceil(MOST_COMMITS);
        let commits = f64::from(rate) / f64::from(rows);
        Self {
            name: format!("{} rows/s", thousands(rate.into())),
            commits: ((commits * time.as_secs_f64()) as u32).max(1),
            rows,
            gap: Duration::from_secs_f64(1.0 / commits),
            sessions: (commits as u32 / COMMITS_A_SESSION).clamp(1, MOST_SESSIONS),
        }
    }

    fn single(commits: u32, gap: Duration) -> Self {
        Self {
            name: format!("idle, a row each {}", humantime::format_duration(gap)),
            commits,
            rows: 1,
            gap,
            sessions: 1,
        }
    }
}

pub(super) async fn measure(fixture: &mut Fixture, plan: &Plan) -> anyhow::Result<Measured> {
    fixture.scratch.ring_by(Ringing::Bell).await?;
    // Lone rows come last: by then the brokers have compiled what they do for each.
    let rates = plan
        .rates
        .iter()
        .map(|rate| Load::at_rate(*rate, plan.at_rate()));
    let single = plan
        .single_gap
        .iter()
        .map(|gap| Load::single(plan.single_rows, *gap));
    let mut runs = Vec::new();
    for load in rates.chain(single) {
        for delivery in plan.deliveries() {
            let name = format!("{}{}", load.name, delivery.suffix());
            fixture.progress.step(format!("latency: {name}"));
            runs.push(run(fixture, plan, &load, name, delivery).await?);
        }
    }
    report(&runs)
}

async fn run(
    fixture: &mut Fixture,
    plan: &Plan,
    load: &Load,
    name: String,
    delivery: Delivery,
) -> anyhow::Result<Run> {
    let start = Start {
        delivery,
        ..Start::default()
    };
    let sessions = ("latency", load.sessions);
    let mut stream = Stream::start(fixture, Side::Embedded, sessions, start).await?;
    stream
        .carry((plan.warm_up_rows(), load.rows), WARM_UP_GAP)
        .await?;
    let begun = Instant::now();
    let passages = stream.carry((load.commits, load.rows), load.gap).await?;
    let stations = stream.running.stop(fixture).await?;

    let total = samples(&passages);
    let mut stages = [(); 4].map(|()| Samples::default());
    for (committed, arrival) in &passages {
        let spans = stations.spans(arrival.id, *committed);
        for (stage, span) in stages.iter_mut().zip(spans) {
            stage.add(span);
        }
    }
    let stages = STAGES.into_iter().zip(&stages);
    let stages_ms = stages.map(|(stage, samples)| StageLatency {
        stage,
        latency: samples.latency(),
    });
    Ok(Run {
        load: name,
        rate: f64::from(load.rows) / load.gap.as_secs_f64(),
        rows_a_commit: load.rows,
        reached: written_a_second(&passages, begun),
        to_consumer_ms: total.latency(),
        stages_ms: stages_ms.collect(),
        quantiles: total.curve(),
    })
}

fn report(runs: &[Run]) -> anyhow::Result<Measured> {
    let percentiles = Latency::COLUMNS;
    let mut table = Table::new(&format!(
        "load | rows/s reached | rows a commit | rows | {percentiles}"
    ));
    let mut stages = Table::new(&format!("stage | load | rows | {percentiles}"));
    for run in runs {
        let (latency, load) = (&run.to_consumer_ms, &run.load);
        let count = thousands(latency.count as f64);
        let row = [thousands(run.reached), run.rows_a_commit.to_string(), count];
        table.row(load, row.into_iter().chain(latency.cells()));
        for StageLatency { stage, latency } in &run.stages_ms {
            let row = [load.clone(), thousands(latency.count as f64)];
            stages.row(*stage, row.into_iter().chain(latency.cells()));
        }
    }
    let curves = runs
        .iter()
        .map(|run| (run.load.clone(), run.quantiles.clone()));
    let axes = ["share of the rows", "milliseconds"];
    let curves = plot::quantiles("From the commit to a consumer", axes, curves.collect())?;
    let loads = runs.iter().map(|run| run.load.clone()).collect();
    let medians = (0..STAGES.len()).map(|stage| {
        let medians = runs.iter().map(|run| run.stages_ms[stage].latency.p50);
        (STAGES[stage].to_owned(), medians.collect())
    });
    let title = "The stages of the relay, p50";
    let bars = plot::bars(title, "milliseconds", loads, medians.collect())?;
    let what = "milliseconds from the return of a commit to a consumer that waits for the record, and through the stages of the relay";
    Ok(Measured::new("latency", what, json!({ "loads": runs }))
        .table(table)
        .table(stages)
        .note("Rows come by the clock, whatever became of those before; one whose turn came late is measured from its own commit. Writers, relay and consumer share this process and one clock.")
        .note("A station passed before the one ahead of it counts as nothing: a relay that is awake may fetch a row before its writer has heard of the commit.")
        .plot("latency", curves)
        .plot("stages", bars))
}
