//! The figures in tables, rate by rate.

use super::rates::{AtRate, Idle, Rates};
use crate::compare::flags::CompareFlags;
use crate::report::Table;
use crate::report::figures::{Latency, Samples, Spread, thousands};
use crate::report::rounds::Rounds;
use crate::sides::Side;

/// All samples of one side at one rate.
pub(super) fn samples(rates: &Rates, kind: (Side, u32)) -> Samples {
    let mut samples = Samples::default();
    rates.of(kind).for_each(|it| samples.extend(&it.samples));
    samples
}

fn rate(rate: u32) -> String {
    thousands(rate.into())
}

/// A figure that may not be known.
fn known(figure: f64, decimals: usize) -> String {
    match figure.is_nan() {
        true => "not known".to_owned(),
        false => format!("{figure:.decimals$}"),
    }
}

pub(super) fn latency(flags: &CompareFlags, sides: &[Side], rates: &Rates) -> Table {
    let columns = Latency::COLUMNS;
    let mut table = Table::new(&format!(
        "rows/s | | {columns} | rows | rows/s written, median"
    ));
    for at in &flags.rates {
        for side in sides {
            let kind = (*side, *at);
            let latency = samples(rates, kind).latency();
            let written = rates.spread(kind, |it| it.rows_per_second).median;
            let rest = [thousands(latency.count as f64), format!("{written:.0}")];
            let cells = [side.name().to_owned()].into_iter();
            table.row(rate(*at), cells.chain(latency.cells()).chain(rest));
        }
    }
    table
}

/// Medians of the rounds.
pub(super) fn cost(flags: &CompareFlags, sides: &[Side], rates: &Rates) -> Table {
    let mut table = Table::new(
        "rows/s | | CPU, % of a core | its sessions | the broker | \
         µs of CPU a row, relay and sessions | switches a row | its sessions | statements a row",
    );
    for at in &flags.rates {
        for side in sides {
            let median = |figure: fn(&AtRate) -> f64| rates.spread((*side, *at), figure).median;
            let cells = [
                side.name().to_owned(),
                known(median(|it| it.cost.relay_cpu_percent), 1),
                known(median(|it| it.cost.sessions_cpu_percent), 1),
                known(median(|it| it.cost.broker_cpu_percent), 1),
                known(
                    median(|it| it.cost.of_relaying() * 1e4 / it.rows_per_second),
                    0,
                ),
                known(median(|it| it.cost.switches_a_row), 1),
                known(median(|it| it.cost.session_switches_a_row), 1),
                known(median(|it| it.cost.statements_a_row), 2),
            ];
            table.row(rate(*at), cells);
        }
    }
    table
}

/// The relay over another side: the median of the rounds' ratios, lowest and highest.
pub(super) fn ratios(flags: &CompareFlags, other: Side, rates: &Rates) -> Table {
    let mut table = Table::new(&format!(
        "relay / {}, rows/s | p50 | p90 | p99 | CPU of the process | \
         CPU, sessions included | CPU, broker included | statements a row",
        other.name()
    ));
    const FIGURES: [fn(&AtRate) -> f64; 7] = [
        |it| it.milliseconds.p50,
        |it| it.milliseconds.p90,
        |it| it.milliseconds.p99,
        |it| it.cost.relay_cpu_percent,
        |it| it.cost.of_relaying(),
        |it| it.cost.of_all(),
        |it| it.cost.statements_a_row,
    ];
    for at in &flags.rates {
        let ratio = |figure| {
            let ratios = rates.ratios((Side::Relay, *at), (other, *at), figure);
            let ratio = Spread::of(ratios).known();
            ratio.map_or("not known".to_owned(), |it| it.ratio())
        };
        table.row(rate(*at), FIGURES.map(ratio));
    }
    table
}

pub(super) fn idle(sides: &[Side], idle: &Rounds<Side, Idle>) -> Table {
    let mut table = Table::new("without rows | CPU, % of a core | peak memory, MiB");
    for side in sides {
        let cpu = idle.spread(*side, |it| it.cpu_percent).median;
        let memory = idle.of(*side).filter_map(|it| it.peak_memory_mib);
        let memory = Spread::of(memory).median;
        table.row(side.name(), [known(cpu, 1), known(memory, 0)]);
    }
    table
}
