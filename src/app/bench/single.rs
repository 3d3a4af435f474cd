//! One INSERT of many rows, with the trigger and without.

use serde::Serialize;

use super::figures::{Spread, thousands};
use super::plan::Plan;
use super::report::Table;
use super::stage::Stage;
use crate::postgres::Ringing;

/// Payload bytes of each row.
const BYTES: u32 = 200;

#[derive(Debug, Serialize)]
pub(super) struct Results {
    rows: u64,
    without_trigger_seconds: Vec<f64>,
    with_trigger_seconds: Vec<f64>,
    /// Throughput with the trigger over that without, pair by pair.
    ratio: Spread,
}

pub(super) fn steps(plan: &Plan) -> usize {
    plan.writer_rounds as usize
}

/// Without a relay: the statement is what is measured.
pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let rows = stage.plan.insert_rows;
    let rounds = stage.plan.writer_rounds;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // The first statement finds files that are yet to grow.
    insert(stage, Ringing::None, rows).await?;
    for round in 1..=rounds {
        let count = thousands(rows as f64);
        stage.progress.step(format!(
            "writers: one INSERT of {count} rows, round {round} of {rounds}"
        ));
        without.push(insert(stage, Ringing::None, rows).await?);
        with.push(insert(stage, Ringing::Bell, rows).await?);
    }
    let ratios = without
        .iter()
        .zip(&with)
        .map(|(without, with)| without / with);
    let ratio = Spread::of(ratios).unwrap_or(Spread {
        min: 1.0,
        median: 1.0,
        max: 1.0,
    });
    stage.scratch.empty().await?;
    Ok(Results {
        rows,
        without_trigger_seconds: without,
        with_trigger_seconds: with,
        ratio,
    })
}

async fn insert(stage: &mut Stage, ringing: Ringing, rows: u64) -> anyhow::Result<f64> {
    stage.scratch.empty().await?;
    stage.scratch.ring_by(ringing).await?;
    let took = stage.scratch.insert(rows, BYTES).await?;
    Ok(took.as_secs_f64())
}

impl Results {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([
            "one INSERT",
            "seconds",
            "lowest",
            "highest",
            "with / without",
            "lowest",
            "highest",
        ]);
        for (name, seconds, ratio) in [
            ("without trigger", &self.without_trigger_seconds, None),
            (
                "with the bell",
                &self.with_trigger_seconds,
                Some(self.ratio),
            ),
        ] {
            let mut row = vec![format!("{} rows, {name}", thousands(self.rows as f64))];
            for spread in [Spread::of(seconds.iter().copied()), ratio] {
                let cells = spread
                    .map(|one| [one.median, one.min, one.max].map(|figure| format!("{figure:.3}")));
                row.extend(cells.unwrap_or_default());
            }
            table.push(row);
        }
        table
    }
}
