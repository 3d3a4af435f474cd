//! A backlog, until it is at the broker.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use doorbell::app::bench::figures::{Spread, thousands};
use serde::Serialize;
use sqlx::{Connection, Executor, Row};
use tokio::time::sleep;

use crate::side::{Running, Side, Start, Who, in_turn};
use crate::stage::{PARTITIONS, Stage, connect, patience};
use crate::topic;

/// How often the table is looked at: half of it is the error of a run of a second or more.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Serialize)]
pub(crate) struct Run {
    side: Side,
    seconds: f64,
    pub(crate) rows_per_second: f64,
    /// From the first to the last append of the broker.
    seconds_of_appends: f64,
    /// Of the process that relays. The bare loop shares its process with the bench, which sleeps but for its looks.
    cpu_seconds_per_million_rows: f64,
    /// The bare loop's would be that of the whole bench.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_memory_mib: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    rows: i64,
    sides: Vec<Summary>,
    /// In the order in which they ran.
    rounds: Vec<Vec<Run>>,
}

/// All rounds of one side.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) side: Side,
    pub(crate) rows_per_second: Spread,
    /// The relay's rate over this one, round by round.
    relay_over_it: Spread,
    cpu_seconds_per_million_rows: Spread,
    /// The highest.
    peak_memory_mib: Option<f64>,
}

/// What else goes on while the table is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Beside {
    Nothing,
    /// A transaction that does nothing, and whose snapshot keeps every dead row from being cleaned away.
    IdleSnapshot,
}

/// The sides in turn, so that whatever changes on the machine meets all of them.
pub(crate) async fn measure(
    stage: &mut Stage,
    sides: &[Side],
    rows: i64,
    rounds: u32,
) -> anyhow::Result<Results> {
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut runs = Vec::new();
        for side in in_turn(sides, round) {
            eprintln!("drain {}/{rounds}: {}", round + 1, side.name());
            runs.push(match side.is_debezium() {
                true => stream(stage, side, rows).await?,
                false => table(stage, side, rows, Beside::Nothing).await?,
            });
        }
        measured.push(runs);
    }
    let summaries = sides.iter().map(|side| Summary::of(*side, &measured));
    Ok(Results {
        rows,
        sides: summaries
            .collect::<Option<_>>()
            .context("nothing was measured")?,
        rounds: measured,
    })
}

/// Bare loop or relay: from its start on a full table until the table is empty.
pub(crate) async fn table(
    stage: &mut Stage,
    side: Side,
    rows: i64,
    beside: Beside,
) -> anyhow::Result<Run> {
    let topic = stage.new_topic().await?;
    stage.truncate().await?;
    stage.insert(side, 1, rows).await?;
    // It writes what the first reader would: all find the same pages.
    stage.session.execute("VACUUM outbox").await?;
    let mut other = connect(&stage.database_url).await?;
    if beside == Beside::IdleSnapshot {
        other
            .execute(sqlx::raw_sql(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
            ))
            .await?;
    }
    let running = Running::start(side, stage, &topic, Start::default()).await?;
    let empty = until_empty(stage, rows).await?;
    let (took, cpu) = (empty - running.begun, running.cpu()?);
    let peak_memory_mib = running.peak_memory()?;
    running.stop(stage).await?;
    other.close().await?;
    let appends = topic::check(stage, &topic, rows, &[0; PARTITIONS as usize])?;
    Ok(Run::new(side, rows, took, appends, cpu, peak_memory_mib))
}

/// Debezium, warm and streaming: one statement's rows, from the first to the last append.
async fn stream(stage: &mut Stage, side: Side, rows: i64) -> anyhow::Result<Run> {
    let topic = stage.new_topic().await?;
    let start = Start {
        warm_up: rows,
        ..Start::default()
    };
    let mut running = Running::start(side, stage, &topic, start).await?;
    let from = topic::ends(stage, &topic)?;
    let cpu = running.cpu()?;
    stage.insert(side, rows + 1, rows * 2).await?;
    if let Who::Debezium(debezium) = &mut running.who {
        debezium.until(stage, &topic, rows * 2).await?;
    }
    let cpu = running.cpu()? - cpu;
    let peak_memory_mib = running.peak_memory()?;
    running.stop(stage).await?;
    let appends = topic::check(stage, &topic, rows * 2, &from)?;
    Ok(Run::new(side, rows, appends, appends, cpu, peak_memory_mib))
}

impl Run {
    fn new(
        side: Side,
        rows: i64,
        took: Duration,
        appends: Duration,
        cpu: f64,
        peak_memory_mib: Option<f64>,
    ) -> Self {
        let (rows, seconds) = (rows as f64, took.as_secs_f64());
        Self {
            side,
            seconds,
            rows_per_second: rows / seconds,
            seconds_of_appends: appends.as_secs_f64(),
            cpu_seconds_per_million_rows: cpu * 1e6 / rows,
            peak_memory_mib,
        }
    }
}

/// The moment at which the table was seen empty: the begin of the look that found it so, for its snapshot is from then, and it may take long over
/// dead rows. The last row is asked for first: many such looks would take what is to be measured.
pub(crate) async fn until_empty(stage: &mut Stage, last: i64) -> anyhow::Result<Instant> {
    let begun = Instant::now();
    let mut at = begun;
    for sql in [
        "SELECT EXISTS (SELECT FROM outbox WHERE id >= $1)",
        "SELECT EXISTS (SELECT FROM outbox WHERE id <= $1)",
    ] {
        loop {
            at = Instant::now();
            let query = sqlx::query(sql).bind(last);
            if !stage.session.fetch_one(query).await?.try_get(0)? {
                break;
            }
            ensure!(
                begun.elapsed() < patience(last),
                "the table is not empty after {:?}",
                patience(last)
            );
            // The interval of a poll, not a wait for luck: the loop ends by what it sees.
            sleep(LOOK).await;
        }
    }
    Ok(at)
}

impl Summary {
    fn of(side: Side, rounds: &[Vec<Run>]) -> Option<Self> {
        let of = |side, figure: fn(&Run) -> f64| {
            let runs = rounds.iter().flatten().filter(move |run| run.side == side);
            runs.map(figure)
        };
        let rates = |side| of(side, |run| run.rows_per_second);
        let pairs = rates(Side::Relay).zip(rates(side));
        let runs = rounds.iter().flatten().filter(|run| run.side == side);
        let memory = runs.filter_map(|run| run.peak_memory_mib);
        Some(Self {
            side,
            rows_per_second: Spread::of(rates(side))?,
            relay_over_it: Spread::of(pairs.map(|(relay, other)| relay / other))?,
            cpu_seconds_per_million_rows: Spread::of(of(side, |run| {
                run.cpu_seconds_per_million_rows
            }))?,
            peak_memory_mib: memory.reduce(f64::max),
        })
    }
}

impl Results {
    pub(crate) fn sides(&self) -> &[Summary] {
        &self.sides
    }

    fn others(&self) -> impl Iterator<Item = &Summary> {
        let sides = self.sides.iter();
        sides.filter(|summary| summary.side != Side::Relay)
    }

    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let ratio = |other: &Summary| {
            let Spread { min, median, max } = other.relay_over_it;
            let name = other.side.name();
            format!("relay / {name} {median:.2} ({min:.2} to {max:.2})")
        };
        let ratios: Vec<String> = self.others().map(ratio).collect();
        format!("drain, round by round: {}", ratios.join(", "))
    }

    /// The rounds as a table, with the relay over each other side.
    fn rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self
            .sides
            .iter()
            .map(|summary| summary.side.name().to_owned());
        let ratios = self
            .others()
            .map(|other| format!("relay / {}", other.side.name()));
        let head: Vec<String> = rates.chain(ratios).collect();
        writeln!(
            f,
            "| round | {} |\n|{}",
            head.join(" | "),
            "---|".repeat(head.len() + 1)
        )?;
        for (number, round) in (1..).zip(&self.rounds) {
            let rate = |side| {
                let run = round.iter().find(|run| run.side == side);
                run.map_or(f64::NAN, |run| run.rows_per_second)
            };
            let rates = self
                .sides
                .iter()
                .map(|summary| thousands(rate(summary.side)));
            let ratios = self
                .others()
                .map(|other| format!("{:.2}", rate(Side::Relay) / rate(other.side)));
            let cells: Vec<String> = rates.chain(ratios).collect();
            writeln!(f, "| {number} | {} |", cells.join(" | "))?;
        }
        let rates = self
            .sides
            .iter()
            .map(|summary| thousands(summary.rows_per_second.median));
        let ratios = self
            .others()
            .map(|other| format!("{:.2}", other.relay_over_it.median));
        let cells: Vec<String> = rates.chain(ratios).collect();
        writeln!(f, "| median | {} |", cells.join(" | "))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = thousands(self.rows as f64);
        writeln!(
            f,
            "{rows} rows of 200 bytes, 1,000 keys, 6 partitions; rows/s\n"
        )?;
        self.rounds(f)?;
        writeln!(
            f,
            "\n| | CPU s per million rows, median | peak memory, MiB, highest |\n|---|---|---|"
        )?;
        for Summary {
            side,
            cpu_seconds_per_million_rows: cpu,
            peak_memory_mib,
            ..
        } in &self.sides
        {
            let memory = peak_memory_mib.map_or(String::new(), thousands);
            writeln!(f, "| {} | {:.2} | {memory} |", side.name(), cpu.median)?;
        }
        Ok(())
    }
}
