//! One INSERT of many rows, with the trigger and without.

use serde_json::json;

use super::plan::Plan;
use crate::fixture::{Fixture, Ringing, Rows};
use crate::report::figures::{Spread, thousands};
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};

/// Payload bytes of each row.
const BYTES: u32 = 200;

/// Measures without a relay: the statement is what is measured.
pub(super) async fn measure(fixture: &mut Fixture, plan: &Plan) -> anyhow::Result<Measured> {
    let (rows, rounds) = (plan.insert_rows, plan.writer_rounds());
    let (count, kinds) = (thousands(rows as f64), [Ringing::None, Ringing::Bell]);
    // The first statement finds files that are yet to grow.
    insert(fixture, Ringing::None, rows).await?;
    let part = format!("writers: one INSERT of {count} rows");
    let name = |ringing: Ringing| format!("{ringing:?}").to_lowercase();
    let run = async |fixture: &mut Fixture, ringing| insert(fixture, ringing, rows).await;
    let all = Rounds::measure(fixture, (&part, rounds), &kinds, name, run).await?;
    fixture.scratch.empty().await?;
    // Throughput with the trigger over that without, pair by pair.
    let ratio = Spread::of(all.ratios(Ringing::None, Ringing::Bell, |seconds| *seconds));
    let [without, with] = kinds.map(|kind| all.of(kind).copied().collect::<Vec<f64>>());
    let json = json!({
        "rows": rows, "without_trigger_seconds": without, "with_trigger_seconds": with, "ratio": ratio,
    });
    let mut table =
        Table::new("one INSERT | seconds | lowest | highest | with / without | lowest | highest");
    let shown = |spread: Spread| spread.cells(|figure| format!("{figure:.3}"));
    let blank = [""; 3].map(String::from);
    for (name, seconds, ratio) in [
        ("without trigger", without, blank),
        ("with the bell", with, shown(ratio)),
    ] {
        let seconds = shown(Spread::of(seconds)).into_iter();
        table.row(format!("{count} rows, {name}"), seconds.chain(ratio));
    }
    Ok(Measured::new("", "", json).table(table))
}

async fn insert(fixture: &mut Fixture, ringing: Ringing, rows: u64) -> anyhow::Result<f64> {
    fixture.scratch.empty().await?;
    fixture.scratch.ring_by(ringing).await?;
    let insert = fixture.scratch.insert(Rows::Plain(BYTES), 1..=rows as i64);
    Ok(insert.await?.as_secs_f64())
}
