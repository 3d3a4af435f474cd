//! A table full of rows, until it is empty.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use sqlx::{Executor, Row};

use crate::bare::Bare;
use crate::figures::{Summary, thousands};
use crate::process::{self, Relay};
use crate::stage::{PATIENCE, Stage};

/// How often the table is looked at: half of it is the error of a run of a second or more.
const LOOK: Duration = Duration::from_millis(5);

const FILL: &str = "INSERT INTO outbox (type, key, payload) \
    SELECT 'OrderCreated', 'key-' || n % 1000, rpad('{\"order\": ' || n || ', \"note\": \"', 198, 'x') || '\"}' FROM generate_series(1, $1) n";

/// One side of a round.
#[derive(Debug, Serialize)]
struct Run {
    seconds: f64,
    rows_per_second: f64,
    /// Of the process that relays. The bare loop shares its process with the bench, which sleeps but for its looks.
    cpu_seconds_per_million_rows: f64,
    /// The bare loop's would be that of the whole bench.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_mib: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Round {
    bare: Run,
    relay: Run,
    /// The relay's rate over that of the bare loop before it.
    ratio: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    rows: u32,
    rounds: Vec<Round>,
    bare: Summary,
    relay: Summary,
    ratio: Summary,
}

/// Bare loop and relay in turn, so that whatever changes on the machine meets both.
pub(crate) async fn measure(stage: &mut Stage, rows: u32, rounds: u32) -> anyhow::Result<Results> {
    let mut measured: Vec<Round> = Vec::new();
    for round in 1..=rounds {
        eprintln!("drain {round}/{rounds}: bare loop, then relay");
        let bare = bare(stage, rows).await?;
        let relay = relay(stage, rows).await?;
        let ratio = relay.rows_per_second / bare.rows_per_second;
        measured.push(Round { bare, relay, ratio });
    }
    let summary = |figure: fn(&Round) -> f64| Summary::of(measured.iter().map(figure).collect());
    Ok(Results {
        rows,
        bare: summary(|round| round.bare.rows_per_second),
        relay: summary(|round| round.relay.rows_per_second),
        ratio: summary(|round| round.ratio),
        rounds: measured,
    })
}

async fn bare(stage: &mut Stage, rows: u32) -> anyhow::Result<Run> {
    let topic = stage.new_topic().await?;
    let last = fill(stage, rows).await?;
    let before = process::cpu("self")?;
    let bare = Bare::start(stage, &topic, false).await?;
    let begun = bare.begun;
    until_empty(stage, last).await?;
    let run = Run::new(rows, begun.elapsed(), process::cpu("self")? - before, None);
    bare.stop().await?;
    Ok(run)
}

async fn relay(stage: &mut Stage, rows: u32) -> anyhow::Result<Run> {
    let topic = stage.new_topic().await?;
    let last = fill(stage, rows).await?;
    let relay = Relay::lead(stage, &topic)?;
    until_empty(stage, last).await?;
    let took = relay.leading.elapsed();
    let run = Run::new(rows, took, relay.cpu()?, Some(relay.peak_memory()?));
    relay.stop()?;
    Ok(run)
}

impl Run {
    fn new(rows: u32, took: Duration, cpu: f64, peak_memory_mib: Option<f64>) -> Self {
        let (rows, seconds) = (f64::from(rows), took.as_secs_f64());
        Self {
            seconds,
            rows_per_second: rows / seconds,
            cpu_seconds_per_million_rows: cpu * 1e6 / rows,
            peak_memory_mib,
        }
    }
}

/// A new table's worth of rows from one statement; the highest id. The vacuum writes what the first reader would: both sides find the same pages.
async fn fill(stage: &mut Stage, rows: u32) -> anyhow::Result<i64> {
    stage.truncate().await?;
    stage
        .session
        .execute(sqlx::query(FILL).bind(i64::from(rows)))
        .await?;
    stage.session.execute("VACUUM outbox").await?;
    let row = stage
        .session
        .fetch_one("SELECT max(id) FROM outbox")
        .await?;
    Ok(row.try_get(0)?)
}

/// Asks for the last row first: a look over the whole table, full of dead rows, would take what is to be measured.
async fn until_empty(stage: &mut Stage, last: i64) -> anyhow::Result<()> {
    let begun = Instant::now();
    for sql in [
        "SELECT EXISTS (SELECT FROM outbox WHERE id >= $1)",
        "SELECT EXISTS (SELECT FROM outbox WHERE id <= $1)",
    ] {
        while stage
            .session
            .fetch_one(sqlx::query(sql).bind(last))
            .await?
            .try_get(0)?
        {
            ensure!(
                begun.elapsed() < PATIENCE,
                "the table is not empty after {PATIENCE:?}"
            );
            // The interval of a poll, not a wait for luck: the loop ends by what it sees.
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let Summary { min, median, max } = self.ratio;
        format!(
            "drain, relay / bare loop pair by pair: min {min:.2}, median {median:.2}, max {max:.2}"
        )
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "drain: {} rows of 200 bytes, 1,000 keys, until the table is empty",
            thousands(f64::from(self.rows))
        )?;
        writeln!(
            f,
            "| round | bare loop, rows/s | relay, rows/s | relay / bare | CPU s per million rows, bare | relay | relay's peak memory, MiB |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (number, round) in self.rounds.iter().enumerate() {
            writeln!(
                f,
                "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.0} |",
                number + 1,
                thousands(round.bare.rows_per_second),
                thousands(round.relay.rows_per_second),
                round.ratio,
                round.bare.cpu_seconds_per_million_rows,
                round.relay.cpu_seconds_per_million_rows,
                round.relay.peak_memory_mib.unwrap_or_default(),
            )?;
        }
        write!(
            f,
            "| median | {} | {} | {:.2} | | | |",
            thousands(self.bare.median),
            thousands(self.relay.median),
            self.ratio.median
        )
    }
}
