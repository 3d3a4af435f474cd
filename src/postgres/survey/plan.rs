//! Whether the fetch would walk the index: the server is asked for the plan of the very statement that the relay uses.

use sqlx::Row;

use crate::postgres::error::Result;
use crate::postgres::outbox::{READER_SETTINGS, fetch_statements};
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// A batch as a relay at full speed asks for it.
const ROWS: i64 = 5_000;
const BYTES: i64 = 8 << 20;

/// The steps of the fetch's plan that read or sort more than a batch; none is as it should be.
pub async fn detours(session: &mut Session, table: &Table) -> Result<Vec<String>> {
    let (fetch, _) = fetch_statements(table);
    let explain = format!("EXPLAIN (COSTS OFF) {fetch}");
    let rows = session
        .reading(async |session| {
            // The reader's settings, for this transaction alone.
            let settings = READER_SETTINGS.replace("SET ", "SET LOCAL ");
            session.batch(&settings).await?;
            session
                .all(&explain, |q| q.bind(0_i64).bind(ROWS).bind(BYTES))
                .await
        })
        .await?;
    let mut steps = Vec::new();
    for row in &rows {
        let line: String = row.try_get(0)?;
        let step = line.trim().trim_start_matches("->").trim();
        let long = ["Seq Scan", "Bitmap", "Sort", "Incremental Sort", "Parallel"];
        if long.iter().any(|word| step.starts_with(word)) && !step.starts_with("Sort Key") {
            steps.push(step.to_owned());
        }
    }
    steps.dedup();
    Ok(steps)
}
