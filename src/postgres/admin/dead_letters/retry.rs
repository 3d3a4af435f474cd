//! Puts dead letters back into their tables.

use sqlx::Row;

use super::letter::{CHOSEN, Selection};
use super::list::{DeadLetters, LetterPlace, check};
use crate::postgres::columns::{no_column, quote};
use crate::postgres::error::{Error, Result};
use crate::postgres::session::{Session, literal};

impl DeadLetters<'_> {
    /// Puts rows back into their tables, unchanged and under their own ids, so an event keeps its
    /// identity. Returns how many. If an id does not exist, or a row in the table already has the
    /// id of one of the rows, nothing is changed.
    pub(crate) async fn retry(&mut self, choice: &Selection) -> Result<usize> {
        let outboxes = self.outboxes();
        let places = &self.places;
        self.session
            .writing(async |session| {
                check(session, &outboxes, choice).await?;
                // The trigger of sql/strict_order.sql would draw new ids.
                session.batch("SET LOCAL doorbell.keep_ids = on").await?;
                let mut sent = 0;
                for place in places {
                    sent += send_back(session, place, choice).await?;
                }
                Ok(sent)
            })
            .await
    }
}

async fn send_back(
    session: &mut Session,
    place: &LetterPlace,
    choice: &Selection,
) -> Result<usize> {
    let sql = send_back_statement(session, place).await?;
    let outbox = vec![place.table.quoted.clone()];
    let sent = session.all(&sql, |q| choice.bind(q, outbox)).await;
    match sent {
        Ok(rows) => Ok(rows.len()),
        Err(Error::Statement { code, message }) if code == "23502" => Err(Error::refused(
            format!("a dead letter cannot go back: {message}"),
            "a letter keeps the columns that are mapped and no others: give that column a default; nothing was changed",
        )),
        Err(Error::Statement { code, .. }) if code == "23505" => Err(Error::refused(
            format!(
                "a row of {} already has the id of a dead letter",
                place.table.quoted
            ),
            "retry when that row is gone, or retry the others by their ids",
        )),
        Err(error) => Err(error),
    }
}

const HEADERS: &str = "headers::text";

/// Builds one statement: it puts the rows back, and keeps of their letters only the number of
/// attempts.
async fn send_back_statement(session: &mut Session, place: &LetterPlace) -> Result<String> {
    // `-1`: without the length, because a cast would cut what an insert refuses.
    const TYPES: &str = "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, -1) AS type, b.typname = 'bytea' AS is_bytes, b.typtype = 'e' AS is_enum, b.typname IN ('json', 'jsonb') AS is_json \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
        WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";
    let columns = session
        .all(TYPES, |q| q.bind(i64::from(place.table.oid)))
        .await?;
    let c = &place.columns;
    let required = [
        (Some(c.id.as_str()), "row_id", "row_id"),
        (c.created_at.as_deref(), "created_at", "created_at"),
        (c.event_type.as_deref(), "type", "type"),
        (Some(c.payload.as_str()), "payload", "payload_bytes"),
    ];
    let required = required.into_iter();
    let required = required.filter_map(|(name, text, bytes)| Some((name?, text, bytes)));
    let required: Vec<_> = required.collect();
    let optional = [
        (c.key.name(), "key", "key_bytes"),
        (c.topic.name(), "topic", "topic"),
        (c.headers.name(), HEADERS, HEADERS),
    ];
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let kept = |name: &str| format!("(columns ->> {})", literal(name));
    let more: Vec<_> = place.kept.iter().map(|name| (name, kept(name))).collect();
    let more = more
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str(), value.as_str()));
    let wanted = required.iter().copied().chain(optional).chain(more);
    for (place_of, (name, text, bytes)) in wanted.enumerate() {
        if names.contains(&quote(name)) {
            continue;
        }
        let mut column = None;
        for it in &columns {
            if it.try_get::<&str, _>("name")? == name {
                column = Some(it);
            }
        }
        let Some(column) = column else {
            // The others may be missing.
            if place_of < required.len() {
                return Err(no_column(&place.table.quoted, name));
            }
            continue;
        };
        let is_bytes: bool = column.try_get("is_bytes")?;
        let kind: &str = column.try_get("type")?;
        names.push(quote(name));
        let value = match (text, column.try_get("is_json")?) {
            // A string of JSON, which is the text of the column.
            (HEADERS, false) => "(headers #>> '{}')",
            _ if is_bytes => bytes,
            _ => text,
        };
        values.push(match column.try_get("is_enum")? {
            // No value of an enum is empty: the row's type was NULL.
            true => format!("nullif({value}, '')::{kind}"),
            false => format!("{value}::{kind}"),
        });
    }
    Ok(format!(
        "WITH chosen AS MATERIALIZED (SELECT * FROM doorbell.dead WHERE {CHOSEN} ORDER BY row_id FOR UPDATE), \
         back AS (INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM chosen ORDER BY row_id) \
         UPDATE doorbell.dead d SET retried_at = pg_catalog.now(), payload = NULL, payload_bytes = NULL, key = NULL, key_bytes = NULL, \
         headers = NULL{forgotten} FROM chosen WHERE d.id = chosen.id RETURNING d.id",
        table = place.table.quoted,
        forgotten = if !place.kept.is_empty() {
            ", columns = NULL"
        } else {
            ""
        },
        names = names.join(", "),
        values = values.join(", "),
    ))
}
