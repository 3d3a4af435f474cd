//! Moves rows that Kafka can never take to the dead letters.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::leader::{Sent, since_2000, time_of};
use super::session::Session;
use super::table::Table;
use crate::config::Route;

/// A row that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convict {
    /// Which row.
    pub row: Sent,
    /// What is wrong with it, in words.
    pub reason: String,
    /// The same in one word.
    pub code: String,
}

/// What became of the rows of a move.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// Rows that moved.
    pub rows: u64,
    /// Rows that are still there, since a user holds them locked.
    pub left: Vec<Convict>,
}

/// The statements of a relay.
pub(super) struct Parking {
    park: String,
    left: String,
    outbox: String,
}

impl Parking {
    pub(super) fn of(table: &Table, route: &Route) -> Self {
        let c = &table.columns;
        let (id, created_at, from) = (&c.id, &c.created_at, &table.quoted);
        // Names that no mapped column has: those may be expressions and cannot be qualified.
        let ask = format!(
            "doorbell_ask AS (SELECT doorbell_id, {} AS doorbell_until, doorbell_reason, doorbell_code \
             FROM ROWS FROM (unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::text[])) \
             AS u (doorbell_id, until, doorbell_reason, doorbell_code))",
            time_of("until")
        );
        // The same guard as that of a delete: a row that came later under the id is another one.
        let asked = format!("{id} = doorbell_id AND {created_at} <= doorbell_until");
        let (text, bytes) = ("NULL::text", "NULL::bytea");
        let either = |is_bytes: bool, column: &str| match is_bytes {
            false => format!("{column}, {bytes}"),
            true => format!("{text}, {column}"),
        };
        let park = format!(
            "WITH {ask}, \
             doorbell_free AS (SELECT {id} AS doorbell_row, doorbell_until, doorbell_reason, doorbell_code \
             FROM {from} doorbell_o, doorbell_ask WHERE {asked} FOR UPDATE OF doorbell_o SKIP LOCKED), \
             moved (row_id, created_at, type, payload, key, topic, headers, reason, code) AS (\
             DELETE FROM {from} USING doorbell_free WHERE {id} = doorbell_row AND {created_at} <= doorbell_until \
             RETURNING {id}, {created_at}, {event_type}, {payload}, {key}, {topic}, {headers}, doorbell_reason, doorbell_code) \
             INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, payload_bytes, key, key_bytes, topic, headers, routed_to, \
             reason, code, payload_size, key_size, headers_size, attempts) \
             SELECT $5, row_id, created_at, type, {the_payload}, {the_key}, topic, headers::json, coalesce(topic, {route}), reason, code, \
             coalesce(octet_length(payload), 0), coalesce(octet_length(key), 0), coalesce(octet_length(headers), 0), \
             1 + coalesce((SELECT max(d.attempts) FROM doorbell.dead d \
             WHERE d.outbox = $5 AND d.row_id = moved.row_id AND d.created_at = moved.created_at), 0) \
             FROM moved ORDER BY row_id RETURNING row_id",
            event_type = as_text(&c.event_type),
            payload = c.payload,
            key = c.key,
            topic = as_text(&c.topic),
            headers = c.headers,
            the_payload = either(c.payload_is_bytes, "payload"),
            the_key = either(c.key_is_bytes, "key"),
            route = routed(route, &table.name),
        );
        Self {
            park,
            left: format!("WITH {ask} SELECT {id} FROM {from}, doorbell_ask WHERE {asked}"),
            outbox: table.quoted.clone(),
        }
    }

    /// Moves rows. Those that a user holds locked are left out, all others go.
    pub(super) async fn park(&self, session: &mut Session, convicts: &[Convict]) -> Result<Parked> {
        let ids: Vec<i64> = convicts.iter().map(|c| c.row.id).collect();
        let until: Vec<i64> = convicts
            .iter()
            .map(|c| since_2000(c.row.created_at))
            .collect();
        let reasons: Vec<&str> = convicts.iter().map(|c| c.reason.as_str()).collect();
        let codes: Vec<&str> = convicts.iter().map(|c| c.code.as_str()).collect();
        let moved = session
            .all(&self.park, |q| {
                q.bind(ids.clone())
                    .bind(until.clone())
                    .bind(reasons.clone())
                    .bind(codes.clone())
                    .bind(&self.outbox)
            })
            .await?;
        if moved.len() == convicts.len() {
            return Ok(Parked {
                rows: moved.len() as u64,
                left: Vec::new(),
            });
        }
        let there = session
            .all(&self.left, |q| {
                q.bind(ids).bind(until).bind(reasons).bind(codes)
            })
            .await?;
        let there: HashSet<i64> = there.iter().map(first).collect::<Result<_>>()?;
        Ok(Parked {
            rows: moved.len() as u64,
            left: convicts
                .iter()
                .filter(|convict| there.contains(&convict.row.id))
                .cloned()
                .collect(),
        })
    }
}

fn first(row: &PgRow) -> Result<i64> {
    Ok(row.try_get(0)?)
}

/// A column that may be varchar, as the text that it is.
fn as_text(column: &str) -> String {
    format!("{column}::text")
}

/// The route as an expression over `type`.
fn routed(route: &Route, table: &str) -> String {
    let pieces = route.pieces(table).map(|piece| match piece {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => "type".to_owned(),
    });
    format!("concat({})", pieces.collect::<Vec<_>>().join(", "))
}
