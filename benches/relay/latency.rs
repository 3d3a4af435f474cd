//! One row into an idle outbox, until a consumer has it.
//!
//! What a relay in a process of its own knows of the broker's acknowledgement cannot be seen from outside. So all sides are measured by what
//! can: from the moment the writer's commit has returned to the moment a waiting consumer has the record. For the bare loop the
//! acknowledgement is also noted in process: it shows how far the two lie apart.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use doorbell::app::bench::figures;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::bare::Bare;
use crate::consumer::Consumer;
use crate::samples::{Samples, cells, head, ratios};
use crate::side::{Running, Side, Start, Who, in_turn};
use crate::stage::Stage;

/// Rows ahead of each block, not counted: connections to partitions' leaders, plans, caches.
const WARM_UP: i64 = 5;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Plan {
    /// Rows for each side, over all rounds.
    pub(crate) samples: u32,
    pub(crate) rounds: u32,
    /// Rows that Debezium carries first.
    pub(crate) warm_up: i64,
    /// Milliseconds from one row's arrival to the next row.
    pub(crate) gap_ms: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    plan: Plan,
    sides: Vec<Latency>,
    /// Commit to acknowledgement, seen by the bare loop itself.
    bare_to_acknowledgement: figures::Latency,
    raw_bare_to_acknowledgement_us: Samples,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) side: Side,
    pub(crate) milliseconds: figures::Latency,
    pub(crate) raw_us: Samples,
}

/// A committed row: its number, and when the commit had returned.
pub(crate) type Committed = (i64, Instant);

/// Blocks of all sides in turn.
pub(crate) async fn measure(
    stage: &mut Stage,
    sides: &[Side],
    plan: Plan,
) -> anyhow::Result<Results> {
    let Plan {
        samples, rounds, ..
    } = plan;
    let mut raw = vec![Samples::default(); sides.len()];
    let mut acknowledged = Samples::default();
    let start = Start {
        warm_up: plan.warm_up,
        note_acknowledgements: true,
    };
    for round in 0..rounds {
        let block = samples / rounds + u32::from(round < samples % rounds);
        for side in in_turn(sides, round) {
            eprintln!("latency {}/{rounds}: {}", round + 1, side.name());
            let (samples, at_broker) = measure_block(
                stage,
                side,
                block,
                start,
                Duration::from_millis(plan.gap_ms),
            )
            .await?;
            acknowledged.extend(at_broker);
            for (_, raw) in sides.iter().zip(&mut raw).filter(|(at, _)| **at == side) {
                raw.extend(samples.clone());
            }
        }
    }
    Ok(Results {
        plan,
        sides: Latency::of(sides, raw)?,
        bare_to_acknowledgement: acknowledged.latency()?,
        raw_bare_to_acknowledgement_us: acknowledged,
    })
}

impl Latency {
    pub(crate) fn of(sides: &[Side], raw: Vec<Samples>) -> anyhow::Result<Vec<Self>> {
        let pairs = sides.iter().zip(raw);
        pairs
            .map(|(side, raw_us)| {
                Ok(Self {
                    side: *side,
                    milliseconds: raw_us.latency()?,
                    raw_us,
                })
            })
            .collect()
    }
}

/// One side's rows until the consumer, and the bare loop's until the acknowledgement.
async fn measure_block(
    stage: &mut Stage,
    side: Side,
    block: u32,
    start: Start,
    gap: Duration,
) -> anyhow::Result<(Samples, Samples)> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let running = Running::start(side, stage, &topic, start).await?;
    let mut consumer = Consumer::start(stage, &topic)?;
    let (mut rows, mut samples) = (Vec::new(), Samples::default());
    for number in running.warmed + 1..=running.warmed + WARM_UP + i64::from(block) {
        // Time itself is what is wanted here: rows that come alone.
        sleep(gap).await;
        stage.insert(side, number, number).await?;
        let committed = Instant::now();
        let arrived = consumer.arrival(number).await?;
        if number > running.warmed + WARM_UP {
            samples.push(committed, arrived);
            rows.push((number, committed));
        }
    }
    let acknowledged = match &running.who {
        Who::Bare(bare) => acknowledgements(bare, &rows).await?,
        _ => Samples::default(),
    };
    running.stop(stage).await?;
    Ok((samples, acknowledged))
}

/// The bare loop knows rows by their ids, which are their numbers: the table was empty and nobody else wrote.
async fn acknowledgements(bare: &Bare, rows: &[Committed]) -> anyhow::Result<Samples> {
    // A consumer may have the last record before its acknowledgement is back.
    let all = async {
        loop {
            let times = bare.times();
            if times.len() >= rows.len() + WARM_UP as usize {
                return times;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let times = timeout(Duration::from_secs(10), all)
        .await
        .context("a record that arrived was not acknowledged")?;
    let mut samples = Samples::default();
    for (number, committed) in rows {
        let (_, at) = times
            .iter()
            .find(|(id, _)| id == number)
            .context("a record arrived that was never sent")?;
        samples.push(*committed, *at);
    }
    Ok(samples)
}

impl Results {
    pub(crate) fn sides(&self) -> &[Latency] {
        &self.sides
    }

    fn of(&self, side: Side) -> Option<&figures::Latency> {
        let found = self.sides.iter().find(|one| one.side == side)?;
        Some(&found.milliseconds)
    }

    /// The one line of it.
    pub(crate) fn conclusion(&self) -> Option<String> {
        let (relay, bare) = (self.of(Side::Relay)?, self.of(Side::Bare)?);
        let (p50, ratio) = (relay.p50, relay.p50 / bare.p50);
        Some(format!(
            "latency p50, relay {p50:.2} ms, relay / bare loop {ratio:.2}"
        ))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows one by one, each {} ms after the arrival of the one before; milliseconds from the commit's return\n",
            self.plan.samples, self.plan.gap_ms
        )?;
        writeln!(f, "| | {} |\n|{}", head(), "---|".repeat(6))?;
        for one in &self.sides {
            let name = one.side.name();
            writeln!(
                f,
                "| {name}, to the consumer | {} |",
                cells(&one.milliseconds)
            )?;
        }
        if let (Some(relay), Some(bare)) = (self.of(Side::Relay), self.of(Side::Bare)) {
            writeln!(f, "| relay / bare loop | {} |", ratios(relay, bare))?;
        }
        writeln!(
            f,
            "| bare loop, to the acknowledgement | {} |",
            cells(&self.bare_to_acknowledgement)
        )
    }
}
