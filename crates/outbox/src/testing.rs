//! For tests of programs that write events.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::drivers::Transaction;
use crate::event::Event;
use crate::outbox::{Outbox, PayloadColumn};
use crate::statement::time_of;

/// Returns the events that this transaction has written to the table `outbox`, in their order. A
/// test can then roll it back.
///
/// # Errors
/// The driver's: reading requires the privilege SELECT, which a writer need not have.
pub async fn events<T: Transaction>(tx: &mut T) -> Result<Vec<Event>, T::Error> {
    events_of(&Outbox::DEFAULT, tx).await
}

/// Does what [`events`] does, for another outbox. A payload of type jsonb is as PostgreSQL rewrote
/// it.
///
/// # Errors
/// As [`events`].
pub async fn events_of<T: Transaction>(
    outbox: &Outbox,
    tx: &mut T,
) -> Result<Vec<Event>, T::Error> {
    let rows = tx.texts(sql(&outbox.table)).await?;
    let read = |row: &String| event(outbox.payload, &serde_json::from_str(row).ok()?);
    Ok(rows.iter().filter_map(read).collect())
}

/// Selects rows that can be seen although their transaction, or a savepoint of it, is in progress:
/// they are the caller's own.
fn sql(table: &str) -> String {
    let now = "pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8";
    format!(
        "SELECT (pg_catalog.to_jsonb(o) || pg_catalog.jsonb_build_object('not_before', \
             (EXTRACT(epoch FROM (pg_catalog.to_jsonb(o)->>'not_before')::pg_catalog.timestamptz) * 1000000)::pg_catalog.int8))::pg_catalog.text \
         FROM {table} o \
         WHERE CASE WHEN pg_catalog.age(o.xmin) <= 0 THEN pg_catalog.pg_xact_status( \
             (({now} >> 32 << 32) + o.xmin::pg_catalog.text::pg_catalog.int8)::pg_catalog.text::pg_catalog.xid8) = 'in progress' END \
         ORDER BY o.id"
    )
}

fn event(column: PayloadColumn, row: &Value) -> Option<Event> {
    let text = |name: &str| row.get(name)?.as_str().map(str::to_owned);
    let headers = match row.get("headers") {
        Some(Value::Object(headers)) => headers
            .iter()
            .map(|(name, value)| (name.clone(), header(value)))
            .collect(),
        _ => BTreeMap::new(),
    };
    Some(Event {
        event_type: text("type")?,
        key: text("key"),
        payload: row.get("payload").and_then(|it| payload(column, it)),
        headers,
        topic: text("topic"),
        not_before: row["not_before"].as_i64().map(time_of),
    })
}

/// Returns a header's value as the relay sends it.
fn header(value: &Value) -> Vec<u8> {
    let alone = value.as_object().filter(|it| it.len() == 1);
    let encoded = alone.and_then(|it| it.get("$base64")?.as_str());
    let bytes = encoded.and_then(|it| STANDARD.decode(it).ok());
    bytes.unwrap_or_else(|| match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    })
}

fn payload(column: PayloadColumn, value: &Value) -> Option<Vec<u8>> {
    match (column, value) {
        (PayloadColumn::Text, Value::Null) => None,
        // A NULL and the JSON null are the same here.
        (PayloadColumn::Json, Value::Null) => None,
        (PayloadColumn::Bytea, value) => unhex(value.as_str()?.strip_prefix("\\x")?),
        (PayloadColumn::Text, value) => value.as_str().map(|it| it.as_bytes().to_vec()),
        (PayloadColumn::Json, value) => Some(value.to_string().into_bytes()),
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
