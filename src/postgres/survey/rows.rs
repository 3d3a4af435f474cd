//! Rows that wait, as far as they say whether Kafka will take them.

use serde::Serialize;
use sqlx::Row;

use crate::postgres::error::Result;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// Rows that are looked at: a check is to cost the database nothing that it notices.
const ROWS: i64 = 1_000;

/// The first rows of the table.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// What there is among them: one for each topic and type.
    pub kinds: Vec<Kind>,
    /// Rows whose time of creation is more than a minute ahead of the server's clock.
    pub from_the_future: i64,
    /// Seconds since the oldest was created.
    pub oldest_seconds: Option<f64>,
}

/// Rows of one topic and type.
#[derive(Debug, Serialize)]
pub struct Kind {
    /// The row's own topic.
    pub topic: Option<String>,
    /// Its type.
    pub event_type: String,
    /// How many.
    pub rows: i64,
    /// Those of them without a key.
    pub keyless: i64,
    /// Bytes of payload, key and headers of the largest.
    pub largest: i64,
}

/// Looks at the rows with the lowest ids.
pub async fn sample(session: &mut Session, table: &Table) -> Result<Sample> {
    let c = &table.columns;
    let first = format!(
        "SELECT {topic} AS topic, {event_type} AS type, {key} AS key, {payload} AS payload, {headers} AS headers, {created_at} AS created_at \
         FROM {from} ORDER BY {id} LIMIT {ROWS}",
        topic = c.topic,
        event_type = c.event_type,
        key = c.key,
        payload = c.payload,
        headers = c.headers,
        created_at = c.created_at,
        from = table.quoted,
        id = c.id,
    );
    let kinds = format!(
        "SELECT topic, type, count(*) AS rows, count(*) FILTER (WHERE key IS NULL) AS keyless, \
         max(coalesce(octet_length(payload), 0)::bigint + coalesce(octet_length(key), 0) + coalesce(octet_length(headers), 0)) AS largest \
         FROM ({first}) r GROUP BY topic, type ORDER BY topic, type"
    );
    let times = format!(
        "SELECT count(*) FILTER (WHERE created_at > pg_catalog.clock_timestamp() + interval '1 minute') AS future, \
         pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - min(created_at) FILTER (WHERE pg_catalog.isfinite(created_at))) AS oldest FROM ({first}) r"
    );
    session
        .reading(async |session| {
            let rows = session.all(&kinds, |q| q).await?;
            let times = session.one(&times, |q| q).await?;
            let kind = |row: &sqlx::postgres::PgRow| {
                Ok::<_, sqlx::Error>(Kind {
                    topic: row.try_get("topic")?,
                    event_type: row.try_get("type")?,
                    rows: row.try_get("rows")?,
                    keyless: row.try_get("keyless")?,
                    largest: row.try_get("largest")?,
                })
            };
            Ok(Sample {
                kinds: rows
                    .iter()
                    .map(kind)
                    .collect::<std::result::Result<_, _>>()?,
                from_the_future: times.try_get("future")?,
                oldest_seconds: times.try_get("oldest")?,
            })
        })
        .await
}

/// A reason for which rows became dead letters.
#[derive(Debug, Serialize)]
pub struct DeadReason {
    /// In one word.
    pub code: String,
    /// The topic that they were for.
    pub topic: Option<String>,
    /// How many.
    pub rows: i64,
}

/// Why rows were parked, the most frequent reason first; none where our role may not see it.
pub async fn dead_reasons(session: &mut Session, table: &Table) -> Result<Vec<DeadReason>> {
    const MAY: &str = "SELECT coalesce(bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')), false) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = pg_catalog.to_regclass('doorbell.dead') AND a.attname IN ('outbox', 'retried_at', 'code', 'routed_to')";
    const REASONS: &str = "SELECT code, routed_to, count(*) AS rows FROM doorbell.dead WHERE outbox = $1 AND retried_at IS NULL \
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 3";
    let outbox = table.quoted.clone();
    session
        .reading(async |session| {
            if !session.one(MAY, |q| q).await?.try_get::<bool, _>(0)? {
                return Ok(Vec::new());
            }
            let rows = session.all(REASONS, |q| q.bind(outbox)).await?;
            rows.iter()
                .map(|row| {
                    Ok(DeadReason {
                        code: row.try_get("code")?,
                        topic: row.try_get("routed_to")?,
                        rows: row.try_get("rows")?,
                    })
                })
                .collect()
        })
        .await
}
