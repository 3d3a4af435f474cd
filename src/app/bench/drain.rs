//! A table full of rows, until it is empty.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use tokio::time::sleep;

use super::figures::{Spread, thousands};
use super::plan::{Mode, Plan, shown_bytes};
use super::plot::{self, Bars};
use super::report::{Section, Table};
use super::stage::Stage;
use crate::postgres::Horizon;

/// How often the table is looked at: half of it is the error of a run.
const LOOK: Duration = Duration::from_millis(5);

/// A drain that has come no further in so long never will.
const PATIENCE: Duration = Duration::from_secs(1_800);

#[derive(Debug, Clone, Copy)]
struct Spec {
    round: u32,
    payload: u32,
    held: bool,
    delivery: Mode,
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    runs: Vec<Run>,
    summary: Vec<Summary>,
    /// Rate with an old snapshot held over the rate without, round by round.
    held_over_free: Option<Spread>,
    /// Rate of exactly-once over that of at-least-once, round by round.
    once_over_usual: Option<Spread>,
}

#[derive(Debug, Clone, Serialize)]
struct Run {
    round: u32,
    payload_bytes: u32,
    delivery: Mode,
    rows: u64,
    /// An idle transaction held a snapshot from before the rows were deleted.
    snapshot_held: bool,
    seconds: f64,
    rows_per_second: f64,
    payload_mb_per_second: f64,
    /// Of the relay's process, its start included.
    cpu_seconds_per_million_rows: f64,
    peak_memory_mib: f64,
}

/// What was measured: the payload's bytes, whether a snapshot was held, the delivery mode.
type Kind = (u32, bool, Mode);

impl Run {
    fn kind(&self) -> Kind {
        (self.payload_bytes, self.snapshot_held, self.delivery)
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    payload_bytes: u32,
    snapshot_held: bool,
    delivery: Mode,
    rows: u64,
    rows_per_second: Spread,
    payload_mb_per_second: Spread,
    cpu_seconds_per_million_rows: Spread,
    peak_memory_mib: Spread,
}

fn schedule(plan: &Plan) -> Vec<Spec> {
    let mut specs = Vec::new();
    for round in 1..=plan.drain_rounds {
        for payload in &plan.payloads {
            for delivery in &plan.deliveries {
                let free = Spec {
                    round,
                    payload: *payload,
                    held: false,
                    delivery: *delivery,
                };
                specs.push(free);
                if *payload == plan.held_payload() {
                    specs.push(Spec { held: true, ..free });
                }
            }
        }
    }
    specs
}

pub(super) fn steps(plan: &Plan) -> usize {
    schedule(plan).len()
}

pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let mut runs = Vec::new();
    for spec in schedule(&stage.plan) {
        let held = if spec.held {
            ", with an old snapshot held"
        } else {
            ""
        };
        let rounds = stage.plan.drain_rounds;
        stage.progress.step(format!(
            "drain: {} payloads{held}{}, round {} of {rounds}",
            shown_bytes(spec.payload.into()),
            spec.delivery.suffix(),
            spec.round
        ));
        runs.push(run(stage, spec).await?);
    }
    Ok(Results::of(runs))
}

async fn run(stage: &mut Stage, spec: Spec) -> anyhow::Result<Run> {
    // A new topic: each drain begins with the same log at the broker.
    let topic = stage.topics.make("drain").await?;
    let rows = stage.plan.backlog_rows(spec.payload);
    stage.scratch.empty().await?;
    stage.scratch.insert(rows, spec.payload).await?;
    let last = stage.scratch.settle_backlog().await?;
    let horizon = if spec.held {
        Some(Horizon::hold(&stage.scratch).await?)
    } else {
        None
    };
    let receipts = stage.topics.receipts();
    let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
    let flags = match spec.delivery {
        Mode::AtLeastOnce => &[][..],
        Mode::ExactlyOnce => &flags,
    };
    let mut relay = stage.relay(&topic, flags).await?;
    let begun = Instant::now();
    while !stage.scratch.is_drained(last).await? {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the backlog is not drained after {PATIENCE:?}"
        );
        // The interval of a poll: the loop ends by what it sees.
        sleep(LOOK).await;
    }
    let seconds = relay.led().await?.elapsed().as_secs_f64();
    let (cpu, peak_memory_mib) = (relay.cpu()?, relay.peak_memory()?);
    relay.stop().await?;
    if let Some(horizon) = horizon {
        horizon.release().await?;
    }
    stage.topics.remove(&topic).await?;
    let count = rows as f64;
    Ok(Run {
        round: spec.round,
        payload_bytes: spec.payload,
        delivery: spec.delivery,
        rows,
        snapshot_held: spec.held,
        seconds,
        rows_per_second: count / seconds,
        payload_mb_per_second: count * f64::from(spec.payload) / seconds / 1e6,
        cpu_seconds_per_million_rows: cpu * 1e6 / count,
        peak_memory_mib,
    })
}

impl Results {
    fn of(runs: Vec<Run>) -> Self {
        let mut kinds: Vec<Kind> = runs.iter().map(Run::kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let summary = kinds
            .iter()
            .filter_map(|kind| Summary::of(&runs, *kind))
            .collect();
        let free = |held: &Run| {
            runs.iter().find(|free| {
                let (payload, _, delivery) = held.kind();
                free.round == held.round && free.kind() == (payload, false, delivery)
            })
        };
        let usual = |once: &Run| {
            runs.iter().find(|usual| {
                let (payload, held, _) = once.kind();
                usual.round == once.round && usual.kind() == (payload, held, Mode::AtLeastOnce)
            })
        };
        let once = runs
            .iter()
            .filter(|run| run.delivery == Mode::ExactlyOnce && !run.snapshot_held);
        let once =
            once.filter_map(|once| Some(once.rows_per_second / usual(once)?.rows_per_second));
        let held = runs.iter().filter(|run| run.snapshot_held);
        let ratios =
            held.filter_map(|held| Some(held.rows_per_second / free(held)?.rows_per_second));
        Self {
            held_over_free: Spread::of(ratios),
            once_over_usual: Spread::of(once),
            summary,
            runs,
        }
    }

    pub(super) fn section(&self) -> anyhow::Result<Section> {
        let mut table = Table::new([
            "payload",
            "rows",
            "rows/s",
            "lowest",
            "highest",
            "MB/s",
            "CPU s per million rows",
            "peak memory, MiB",
        ]);
        for one in &self.summary {
            let held = if one.snapshot_held {
                ", snapshot held"
            } else {
                ""
            };
            table.push([
                format!(
                    "{}{held}{}",
                    shown_bytes(one.payload_bytes.into()),
                    one.delivery.suffix()
                ),
                thousands(one.rows as f64),
                thousands(one.rows_per_second.median),
                thousands(one.rows_per_second.min),
                thousands(one.rows_per_second.max),
                format!("{:.1}", one.payload_mb_per_second.median),
                format!("{:.2}", one.cpu_seconds_per_million_rows.median),
                format!("{:.0}", one.peak_memory_mib.max),
            ]);
        }
        let mut notes = vec![
            "The CPU is the relay's alone, its start included, and so is the memory; PostgreSQL and Kafka are not in it.".to_owned(),
        ];
        if let Some(ratio) = &self.held_over_free {
            notes.push(format!(
                "With an old snapshot held / without, round by round: median {:.2}, from {:.2} to {:.2}.",
                ratio.median, ratio.min, ratio.max
            ));
        }
        if let Some(ratio) = &self.once_over_usual {
            notes.push(format!(
                "Exactly once / at least once, round by round, all payloads: median {:.2}, from {:.2} to {:.2}.",
                ratio.median, ratio.min, ratio.max
            ));
        }
        Ok(Section {
            title: "drain",
            what: "a backlog of committed rows, from the moment the relay leads until the table is empty; medians of the rounds".into(),
            tables: vec![table],
            notes,
            plots: vec![self.plot()?],
        })
    }

    fn plot(&self) -> anyhow::Result<String> {
        let free: Vec<&Summary> = self
            .summary
            .iter()
            .filter(|one| !one.snapshot_held)
            .collect();
        let rates = |held: bool| {
            let of = |free: &&Summary| {
                let same = |one: &&Summary| {
                    (one.payload_bytes, one.snapshot_held, one.delivery)
                        == (free.payload_bytes, held, free.delivery)
                };
                let found = self.summary.iter().find(same);
                found.map_or(f64::NAN, |one| one.rows_per_second.median)
            };
            free.iter().map(of).collect()
        };
        Ok(plot::bars(&Bars {
            title: "Draining a backlog".into(),
            unit: "rows/s".into(),
            groups: free
                .iter()
                .map(|one| shown_bytes(one.payload_bytes.into()) + one.delivery.suffix())
                .collect(),
            series: vec![
                ("backlog".into(), rates(false)),
                ("with an old snapshot held".into(), rates(true)),
            ],
            reference: None,
        })?)
    }
}

impl Summary {
    fn of(runs: &[Run], kind: Kind) -> Option<Self> {
        let same: Vec<&Run> = runs.iter().filter(|run| run.kind() == kind).collect();
        let spread = |figure: fn(&Run) -> f64| Spread::of(same.iter().map(|run| figure(run)));
        Some(Self {
            payload_bytes: kind.0,
            snapshot_held: kind.1,
            delivery: kind.2,
            rows: same.first()?.rows,
            rows_per_second: spread(|run| run.rows_per_second)?,
            payload_mb_per_second: spread(|run| run.payload_mb_per_second)?,
            cpu_seconds_per_million_rows: spread(|run| run.cpu_seconds_per_million_rows)?,
            peak_memory_mib: spread(|run| run.peak_memory_mib)?,
        })
    }
}
