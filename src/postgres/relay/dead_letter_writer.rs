//! Moves rows that Kafka can never take to the dead letters.

use std::collections::HashSet;

use crate::event::RowId;
use crate::postgres::error::Result;
use crate::postgres::session::Session;
use crate::postgres::table::Table;
use crate::postgres::wire::{Timestamp, row_id};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RejectedRow {
    pub row: RowId,
    /// Reason for the rejection, as a sentence.
    pub reason: String,
    /// Code of the reason: the same for the same cause.
    pub code: String,
    /// The topic that a route gave it, where there are routes.
    pub topic: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parked {
    pub rows: u64,
    /// Rows that are still in the table because a user holds them locked.
    pub left: Vec<RejectedRow>,
}

pub(crate) struct DeadLetterWriter {
    park: String,
    left: String,
    outbox: String,
}

impl DeadLetterWriter {
    pub(crate) fn of(table: &Table) -> Self {
        let c = &table.columns;
        let (id, created_at, from) = (&c.id, &c.created_at, &table.quoted);
        // No mapped column has these names: a mapped column may be an expression and cannot be
        // qualified.
        const ASK: &str = "doorbell_ask AS (SELECT doorbell_id, doorbell_time, doorbell_reason, doorbell_code, doorbell_topic \
             FROM ROWS FROM (unnest($1::bigint[]), unnest($2::timestamptz[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[])) \
             AS u (doorbell_id, doorbell_time, doorbell_reason, doorbell_code, doorbell_topic))";
        // The guard is that of a delete: another row may have the id.
        let asked = format!("{id} = doorbell_id AND {created_at} = doorbell_time");
        let (text, bytes) = ("NULL::text", "NULL::bytea");
        let either = |is_bytes: bool, column: &str| match is_bytes {
            false => format!("{column}, {bytes}"),
            true => format!("{text}, {column}"),
        };
        let (kept, columns) = match c.kept() {
            Some(kept) => {
                let event_id = c.event_id.as_deref().unwrap_or("NULL::text");
                (format!(", {event_id}, {kept}"), ", own_id, columns")
            }
            None => (String::new(), ""),
        };
        // The table is named by DELETE first: its lock comes before the weaker one of the SELECT.
        let park = format!(
            "WITH {ASK}, \
             moved (row_id, created_at, type, payload, key, topic, headers, routed, reason, code{columns}) AS (\
             DELETE FROM {from} USING (SELECT {id} AS doorbell_row, doorbell_time, doorbell_reason, doorbell_code, doorbell_topic \
             FROM {from} doorbell_o, doorbell_ask WHERE {asked} FOR UPDATE OF doorbell_o SKIP LOCKED) doorbell_free WHERE {id} = doorbell_row AND {created_at} = doorbell_time \
             RETURNING {id}, {created_at}, coalesce({event_type}, ''), {payload}, {key}, {topic}, {headers}, coalesce({topic}, doorbell_topic, {routed}), doorbell_reason, doorbell_code{kept}) \
             INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, payload_bytes, key, key_bytes, topic, headers, routed_to, \
             reason, code, payload_size, key_size, headers_size, attempts{columns}) \
             SELECT $6, row_id, created_at, type, {the_payload}, {the_key}, topic, headers::json, routed, reason, code, \
             coalesce(octet_length(payload), 0), coalesce(octet_length(key), 0), coalesce(octet_length(headers), 0), \
             1 + coalesce((SELECT max(d.attempts) FROM doorbell.dead d \
             WHERE d.outbox = $6 AND d.row_id = moved.row_id AND d.created_at = moved.created_at), 0){columns} \
             FROM moved ORDER BY row_id RETURNING row_id",
            // A record's type is empty if the row's is NULL, and so is the letter's.
            event_type = as_text(&c.event_type),
            payload = c.payload,
            key = c.key,
            topic = as_text(&c.own_topic),
            routed = c.routed,
            headers = c.letter_headers,
            the_payload = either(c.payload_is_bytes, "payload"),
            the_key = either(c.key_is_bytes, "key"),
        );
        Self {
            park,
            left: format!(
                "WITH {ASK} SELECT doorbell_id, doorbell_time FROM {from}, doorbell_ask WHERE {asked}"
            ),
            outbox: table.quoted.clone(),
        }
    }

    /// Moves rows. Those that a user holds locked stay.
    pub(crate) async fn park(&self, session: &mut Session, rows: &[RejectedRow]) -> Result<Parked> {
        let ids: Vec<i64> = rows.iter().map(|it| it.row.id).collect();
        let times: Vec<_> = rows.iter().map(|it| Timestamp(it.row.created_at)).collect();
        let reasons: Vec<&str> = rows.iter().map(|it| it.reason.as_str()).collect();
        let codes: Vec<&str> = rows.iter().map(|it| it.code.as_str()).collect();
        let topics: Vec<_> = rows.iter().map(|it| it.topic.as_deref()).collect();
        let moved = session
            .all(&self.park, |q| {
                let q = q.bind(ids.clone()).bind(times.clone());
                let q = q.bind(reasons.clone()).bind(codes.clone());
                q.bind(topics.clone()).bind(&self.outbox)
            })
            .await?;
        if moved.len() == rows.len() {
            return Ok(Parked {
                rows: moved.len() as u64,
                left: Vec::new(),
            });
        }
        let there = session
            .all(&self.left, |q| {
                let q = q.bind(ids).bind(times).bind(reasons);
                q.bind(codes).bind(topics)
            })
            .await?;
        let there: HashSet<RowId> = there.iter().map(row_id).collect::<Result<_>>()?;
        Ok(Parked {
            rows: moved.len() as u64,
            left: rows
                .iter()
                .filter(|it| there.contains(&it.row))
                .cloned()
                .collect(),
        })
    }
}

/// Casts a column that may be varchar to text.
fn as_text(column: &str) -> String {
    format!("{column}::text")
}
