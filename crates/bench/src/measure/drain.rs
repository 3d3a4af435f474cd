//! A table full of rows, until it is empty.

use serde_json::json;

use super::plan::{Plan, shown_bytes};
use crate::fixture::{Delivery, Fixture};
use crate::report::figures::{Spread, thousands};
use crate::report::plot;
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};
use crate::sides::backlog::{Backlog, Drained};

fn name(backlog: &Backlog) -> String {
    let held = ["", ", snapshot held"][usize::from(backlog.snapshot_held)];
    let (bytes, mode) = (
        shown_bytes(backlog.payload_bytes.into()),
        backlog.delivery.suffix(),
    );
    format!("{bytes}{held}{mode}")
}

pub(super) async fn measure(fixture: &mut Fixture, plan: &Plan) -> anyhow::Result<Measured> {
    let (part, backlogs) = (("drain", plan.drain_rounds()), plan.backlogs());
    let drain = async |fixture: &mut Fixture, backlog: Backlog| backlog.drain(fixture, false).await;
    let rounds = Rounds::measure(fixture, part, &backlogs, |it| name(&it), drain).await?;
    report(&backlogs, &rounds)
}

fn report(backlogs: &[Backlog], rounds: &Rounds<Backlog, Drained>) -> anyhow::Result<Measured> {
    let rate = |run: &Drained| run.rows_per_second;
    let mut table = Table::new(
        "payload | rows | rows/s | lowest | highest | MB/s | CPU s per million rows | peak memory, MiB",
    );
    let mut summary = Vec::new();
    for kind in backlogs {
        let rates = rounds.spread(*kind, rate);
        let payloads = rounds.spread(*kind, |run| run.payload_mb_per_second);
        let cpu = rounds.spread(*kind, |run| run.cpu_seconds_per_million_rows);
        let memory = Spread::of(rounds.of(*kind).filter_map(|run| run.peak_memory_mib));
        let rows = [thousands(kind.rows as f64)].into_iter();
        let costs = [
            format!("{:.1}", payloads.median),
            format!("{:.2}", cpu.median),
            format!("{:.0}", memory.max),
        ];
        table.row(name(kind), rows.chain(rates.cells(thousands)).chain(costs));
        summary.push(json!({
            "payload_bytes": kind.payload_bytes, "snapshot_held": kind.snapshot_held, "delivery": kind.delivery, "rows": kind.rows,
            "rows_per_second": rates, "payload_mb_per_second": payloads,
            "cpu_seconds_per_million_rows": cpu, "peak_memory_mib": memory,
        }));
    }
    // Rate with an old snapshot held over the rate without, round by round; and of exactly-once
    // over at-least-once.
    let free = |kind: &Backlog| Backlog {
        snapshot_held: false,
        ..*kind
    };
    let usual = |kind: &Backlog| Backlog {
        delivery: Delivery::AtLeastOnce,
        ..*kind
    };
    let held = backlogs.iter().filter(|kind| kind.snapshot_held);
    let held = Spread::of(held.flat_map(|kind| rounds.ratios(*kind, free(kind), rate)));
    let once = backlogs
        .iter()
        .filter(|kind| **kind != usual(kind) && !kind.snapshot_held);
    let once = Spread::of(once.flat_map(|kind| rounds.ratios(*kind, usual(kind), rate)));

    let groups: Vec<Backlog> = backlogs
        .iter()
        .filter(|kind| !kind.snapshot_held)
        .copied()
        .collect();
    let rates = |snapshot_held| {
        let of = |kind: &Backlog| {
            rounds
                .spread(
                    Backlog {
                        snapshot_held,
                        ..*kind
                    },
                    rate,
                )
                .median
        };
        groups.iter().map(of).collect()
    };
    let series = vec![
        ("backlog".into(), rates(false)),
        ("with an old snapshot held".into(), rates(true)),
    ];
    let svg = plot::bars(
        "Draining a backlog",
        "rows/s",
        groups.iter().map(name).collect(),
        series,
    )?;
    let json = json!({
        "runs": rounds.json(), "summary": summary, "held_over_free": held.known(), "once_over_usual": once.known(),
    });
    let what = "a backlog of committed rows, from the moment the relay leads until the table is empty; medians of the rounds";
    let mut measured = Measured::new("drain", what, json)
        .table(table)
        .note("The CPU is the relay's alone, its start included, and so is the memory; PostgreSQL and Kafka are not in it.")
        .plot("drain", svg);
    let held_shown = "With an old snapshot held / without, round by round";
    let once_shown = "Exactly once / at least once, round by round, all payloads";
    for (what, ratio) in [(held_shown, held), (once_shown, once)] {
        if let Some(ratio) = ratio.known() {
            measured = measured.note(format!("{what}: {}.", ratio.ratio()));
        }
    }
    Ok(measured)
}
