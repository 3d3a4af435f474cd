//! A steady stream of single rows, until a consumer has each; then nothing for a while.

use std::fmt;
use std::time::{Duration, Instant};

use doorbell::app::bench::figures::Spread;
use serde::Serialize;
use sqlx::Executor;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep};

use crate::consumer::Consumer;
use crate::latency::{Committed, Latency};
use crate::samples::{Samples, cells, head};
use crate::side::{Running, Side, Start, in_turn};
use crate::stage::{Stage, connect};

const ROWS_PER_SECOND: i64 = 1_000;
/// Sessions that write in turn: the commit of one alone may take longer than a row has.
const WRITERS: i64 = 4;
/// After the last row, before idleness begins.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    seconds: u32,
    latency: Vec<Latency>,
    rounds: Vec<Vec<Block>>,
}

/// One side in one round.
#[derive(Debug, Serialize)]
struct Block {
    side: Side,
    /// What the writers came to.
    rows_per_second: f64,
    /// Of one core, while rows came.
    cpu_percent: f64,
    /// Of one core, while none came.
    idle_cpu_percent: f64,
    peak_memory_mib: Option<f64>,
}

/// `seconds` of rows that do not count, as many that do, as many without rows: for each side in each round.
pub(crate) async fn measure(
    stage: &mut Stage,
    sides: &[Side],
    seconds: u32,
    rounds: u32,
    warm_up: i64,
) -> anyhow::Result<Results> {
    let mut raw = vec![Samples::default(); sides.len()];
    let mut measured = Vec::new();
    let start = Start {
        warm_up,
        ..Start::default()
    };
    for round in 0..rounds {
        let mut blocks = Vec::new();
        for side in in_turn(sides, round) {
            eprintln!("steady {}/{rounds}: {}", round + 1, side.name());
            let (block, samples) = measure_block(stage, side, seconds, start).await?;
            blocks.push(block);
            for (_, raw) in sides.iter().zip(&mut raw).filter(|(at, _)| **at == side) {
                raw.extend(samples.clone());
            }
        }
        measured.push(blocks);
    }
    Ok(Results {
        seconds,
        latency: Latency::of(sides, raw)?,
        rounds: measured,
    })
}

async fn measure_block(
    stage: &mut Stage,
    side: Side,
    seconds: u32,
    start: Start,
) -> anyhow::Result<(Block, Samples)> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let running = Running::start(side, stage, &topic, start).await?;
    let mut consumer = Consumer::start(stage, &topic)?;
    let rows = ROWS_PER_SECOND * i64::from(seconds);
    write(stage, side, running.warmed + 1, rows).await?;
    let (begun, cpu) = (Instant::now(), running.cpu()?);
    let committed = write(stage, side, running.warmed + 1 + rows, rows).await?;
    let (took, cpu) = (begun.elapsed().as_secs_f64(), running.cpu()? - cpu);
    let mut samples = Samples::default();
    for (number, committed) in committed {
        samples.push(committed, consumer.arrival(number).await?);
    }
    sleep(REST).await;
    let (begun, idle) = (Instant::now(), running.cpu()?);
    // Idleness is what is measured.
    sleep(Duration::from_secs(seconds.into())).await;
    let idle = (running.cpu()? - idle) / begun.elapsed().as_secs_f64();
    let peak_memory_mib = running.peak_memory()?;
    running.stop(stage).await?;
    let block = Block {
        side,
        rows_per_second: rows as f64 / took,
        cpu_percent: cpu / took * 100.0,
        idle_cpu_percent: idle * 100.0,
        peak_memory_mib,
    };
    Ok((block, samples))
}

/// Inserts so many rows, each at its time or, where the writers are behind, as soon as they can.
async fn write(stage: &Stage, side: Side, first: i64, rows: i64) -> anyhow::Result<Vec<Committed>> {
    let mut sessions = Vec::new();
    for _ in 0..WRITERS {
        sessions.push(connect(&stage.database_url).await?);
    }
    let begin = tokio::time::Instant::now();
    let step = Duration::from_secs(1) / ROWS_PER_SECOND as u32;
    let mut writers = JoinSet::new();
    for (writer, mut session) in (0..).zip(sessions) {
        let mut times = interval_at(begin + step * writer, step * WRITERS as u32);
        let numbers = (first + i64::from(writer)..first + rows).step_by(WRITERS as usize);
        writers.spawn(async move {
            let mut committed: Vec<Committed> = Vec::new();
            for number in numbers {
                times.tick().await;
                let query = sqlx::query(side.insert()).bind(number).bind(number);
                session.execute(query).await?;
                committed.push((number, Instant::now()));
            }
            anyhow::Ok(committed)
        });
    }
    let mut committed = Vec::new();
    while let Some(written) = writers.join_next().await {
        committed.extend(written??);
    }
    Ok(committed)
}

impl Results {
    pub(crate) fn latency(&self) -> &[Latency] {
        &self.latency
    }

    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let relay = self.latency.iter().find(|one| one.side == Side::Relay);
        relay.map_or(String::new(), |relay| {
            format!(
                "at {ROWS_PER_SECOND} rows/s, relay p50 {:.2} ms",
                relay.milliseconds.p50
            )
        })
    }

    fn median(&self, side: Side, figure: fn(&Block) -> Option<f64>) -> Option<f64> {
        let blocks = self
            .rounds
            .iter()
            .flatten()
            .filter(|block| block.side == side);
        let figures = blocks.filter_map(figure);
        Spread::of(figures).map(|spread| spread.median)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.latency.first().map_or(0, |one| one.milliseconds.count);
        writeln!(
            f,
            "{rows} rows at {ROWS_PER_SECOND} a second from {WRITERS} sessions, milliseconds from the commit's return to the consumer; then {} s without rows\n",
            self.seconds
        )?;
        writeln!(
            f,
            "| | {} | rows/s written | CPU, % of a core | idle CPU, % of a core | peak memory, MiB |",
            head()
        )?;
        writeln!(f, "|{}", "---|".repeat(10))?;
        for one in &self.latency {
            let median = |figure| self.median(one.side, figure).unwrap_or_default();
            writeln!(
                f,
                "| {} | {} | {:.0} | {:.1} | {:.1} | {:.0} |",
                one.side.name(),
                cells(&one.milliseconds),
                median(|block| Some(block.rows_per_second)),
                median(|block| Some(block.cpu_percent)),
                median(|block| Some(block.idle_cpu_percent)),
                median(|block| block.peak_memory_mib),
            )?;
        }
        Ok(())
    }
}
