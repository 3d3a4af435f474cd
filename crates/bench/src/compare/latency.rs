//! From a commit to a consumer: one row into an idle outbox, and a steady stream of single rows.
//!
//! What a relay in a process of its own knows of the broker's acknowledgement cannot be seen from
//! outside. So all sides are measured by what can: from the moment the writer's commit has returned
//! to the moment a waiting consumer has the record. For the bare loop the acknowledgement is also
//! noted in process: it shows how far the two lie apart.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::flags::CompareFlags;
use crate::fixture::Fixture;
use crate::report::figures::{Latency, Samples, Spread};
use crate::report::plot::quantiles;
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};
use crate::sides::stream::{Stream, samples, written_a_second};
use crate::sides::{Side, Start};

/// Rows ahead of each block, not counted: connections to partitions' leaders, plans, caches.
const WARM_UP: u32 = 5;
const ROWS_PER_SECOND: u32 = 1_000;
/// Sessions that write in turn: the commit of one alone may take longer than a row has.
const WRITERS: u32 = 4;
/// After the last row, before idleness begins.
const REST: Duration = Duration::from_secs(1);

/// What one side came to in one round.
#[derive(Debug, Serialize)]
struct Block {
    side: Side,
    #[serde(skip)]
    samples: Samples,
    #[serde(flatten)]
    cost: Option<Cost>,
}

#[derive(Debug, Serialize)]
struct Cost {
    /// What the writers came to.
    rows_per_second: f64,
    /// Of one core, while rows came.
    cpu_percent: f64,
    /// Of one core, while none came.
    idle_cpu_percent: f64,
    peak_memory_mib: Option<f64>,
}

/// All samples of each side.
fn by_side(sides: &[Side], all: &Rounds<Side, Block>) -> Vec<(Side, Samples)> {
    let of = |side: &Side| {
        let mut samples = Samples::default();
        all.of(*side)
            .for_each(|block| samples.extend(&block.samples));
        (*side, samples)
    };
    sides.iter().map(of).collect()
}

fn of(all: &[(Side, Samples)], side: Side) -> Option<Latency> {
    let found = all.iter().find(|(of, _)| *of == side);
    found.map(|(_, samples)| samples.latency())
}

fn raw(all: &[(Side, Samples)]) -> Value {
    let one = |(side, samples): &(Side, Samples)| json!({ "side": side, "milliseconds": samples.latency(), "raw_us": samples });
    all.iter().map(one).collect()
}

fn plot(title: &str, all: &[(Side, Samples)]) -> anyhow::Result<String> {
    let of = |(side, samples): &(Side, Samples)| (side.name().to_owned(), samples.curve());
    let axes = ["share of rows that were as fast", "commit to consumer, ms"];
    quantiles(title, axes, all.iter().map(of).collect())
}

/// One row now and then, each so long after the arrival of the one before.
pub(super) async fn lone(
    fixture: &mut Fixture,
    sides: &[Side],
    flags: &CompareFlags,
) -> anyhow::Result<Measured> {
    let mut acknowledged = Samples::default();
    let all = async |fixture: &mut Fixture, side| {
        let (block, at_broker) = lone_rows(fixture, side, flags).await?;
        acknowledged.extend(&at_broker);
        Ok(block)
    };
    let name = |side: Side| side.name().to_owned();
    let all = Rounds::measure(fixture, ("latency", flags.rounds), sides, name, all).await?;

    let all = by_side(sides, &all);
    let mut table = Table::new(&format!(" | {}", Latency::COLUMNS));
    for (side, samples) in &all {
        let name = format!("{}, to the consumer", side.name());
        table.row(name, samples.latency().cells());
    }
    let mut conclusion = None;
    if let (Some(relay), Some(bare)) = (of(&all, Side::Relay), of(&all, Side::Bare)) {
        table.row("relay / bare loop", relay.ratios(&bare));
        let (p50, ratio) = (relay.p50, relay.p50 / bare.p50);
        conclusion = Some(format!(
            "latency p50, relay {p50:.2} ms, relay / bare loop {ratio:.2}"
        ));
    }
    let acknowledged_in = acknowledged.latency();
    table.row("bare loop, to the acknowledgement", acknowledged_in.cells());
    let CompareFlags {
        samples, gap_ms, ..
    } = flags;
    let json = json!({
        "plan": { "samples": samples, "rounds": flags.rounds, "warm_up": flags.warm_up(), "gap_ms": gap_ms },
        "sides": raw(&all), "bare_to_acknowledgement": acknowledged_in, "raw_bare_to_acknowledgement_us": acknowledged,
    });
    let what = format!(
        "{samples} rows one by one, each {gap_ms} ms after the arrival of the one before; milliseconds from the commit's return"
    );
    Ok(Measured::new("Latency of one row now and then", what, json)
        .table(table)
        .plot("relay-latency", plot("One row into an idle outbox", &all)?)
        .concluding(conclusion))
}

/// One side's rows until the consumer, and the bare loop's until the acknowledgement.
async fn lone_rows(
    fixture: &mut Fixture,
    side: Side,
    flags: &CompareFlags,
) -> anyhow::Result<(Block, Samples)> {
    let start = Start {
        warm_up: flags.warm_up(),
        is_noted: true,
        ..Start::default()
    };
    let mut stream = Stream::start(fixture, side, ("latency", 1), start).await?;
    let mut passages = Vec::new();
    for _ in 0..WARM_UP + flags.samples.div_ceil(flags.rounds) {
        // Time itself is what is wanted here: rows that come alone.
        sleep(Duration::from_millis(flags.gap_ms)).await;
        passages.extend(stream.carry((1, 1), Duration::ZERO).await?);
    }
    let passages = passages.split_off(WARM_UP as usize);
    let stations = stream.running.stop(fixture).await?;
    let mut acknowledged = Samples::default();
    for (committed, arrival) in &passages {
        if let Some(at) = stations.acknowledged(arrival.id) {
            acknowledged.between(*committed, at);
        }
    }
    let (samples, cost) = (samples(&passages), None);
    let block = Block {
        side,
        samples,
        cost,
    };
    Ok((block, acknowledged))
}

/// `seconds` of rows that do not count, as many that do, as many without rows.
pub(super) async fn steady(
    fixture: &mut Fixture,
    sides: &[Side],
    flags: &CompareFlags,
) -> anyhow::Result<Measured> {
    let (seconds, name) = (flags.seconds, |side: Side| side.name().to_owned());
    let run = async |fixture: &mut Fixture, side| steady_rows(fixture, side, flags).await;
    let blocks = Rounds::measure(fixture, ("steady", flags.rounds), sides, name, run).await?;

    let all = by_side(sides, &blocks);
    let costs = "rows/s written | CPU, % of a core | idle CPU, % of a core | peak memory, MiB";
    let mut table = Table::new(&format!(" | {} | {costs}", Latency::COLUMNS));
    for (side, samples) in &all {
        let costs = || blocks.of(*side).filter_map(|block| block.cost.as_ref());
        let median = |figure: fn(&Cost) -> f64| Spread::of(costs().map(figure)).median;
        let memory = Spread::of(costs().filter_map(|cost| cost.peak_memory_mib));
        let costs = [
            format!("{:.0}", median(|cost| cost.rows_per_second)),
            format!("{:.1}", median(|cost| cost.cpu_percent)),
            format!("{:.1}", median(|cost| cost.idle_cpu_percent)),
            format!("{:.0}", memory.median),
        ];
        let latency = samples.latency().cells();
        table.row(side.name(), latency.into_iter().chain(costs));
    }
    let relay = of(&all, Side::Relay);
    let rows = relay.map_or(0, |relay| relay.count);
    let conclusion =
        |relay: Latency| format!("at {ROWS_PER_SECOND} rows/s, relay p50 {:.2} ms", relay.p50);
    let what = format!(
        "{rows} rows at {ROWS_PER_SECOND} a second from {WRITERS} sessions, milliseconds from the commit's return to the consumer; then {seconds} s without rows"
    );
    let json = json!({ "seconds": seconds, "latency": raw(&all), "rounds": blocks.json() });
    Ok(
        Measured::new("Latency and cost at a steady rate", what, json)
            .table(table)
            .plot("relay-steady", plot("1,000 rows a second", &all)?)
            .concluding(relay.map(conclusion)),
    )
}

async fn steady_rows(
    fixture: &mut Fixture,
    side: Side,
    flags: &CompareFlags,
) -> anyhow::Result<Block> {
    let start = Start {
        warm_up: flags.warm_up(),
        ..Start::default()
    };
    let mut stream = Stream::start(fixture, side, ("steady", WRITERS), start).await?;
    let (commits, gap) = (
        ROWS_PER_SECOND * flags.seconds,
        Duration::from_secs(1) / ROWS_PER_SECOND,
    );
    stream.carry((commits, 1), gap).await?;
    let (begun, cpu) = (Instant::now(), stream.running.cpu()?);
    let passages = stream.carry((commits, 1), gap).await?;
    let cpu = (stream.running.cpu()? - cpu) / begun.elapsed().as_secs_f64();
    sleep(REST).await;
    let idle = Duration::from_secs(flags.seconds.into());
    let cost = Cost {
        rows_per_second: written_a_second(&passages, begun),
        cpu_percent: cpu * 100.0,
        idle_cpu_percent: stream.running.idle(idle).await?,
        peak_memory_mib: stream.running.peak_memory()?,
    };
    stream.running.stop(fixture).await?;
    let (samples, cost) = (samples(&passages), Some(cost));
    Ok(Block {
        side,
        samples,
        cost,
    })
}
