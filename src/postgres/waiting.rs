//! The rows that are in the table or among the dead letters now, for `doorbell verify`.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Result;
use super::outbox::{int, time};
use super::session::Session;
use super::table::Table;

/// Rows of one statement: no snapshot is held for longer than it takes to read them.
const PAGE: usize = 10_000;

/// Each row's id and the identity that its record has or will have, ascending by id. A row that was committed before the call and is not among
/// them was deleted before the call ended.
pub async fn waiting(session: &mut Session, table: &Table) -> Result<Vec<(i64, Uuid)>> {
    let page = format!(
        "SELECT {id}, {created_at} FROM {table} WHERE {id} > $1 ORDER BY {id} LIMIT {PAGE}",
        id = table.columns.id,
        created_at = table.columns.created_at,
        table = table.quoted,
    );
    let mut rows: Vec<(i64, Uuid)> = Vec::new();
    loop {
        let known = rows.len();
        let after = rows.last().map_or(i64::MIN, |(id, _)| *id);
        // A pooler may lend another session each time: nothing is set on it.
        let found = session
            .reading(async |session| session.all(&page, |q| q.bind(after)).await)
            .await?;
        for row in &found {
            rows.push(identity(table, row)?);
        }
        if rows.len() - known < PAGE {
            return Ok(rows);
        }
    }
}

/// The same of the rows that are parked and were not sent back.
pub async fn parked(session: &mut Session, table: &Table) -> Result<Vec<(i64, Uuid)>> {
    const PARKED: &str =
        "SELECT row_id, created_at FROM doorbell.dead WHERE outbox = $1 AND retried_at IS NULL";
    let outbox = table.quoted.clone();
    let found = session
        .reading(async |session| session.all(PARKED, |q| q.bind(outbox)).await)
        .await?;
    found.iter().map(|row| identity(table, row)).collect()
}

fn identity(table: &Table, row: &PgRow) -> Result<(i64, Uuid)> {
    let (id, created_at) = (int(row, 0)?, time(row, 1)?);
    Ok((id, table.id.event_id(id, created_at)))
}
