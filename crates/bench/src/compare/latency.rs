//! From a commit to a consumer: one row into an idle outbox.
//!
//! What a relay in a process of its own knows of the broker's acknowledgement cannot be seen from
//! outside. So all sides are measured by what can: from the moment the writer's commit has returned
//! to the moment a waiting consumer has the record. For the bare loop the acknowledgement is also
//! noted in process: it shows how far the two lie apart.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::flags::CompareFlags;
use crate::fixture::Fixture;
use crate::report::figures::{Latency, Samples};
use crate::report::plot::quantiles;
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};
use crate::sides::stream::{Stream, samples};
use crate::sides::{Side, Start};

/// Rows ahead of each block, not counted: connections to partitions' leaders, plans, caches.
const WARM_UP: u32 = 5;

/// All samples of each side.
fn by_side(sides: &[Side], all: &Rounds<Side, Samples>) -> Vec<(Side, Samples)> {
    let of = |side: &Side| {
        let mut samples = Samples::default();
        all.of(*side).for_each(|block| samples.extend(block));
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
pub(super) async fn measure(
    fixture: &mut Fixture,
    sides: &[Side],
    flags: &CompareFlags,
) -> anyhow::Result<Measured> {
    let mut acknowledged = Samples::default();
    let all = async |fixture: &mut Fixture, side| {
        let (to_consumer, at_broker) = lone_rows(fixture, side, flags).await?;
        acknowledged.extend(&at_broker);
        Ok(to_consumer)
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
    if let (Some(relay), Some(earlier)) = (of(&all, Side::Relay), of(&all, Side::EarlierRelay)) {
        table.row("relay / relay, earlier", relay.ratios(&earlier));
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
) -> anyhow::Result<(Samples, Samples)> {
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
    Ok((samples(&passages), acknowledged))
}
