//! The statement that writes events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::outbox::{Outbox, PayloadColumn};

/// What a driver executes: SQL, and the values of its parameters, each an array with one element an
/// event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The SQL, whose text depends on the outbox and on which of its columns are used.
    pub sql: String,
    /// `$1`, a `text[]`.
    pub types: Vec<&'a str>,
    /// `$2`, a `text[]`.
    pub keys: Vec<Option<&'a str>>,
    /// `$3`, a `bytea[]`.
    pub payloads: Vec<Option<&'a [u8]>>,
    /// `$4`, a `text[]`: a JSON object each.
    pub headers: Vec<Option<String>>,
    /// `$5`, a `text[]`.
    pub topics: Vec<Option<&'a str>>,
    /// `$6`, a `bigint[]`: microseconds since the Unix epoch.
    pub not_before: Vec<Option<i64>>,
}

impl Outbox {
    /// Returns what another driver has to execute, in order and in one transaction: one statement,
    /// or several where some events have headers and others have none.
    ///
    /// Events without headers get those that the table has by default, such as the trace of the
    /// transaction, so they share no statement with others.
    pub fn statement<'a>(&self, events: &'a [Event]) -> Vec<Statement<'a>> {
        let alike = |one: &Event, other: &Event| one.headers.is_empty() == other.headers.is_empty();
        let runs = events.chunk_by(alike);
        runs.map(|events| statement(self, events)).collect()
    }
}

fn statement<'a>(outbox: &Outbox, events: &'a [Event]) -> Statement<'a> {
    let of = |event: &'a Event| event.payload.as_deref();
    Statement {
        sql: sql(outbox, events),
        types: events.iter().map(|it| it.event_type.as_str()).collect(),
        keys: events.iter().map(|it| it.key.as_deref()).collect(),
        payloads: events.iter().map(of).collect(),
        headers: events.iter().map(headers).collect(),
        topics: events.iter().map(|it| it.topic.as_deref()).collect(),
        not_before: events.iter().map(not_before).collect(),
    }
}

/// Names the columns alone that are used: writers may lack the privilege on others, and a table may
/// lack the column. The parameters are always the same.
fn sql(outbox: &Outbox, events: &[Event]) -> String {
    let payload = match outbox.payload {
        PayloadColumn::Text => "pg_catalog.convert_from(e.payload, 'UTF8')",
        PayloadColumn::Json => "pg_catalog.convert_from(e.payload, 'UTF8')::pg_catalog.json",
        PayloadColumn::Bytea => "e.payload",
    };
    const NOT_BEFORE: &str =
        "'epoch'::pg_catalog.timestamptz + e.not_before * '1 microsecond'::pg_catalog.interval";
    let any = |is_set: fn(&Event) -> bool| events.iter().any(is_set);
    let columns = [
        ("type", "e.type", true),
        ("payload", payload, true),
        ("key", "e.key", any(|it| it.key.is_some())),
        (
            "headers",
            "e.headers::pg_catalog.jsonb",
            any(|it| !it.headers.is_empty()),
        ),
        ("topic", "e.topic", any(|it| it.topic.is_some())),
        ("not_before", NOT_BEFORE, any(|it| it.not_before.is_some())),
    ];
    let used = columns.iter().filter(|(_, _, is_used)| *is_used);
    let (names, values): (Vec<&str>, Vec<&str>) =
        used.map(|(name, value, _)| (*name, *value)).unzip();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[], $3::pg_catalog.bytea[], \
         $4::pg_catalog.text[], $5::pg_catalog.text[], $6::pg_catalog.int8[]) WITH ORDINALITY \
         AS e (type, key, payload, headers, topic, not_before, n) ORDER BY e.n",
        outbox.table,
        names.join(", "),
        values.join(", ")
    )
}

/// Returns the headers as a JSON object.
fn headers(event: &Event) -> Option<String> {
    let value = |value: &Vec<u8>| match std::str::from_utf8(value) {
        // PostgreSQL holds no NUL in JSON.
        Ok(text) if !text.contains('\0') => Value::from(text),
        _ => json!({ "$base64": STANDARD.encode(value) }),
    };
    let object = event.headers.iter().map(|(k, v)| (k.clone(), value(v)));
    let object: Map<String, Value> = object.collect();
    (!object.is_empty()).then(|| Value::from(object).to_string())
}

fn not_before(event: &Event) -> Option<i64> {
    let micros = |it: Duration| i64::try_from(it.as_micros()).unwrap_or(i64::MAX);
    Some(match event.not_before?.duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    })
}

/// Returns the time of so many microseconds since the epoch.
pub(crate) fn time_of(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    match micros < 0 {
        true => UNIX_EPOCH - distance,
        false => UNIX_EPOCH + distance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_that_are_used_are_named() {
        let outbox = Outbox::table("app.events").expect("a name");
        let events = [
            Event::new("a"),
            Event::new("b").key("k"),
            Event::new("c").header("h", b"\xff"),
            Event::new("d").topic("t").not_before(time_of(-5)),
        ];
        let statements = outbox.statement(&events);
        let columns: Vec<&str> = statements
            .iter()
            .map(|it| it.sql.split(" SELECT ").next().expect("a beginning"))
            .collect();
        assert_eq!(
            columns,
            [
                "INSERT INTO app.events (type, payload, key)",
                "INSERT INTO app.events (type, payload, headers)",
                "INSERT INTO app.events (type, payload, topic, not_before)",
            ]
        );
        assert_eq!(statements[0].keys, [None, Some("k")]);
        assert_eq!(
            statements[1].headers,
            [Some(r#"{"h":{"$base64":"/w=="}}"#.to_owned())]
        );
        assert_eq!(statements[2].not_before, [Some(-5)]);
        assert!(outbox.statement(&[]).is_empty());
    }
}
