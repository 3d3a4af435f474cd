//! A backlog, until it is at the broker: side by side, and the relay alone in two situations.

use serde_json::json;

use crate::fixture::Fixture;
use crate::report::figures::{Spread, thousands};
use crate::report::plot::bars;
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};
use crate::sides::Side;
use crate::sides::backlog::{Backlog, Drained};

fn rate(run: &Drained) -> f64 {
    run.rows_per_second
}

async fn drains(
    fixture: &mut Fixture,
    backlogs: &[Backlog],
    rounds: u32,
    name: impl Fn(Backlog) -> String,
) -> anyhow::Result<Rounds<Backlog, Drained>> {
    let drain = async |fixture: &mut Fixture, backlog: Backlog| backlog.drain(fixture, true).await;
    Rounds::measure(fixture, ("drain", rounds), backlogs, name, drain).await
}

/// Of bare loop and relay, from their start on a full table; of Debezium, while it streams.
pub(super) async fn measure(
    fixture: &mut Fixture,
    sides: &[Side],
    rows: i64,
    rounds: u32,
) -> anyhow::Result<Measured> {
    let backlog = |side: &Side| Backlog::of(*side, rows);
    let backlogs: Vec<Backlog> = sides.iter().map(backlog).collect();
    let name = |backlog: Backlog| backlog.side.name().to_owned();
    let all = drains(fixture, &backlogs, rounds, name).await?;

    let relay = Backlog::of(Side::Relay, rows);
    let others: Vec<Backlog> = backlogs.iter().copied().filter(|it| *it != relay).collect();
    // The relay's rate over that of another side, round by round.
    let over = |other: &Backlog| Spread::of(all.ratios(relay, *other, rate));
    let names = backlogs.iter().map(|it| it.side.name().to_owned());
    let ratio = |other: &Backlog| format!("relay / {}", other.side.name());
    let columns = ["round".to_owned()].into_iter().chain(names.clone());
    let columns: Vec<String> = columns.chain(others.iter().map(ratio)).collect();
    let mut table = Table::new(&columns.join(" | "));
    for round in 0..all.count() {
        let figure = |it: &Backlog| all.figure(round, *it, rate);
        let ratio = |other: &Backlog| format!("{:.2}", figure(&relay) / figure(other));
        let rates = backlogs.iter().map(|it| thousands(figure(it)));
        table.row(
            (round + 1).to_string(),
            rates.chain(others.iter().map(ratio)),
        );
    }
    let medians = backlogs.iter().map(|it| all.spread(*it, rate).median);
    let ratios = others.iter().map(|other| over(other).ratio());
    table.row("median", medians.clone().map(thousands).chain(ratios));

    let mut costs = Table::new(" | CPU s per million rows, median | peak memory, MiB, highest");
    let mut summaries = Vec::new();
    for backlog in &backlogs {
        let cpu = all.spread(*backlog, |run| run.cpu_seconds_per_million_rows);
        let memory = all.of(*backlog).filter_map(|run| run.peak_memory_mib);
        let memory = memory.reduce(f64::max);
        let shown = memory.map_or(String::new(), thousands);
        costs.row(backlog.side.name(), [format!("{:.2}", cpu.median), shown]);
        summaries.push(json!({
            "side": backlog.side, "rows_per_second": all.spread(*backlog, rate), "relay_over_it": over(backlog),
            "cpu_seconds_per_million_rows": cpu, "peak_memory_mib": memory,
        }));
    }
    let series = vec![("rows of 200 bytes".to_owned(), medians.collect())];
    let svg = bars("Drain, median", "rows/s", names.collect(), series)?;
    let ratio = |other: &Backlog| format!("relay / {} {}", other.side.name(), over(other).ratio());
    let ratios: Vec<String> = others.iter().map(ratio).collect();
    let rows_shown = thousands(rows as f64);
    let what = format!("{rows_shown} rows of 200 bytes, 1,000 keys, 6 partitions; rows/s");
    let json = json!({ "rows": rows, "sides": summaries, "rounds": all.json() });
    Ok(Measured::new("Drain", what, json)
        .table(table)
        .table(costs)
        .plot("relay-drain", svg)
        .concluding(format!("drain, round by round: {}", ratios.join(", "))))
}

/// The relay with a backlog of `rows`, against a hundredth of it.
pub(super) fn scale(rows: i64) -> [Backlog; 2] {
    [rows, (rows / 100).max(1)].map(|rows| Backlog::of(Side::Relay, rows))
}

/// The relay beside a snapshot that is held all the while, against none.
pub(super) fn xmin(rows: i64) -> [Backlog; 2] {
    [true, false].map(|snapshot_held| Backlog {
        snapshot_held,
        ..Backlog::of(Side::Relay, rows)
    })
}

/// What may slow a drain, and what it is held against, pair by pair.
pub(super) async fn pairs(
    fixture: &mut Fixture,
    title: &'static str,
    pair: [Backlog; 2],
    rounds: u32,
) -> anyhow::Result<Measured> {
    let name = |it: Backlog| {
        let beside = ["", " with a held snapshot"][usize::from(it.snapshot_held)];
        format!("{} rows{beside}", thousands(it.rows as f64))
    };
    let all = drains(fixture, &pair, rounds, name).await?;
    let [harder, easier] = pair.map(name);
    let ratios = all.ratios(pair[0], pair[1], rate);
    let mut table = Table::new(&format!(
        "round | {harder} | {easier} | ratio | peak memory, MiB | "
    ));
    for (round, ratio) in (0..).zip(&ratios) {
        let rates = pair.map(|it| thousands(all.figure(round, it, rate)));
        let memory = |run: &Drained| run.peak_memory_mib.unwrap_or_default();
        let memories = pair.map(|it| format!("{:.0}", all.figure(round, it, memory)));
        let cells = rates.into_iter().chain([format!("{ratio:.2}")]);
        table.row((round + 1).to_string(), cells.chain(memories));
    }
    let ratio = Spread::of(ratios);
    let blank = String::new;
    table.row(
        "median",
        [blank(), blank(), ratio.ratio(), blank(), blank()],
    );
    let json = json!({ "pair": pair, "rounds": all.json(), "ratio": ratio });
    Ok(Measured::new(title, "the relay alone, rows/s", json)
        .table(table)
        .concluding(format!("drain, {harder} / {easier}: {}", ratio.ratio())))
}
