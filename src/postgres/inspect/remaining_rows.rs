//! Rows that are in the table or among the dead letters now, for `verify`, `tail` and `/delivered`.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::event::RowId;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, literal};
use crate::postgres::table::Table;
use crate::postgres::wire::row_id;

/// Rows of one statement. No snapshot is held for longer than it takes to read them.
const PAGE: usize = 10_000;

/// In the place of an event's own id, if rows have none.
const NO_EVENT_ID: &str = "NULL::text";

/// Returns each row's id and the identity that its record has or will have, in ascending order of
/// ids. A row that was committed before the call and is not among them was deleted before the call
/// ended.
pub(crate) async fn waiting(session: &mut Session, table: &Table) -> Result<Vec<(i64, Uuid)>> {
    let page = format!(
        "SELECT {id}, {created_at}, {event_id} FROM {table} WHERE {id} > $1 ORDER BY {id} LIMIT {PAGE}",
        event_id = table.columns.event_id.as_deref().unwrap_or(NO_EVENT_ID),
        id = table.columns.id,
        created_at = table.columns.created_at,
        table = table.quoted,
    );
    let mut rows: Vec<(i64, Uuid)> = Vec::new();
    loop {
        let known = rows.len();
        let after = rows.last().map_or(i64::MIN, |(id, _)| *id);
        // A pooler may lend another session each time, so nothing is set on it.
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

/// Returns the same of the rows that are dead letters and were not sent back.
pub(crate) async fn parked(session: &mut Session, table: &Table) -> Result<Vec<(i64, Uuid)>> {
    let event_id = match table.columns.event_id {
        Some(_) => "own_id",
        None => NO_EVENT_ID,
    };
    let sql = format!(
        "SELECT row_id, created_at, {event_id} FROM doorbell.dead WHERE outbox = $1 AND retried_at IS NULL"
    );
    let outbox = table.quoted.clone();
    let found = session
        .reading(async |session| session.all(&sql, |q| q.bind(outbox)).await)
        .await?;
    found.iter().map(|row| identity(table, row)).collect()
}

/// Where an event is.
pub(crate) enum EventPlace {
    Waiting(WaitingEvent),
    /// Among the dead letters.
    Dead,
}

/// An event that is in its outbox.
pub(crate) struct WaitingEvent {
    pub row: RowId,
    /// The key, as text.
    pub key: Option<String>,
}

/// Finds an event by its id: in the table, which is read whole, or among the dead letters.
pub(crate) async fn find_event(
    session: &mut Session,
    table: &Table,
    event: Uuid,
) -> Result<Option<EventPlace>> {
    let columns = &table.columns;
    if let Some(own) = &columns.event_id {
        return find_own(session, table, own, event).await;
    }
    let rows = format!(
        "SELECT {}::bigint AS id, {} AS created_at, ({})::text AS key FROM {}",
        columns.id, columns.created_at, columns.key, table.quoted
    );
    if let Some(found) = first_match(session, &rows, table, event).await? {
        let (row, key) = (row_id(&found)?, found.try_get(2)?);
        return Ok(Some(EventPlace::Waiting(WaitingEvent { row, key })));
    }
    let letters = format!(
        "SELECT row_id AS id, created_at, NULL::text AS key FROM doorbell.dead WHERE retried_at IS NULL AND outbox = {}",
        literal(&table.quoted)
    );
    let found = first_match(session, &letters, table, event).await?;
    Ok(found.map(|_| EventPlace::Dead))
}

/// Finds an event by the id that its row has. An index on a column of type uuid is used.
async fn find_own(
    session: &mut Session,
    table: &Table,
    own: &str,
    event: Uuid,
) -> Result<Option<EventPlace>> {
    let columns = &table.columns;
    let own = own.strip_suffix("::text").unwrap_or(own);
    let event = literal(&event.to_string());
    let rows = format!(
        "SELECT {}::bigint AS id, {} AS created_at, ({})::text AS key FROM {} WHERE {own} = {event} AND {} IS NOT NULL LIMIT 1",
        columns.id, columns.created_at, columns.key, table.quoted, columns.id
    );
    let letters = format!(
        "SELECT FROM doorbell.dead WHERE retried_at IS NULL AND outbox = {} AND own_id = {event} LIMIT 1",
        literal(&table.quoted)
    );
    session
        .reading(async |session| {
            if let Some(found) = session.all(&rows, |q| q).await?.first() {
                let (row, key) = (row_id(found)?, found.try_get(2)?);
                return Ok(Some(EventPlace::Waiting(WaitingEvent { row, key })));
            }
            let letters = session.all(&letters, |q| q).await?;
            Ok(letters.first().map(|_| EventPlace::Dead))
        })
        .await
}

/// Selects the row of an event among rows, by the bytes of its id that are not those of version and
/// variant. An infinite time is as in `wire`.
async fn first_match(
    session: &mut Session,
    rows: &str,
    table: &Table,
    event: Uuid,
) -> Result<Option<PgRow>> {
    let (outbox, event) = (table.id.0.to_string(), event.to_string());
    let sql = format!(
        "SELECT r.id, r.created_at, r.key FROM ({rows}) r CROSS JOIN LATERAL (SELECT sha256(uuid_send($1::text::uuid) || int8send(r.id) || int8send( \
             CASE WHEN isfinite(r.created_at) THEN (EXTRACT(epoch FROM r.created_at) * 1000000)::bigint ELSE {} END)) AS h OFFSET 0) s \
         WHERE substr(h, 1, 6) = substr(uuid_send($2::text::uuid), 1, 6) AND substr(h, 10, 7) = substr(uuid_send($2::text::uuid), 10, 7) LIMIT 1",
        i64::MAX
    );
    let found = session
        .reading(async |session| session.all(&sql, |q| q.bind(outbox).bind(event)).await)
        .await?;
    Ok(found.into_iter().next())
}

/// A row of a key.
#[derive(Debug, Serialize)]
pub(crate) struct WaitingRow {
    pub id: i64,
    #[serde(rename = "type")]
    pub event_type: String,
    /// `None`: its time of creation is unknown or infinite.
    pub age_seconds: Option<f64>,
    /// `None`: it may be sent now. Infinite: it is never sent, which JSON shows as null.
    pub due_in_seconds: Option<f64>,
}

/// Returns the first rows of a key, by id. A key of bytes is `\x` and hexadecimal digits.
pub(crate) async fn waiting_of_key(
    session: &mut Session,
    table: &Table,
    key: &str,
) -> Result<Vec<WaitingRow>> {
    let columns = &table.columns;
    let due_in = match &columns.not_before {
        None => "NULL::float8".to_owned(),
        Some(time) => format!(
            "CASE WHEN {time} > pg_catalog.clock_timestamp() THEN CASE WHEN pg_catalog.isfinite({time}) \
             THEN pg_catalog.date_part('epoch', {time} - pg_catalog.clock_timestamp()) ELSE 'infinity' END END"
        ),
    };
    let sql = format!(
        "SELECT {id}::bigint, coalesce(({event_type})::text, ''), \
         CASE WHEN pg_catalog.isfinite({created_at}) THEN pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - {created_at}) END, {due_in} \
         FROM {table} WHERE ({key})::text = $1 AND {id} IS NOT NULL ORDER BY {id} LIMIT 1000",
        id = columns.id,
        event_type = columns.event_type,
        created_at = columns.created_at,
        key = columns.key,
        table = table.quoted,
    );
    let key = key.to_owned();
    let rows = session
        .reading(async |session| session.all(&sql, |q| q.bind(key)).await)
        .await?;
    let row = |row: &PgRow| {
        Ok(WaitingRow {
            id: row.try_get(0)?,
            event_type: row.try_get(1)?,
            age_seconds: row.try_get(2)?,
            due_in_seconds: row.try_get(3)?,
        })
    };
    rows.iter().map(row).collect()
}

/// Reads a row's id and that of its event. A row whose own is unusable will become a dead letter.
fn identity(table: &Table, row: &PgRow) -> Result<(i64, Uuid)> {
    let own: Option<&str> = row.try_get(2)?;
    let own = own.and_then(|text| text.parse().ok());
    let row = row_id(row)?;
    Ok((row.id, own.unwrap_or_else(|| table.id.event_id(row))))
}

/// Whether the table has no row that waits.
pub(crate) async fn is_empty(session: &mut Session, table: &Table) -> Result<bool> {
    let sql = format!(
        "SELECT NOT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)",
        table.quoted, table.columns.id
    );
    Ok(session.one_plain(&sql).await?.try_get(0)?)
}
