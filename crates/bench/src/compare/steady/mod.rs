//! Latency and cost of single rows that come at steady rates.
//!
//! | file | what |
//! |---|---|
//! | `rates` | what one side came to at one rate, and without rows |
//! | `cost` | what it used for the rows |
//! | `tables` | what is shown of it |

mod cost;
mod rates;
mod tables;

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::flags::CompareFlags;
use crate::fixture::Fixture;
use crate::report::Measured;
use crate::report::plot::quantiles;
use crate::report::rounds::Rounds;
use crate::sides::stream::{Stream, samples, written_a_second};
use crate::sides::{Side, Start};
use cost::Reading;
use rates::{AtRate, Idle, Rates, Run};

/// Sessions that write in turn: the commit of one alone may take longer than a row has.
const WRITERS: u32 = 8;
/// Above this many commits a second, a commit has several rows: the writers would not keep up.
const MOST_COMMITS: u32 = 3_000;
/// Rows of the lowest rates in each round, however long they take.
const FEWEST_ROWS: u32 = 15;
/// After the last row, before idleness begins.
const REST: Duration = Duration::from_secs(1);

/// Each side is started once a round, and has all rates one after the other, from the lowest.
pub(super) async fn measure(
    fixture: &mut Fixture,
    sides: &[Side],
    flags: &CompareFlags,
) -> anyhow::Result<Measured> {
    let name = |side: Side| side.name().to_owned();
    let run = async |fixture: &mut Fixture, side| run(fixture, side, flags).await;
    let runs = Rounds::measure(fixture, ("steady", flags.rounds), sides, name, run).await?;
    let mut idle = Rounds::new();
    let rates: Rates = runs.split(|round, side, run| {
        let rates = run.rates.into_iter();
        idle.push(round, side, run.idle);
        rates.map(|it| ((side, it.rate), it)).collect()
    });
    report(flags, sides, &rates, &idle)
}

async fn run(fixture: &mut Fixture, side: Side, flags: &CompareFlags) -> anyhow::Result<Run> {
    let start = Start {
        warm_up: flags.warm_up(),
        ..Start::default()
    };
    let mut stream = Stream::start(fixture, side, ("steady", WRITERS), start).await?;
    let mut rates = Vec::new();
    for rate in &flags.rates {
        fixture.progress.step(format!("    {rate} rows/s"));
        rates.push(at_rate(fixture, &mut stream, side, *rate, flags.seconds).await?);
    }
    sleep(REST).await;
    let idle = Idle {
        side,
        cpu_percent: stream
            .running
            .idle(Duration::from_secs(flags.seconds.into()))
            .await?,
        peak_memory_mib: stream.running.peak_memory()?,
    };
    stream.running.stop(fixture).await?;
    Ok(Run { rates, idle })
}

/// `seconds` of rows that do not count, then as many that do.
async fn at_rate(
    fixture: &mut Fixture,
    stream: &mut Stream,
    side: Side,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<AtRate> {
    let rows_a_commit = rate.div_ceil(MOST_COMMITS);
    let gap = Duration::from_secs(1) * rows_a_commit / rate;
    let warm_up = rate * seconds / rows_a_commit;
    let commits = warm_up.max(FEWEST_ROWS);
    stream.carry((warm_up, rows_a_commit), gap).await?;
    let before = Reading::take(fixture, side, &stream.running.process).await?;
    let begun = Instant::now();
    let passages = stream.carry((commits, rows_a_commit), gap).await?;
    let cost = before
        .cost(fixture, commits * rows_a_commit, begun.elapsed())
        .await?;
    let samples = samples(&passages);
    Ok(AtRate {
        side,
        rate,
        rows_per_second: written_a_second(&passages, begun),
        milliseconds: samples.latency(),
        cost,
        samples,
    })
}

fn report(
    flags: &CompareFlags,
    sides: &[Side],
    rates: &Rates,
    idle: &Rounds<Side, Idle>,
) -> anyhow::Result<Measured> {
    let curve = |rate: &u32| {
        let samples = tables::samples(rates, (Side::Relay, *rate));
        (format!("{rate} rows/s"), samples.curve())
    };
    let axes = ["share of rows that were as fast", "commit to consumer, ms"];
    let curves = flags.rates.iter().map(curve).collect();
    let plot = quantiles("The relay at steady rates", axes, curves)?;
    let medians = flags.rates.iter().map(|rate| {
        let samples = tables::samples(rates, (Side::Relay, *rate));
        format!("{:.2} ms at {rate} rows/s", samples.latency().p50)
    });
    let medians: Vec<String> = medians.collect();
    let seconds = flags.seconds;
    let what = format!(
        "single rows from {WRITERS} sessions, {} rounds; at each rate {seconds} s that do not count and {seconds} s that do, \
         or as long as {FEWEST_ROWS} rows take; milliseconds from the commit's return to the consumer; then {seconds} s without rows",
        flags.rounds
    );
    let json = json!({ "seconds": seconds, "rates": rates.json(), "idle": idle.json() });
    let title = "Latency and cost at steady rates";
    let mut measured = Measured::new(title, what, json)
        .table(tables::latency(flags, sides, rates))
        .table(tables::cost(flags, sides, rates));
    for other in sides.iter().filter(|side| **side != Side::Relay) {
        measured = measured.table(tables::ratios(flags, *other, rates));
    }
    Ok(measured
        .table(tables::idle(sides, idle))
        .plot("relay-steady", plot)
        .concluding(format!("relay p50 {}", medians.join(", "))))
}
