//! From a commit to a consumer, and through the stages of the relay.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::figures::{Durations, Latency, thousands};
use super::plan::{Mode, Plan, WARM_UP_GAP};
use super::plot::{self, Bars, Lines};
use super::report::{Section, Table};
use super::stage::Stage;
use super::watch::{Committed, Stations, Watch, spans};
use crate::postgres::{Ringing, Writer};

/// One session commits so often a second with time to spare.
const COMMITS_A_SESSION: u32 = 100;
const MOST_SESSIONS: u32 = 32;
/// More commits a second than this would be a measurement of the disk: above it a commit has several rows.
const MOST_COMMITS: u32 = 2_500;

/// From each station of a row to the next.
const STAGES: [&str; 4] = [
    "commit → wake",
    "wake → fetch",
    "fetch → ack",
    "ack → delete",
];

/// How rows come.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Commits in all, and rows in each.
    commits: u32,
    rows: u32,
    gap: Duration,
    sessions: u32,
    /// Rows a second; none for rows that come alone.
    rate: Option<u32>,
    delivery: Mode,
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    loads: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    load: String,
    /// Rows a second that were wanted, and that came.
    rate: f64,
    reached: f64,
    rows_a_commit: u32,
    /// Milliseconds from the return of a commit until a waiting consumer has the record.
    to_consumer_ms: Latency,
    /// Milliseconds of each stage of the relay.
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

fn loads(plan: &Plan) -> Vec<Load> {
    let single = |gap: &Duration| Load {
        commits: plan.single_rows,
        rows: 1,
        gap: *gap,
        sessions: 1,
        rate: None,
        delivery: Mode::AtLeastOnce,
    };
    let at_rate = |rate: &u32| {
        let rows = rate.div_ceil(MOST_COMMITS);
        let commits = f64::from(*rate) / f64::from(rows);
        Load {
            commits: ((commits * plan.at_rate.as_secs_f64()) as u32).max(1),
            rows,
            gap: Duration::from_secs_f64(1.0 / commits),
            sessions: (commits as u32 / COMMITS_A_SESSION).clamp(1, MOST_SESSIONS),
            rate: Some(*rate),
            delivery: Mode::AtLeastOnce,
        }
    };
    // Lone rows come last: by then the brokers have compiled what they do for each.
    let rates = plan.rates.iter().map(at_rate);
    let all = rates.chain(plan.single_gaps.iter().map(single));
    let in_mode = |load: Load| {
        let modes = plan.deliveries.iter();
        modes.map(move |delivery| Load {
            delivery: *delivery,
            ..load
        })
    };
    all.flat_map(in_mode).collect()
}

impl Load {
    fn name(&self) -> String {
        let mode = self.delivery.suffix();
        match self.rate {
            Some(rate) => format!("{} rows/s{mode}", thousands(rate.into())),
            None => format!(
                "idle, a row each {}{mode}",
                humantime::format_duration(self.gap)
            ),
        }
    }
}

pub(super) fn steps(plan: &Plan) -> usize {
    loads(plan).len()
}

pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let mut measured = Vec::new();
    stage.scratch.ring_by(Ringing::Bell).await?;
    for load in loads(&stage.plan) {
        stage.progress.step(format!("latency: {}", load.name()));
        measured.push(one(stage, load).await?);
    }
    Ok(Results { loads: measured })
}

async fn one(stage: &mut Stage, load: Load) -> anyhow::Result<Measured> {
    let topic = stage.topics.make("latency").await?;
    stage.scratch.empty().await?;
    let mut writers = Vec::new();
    for number in 0..load.sessions {
        writers.push(Writer::open(&stage.scratch, number, None).await?);
    }
    let receipts = stage.topics.receipts();
    let receipts_used = (load.delivery == Mode::ExactlyOnce).then_some(receipts.as_str());
    let mut watch = Watch::begin(stage, &topic, receipts_used)?;
    let warm_up = Load {
        commits: stage.plan.warm_up_rows,
        gap: WARM_UP_GAP,
        ..load
    };
    let (mut writers, warm) = insert(writers, warm_up).await?;
    watch.until_all(&warm).await?;
    let begun = Instant::now();
    let committed;
    (writers, committed) = insert(writers, load).await?;
    let took = begun.elapsed();
    watch.until_all(&committed).await?;
    drop(writers);
    let (arrived, stations) = watch.end().await?;
    stage.topics.remove(&topic).await?;
    Measured::of(&load, took, &committed, &arrived, &stations)
}

/// Inserts by the clock, from several sessions in turn: a slow commit delays no other session's.
async fn insert(writers: Vec<Writer>, load: Load) -> anyhow::Result<(Vec<Writer>, Committed)> {
    let begin = tokio::time::Instant::now() + Duration::from_millis(1);
    let mut tasks = JoinSet::new();
    for (first, mut writer) in (0..).zip(writers) {
        tasks.spawn(async move {
            let mut committed = Vec::new();
            for number in (first..load.commits).step_by(load.sessions as usize) {
                sleep_until(begin + load.gap * number).await;
                let ids = writer.insert(load.rows).await?;
                let at = Instant::now();
                committed.extend(ids.into_iter().map(|id| (id, at)));
            }
            anyhow::Ok((writer, committed))
        });
    }
    let (mut writers, mut all) = (Vec::new(), Committed::new());
    while let Some(done) = tasks.join_next().await {
        let (writer, committed) = done??;
        writers.push(writer);
        all.extend(committed);
    }
    Ok((writers, all))
}

impl Measured {
    fn of(
        load: &Load,
        took: Duration,
        committed: &Committed,
        arrived: &HashMap<i64, Instant>,
        stations: &Stations,
    ) -> anyhow::Result<Self> {
        let mut total = Durations::default();
        let mut stages = [(); 4].map(|()| Durations::default());
        for (id, at) in committed {
            let arrival = arrived.get(id).context("a row did not arrive")?;
            total.add(arrival.saturating_duration_since(*at));
            let passed = stations.get(id).copied().unwrap_or_default();
            for (stage, span) in stages.iter_mut().zip(spans(*at, passed)) {
                stage.add(span);
            }
        }
        let stages_ms = STAGES.iter().zip(&stages).filter_map(|(stage, durations)| {
            let latency = durations.latency()?;
            Some(StageLatency { stage, latency })
        });
        Ok(Self {
            load: load.name(),
            rate: f64::from(load.rows) / load.gap.as_secs_f64(),
            rows_a_commit: load.rows,
            reached: committed.len() as f64 / took.as_secs_f64(),
            to_consumer_ms: total.latency().context("no row was measured")?,
            stages_ms: stages_ms.collect(),
            quantiles: total.quantiles(),
        })
    }
}

impl Results {
    pub(super) fn section(&self) -> anyhow::Result<Section> {
        let head = ["load", "rows/s reached", "rows a commit", "rows"]
            .into_iter()
            .chain(Latency::HEAD);
        let mut table = Table::new(head);
        let mut stages = Table::new(["stage", "load", "rows"].into_iter().chain(Latency::HEAD));
        for one in &self.loads {
            let latency = &one.to_consumer_ms;
            let row = [
                one.load.clone(),
                thousands(one.reached),
                one.rows_a_commit.to_string(),
                thousands(latency.count as f64),
            ];
            table.push(row.into_iter().chain(latency.cells()));
            for StageLatency { stage, latency } in &one.stages_ms {
                let row = [
                    (*stage).to_owned(),
                    one.load.clone(),
                    thousands(latency.count as f64),
                ];
                stages.push(row.into_iter().chain(latency.cells()));
            }
        }
        Ok(Section {
            title: "latency",
            what: "milliseconds from the return of a commit to a consumer that waits for the record, and through the stages of the relay".into(),
            tables: vec![table, stages],
            notes: vec![
                "Rows come by the clock, whatever became of those before; one whose turn came late is measured from its own commit. Writers, relay and consumer share this process and one clock.".into(),
                "A station passed before the one ahead of it counts as nothing: a relay that is awake may fetch a row before its writer has heard of the commit.".into(),
            ],
            plots: vec![self.curves()?, self.bars()?],
        })
    }

    fn curves(&self) -> anyhow::Result<String> {
        Ok(plot::quantiles(&Lines {
            title: "From the commit to a consumer".into(),
            x: "share of the rows".into(),
            y: "milliseconds".into(),
            logarithmic: true,
            series: self
                .loads
                .iter()
                .map(|one| (one.load.clone(), one.quantiles.clone()))
                .collect(),
        })?)
    }

    fn bars(&self) -> anyhow::Result<String> {
        let series = STAGES.map(|stage| {
            let of = |one: &Measured| {
                let found = one.stages_ms.iter().find(|known| known.stage == stage);
                found.map_or(f64::NAN, |known| known.latency.p50)
            };
            (stage.to_owned(), self.loads.iter().map(of).collect())
        });
        Ok(plot::bars(&Bars {
            title: "The stages of the relay, p50".into(),
            unit: "milliseconds".into(),
            groups: self.loads.iter().map(|one| one.load.clone()).collect(),
            series: series.to_vec(),
            reference: None,
        })?)
    }
}
