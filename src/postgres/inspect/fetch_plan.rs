//! Whether the fetch uses the index. The server is asked for the plan of the very statement that
//! the relay runs.

use crate::postgres::error::Result;
use crate::postgres::relay::fetch_statement::{READER_SETTINGS, fetch_statements};
use crate::postgres::relay::reader::LARGEST_VALUE;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// A batch as a relay at full speed fetches it.
const ROWS: i64 = 5_000;
const BYTES: i64 = 8 << 20;

/// Returns the steps of the fetch's plan that read or sort more than a batch. A good plan has none.
pub(crate) async fn detours(session: &mut Session, table: &Table) -> Result<Vec<String>> {
    let fetch = fetch_statements(table, LARGEST_VALUE).above;
    let explain = format!("EXPLAIN (COSTS OFF) {fetch}");
    let lines: Vec<String> = session
        .reading(async |session| {
            // The reader's settings, for this transaction alone.
            let settings = READER_SETTINGS.replace("SET ", "SET LOCAL ");
            session.batch(&settings).await?;
            session
                .values(&explain, |q| q.bind(0_i64).bind(ROWS).bind(BYTES))
                .await
        })
        .await?;
    let mut steps = Vec::new();
    for line in &lines {
        let step = line.trim().trim_start_matches("->").trim();
        let long = ["Seq Scan", "Bitmap", "Sort", "Incremental Sort", "Parallel"];
        if long.iter().any(|word| step.starts_with(word)) && !step.starts_with("Sort Key") {
            steps.push(step.to_owned());
        }
    }
    steps.dedup();
    Ok(steps)
}
