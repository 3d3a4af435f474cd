//! A sample of the rows that wait, to tell whether Kafka will take them.

use sqlx::Row;

use crate::postgres::columns::Size;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, from_row};
use crate::postgres::table::Table;

/// Rows in the sample. A check must not cost the database anything noticeable.
const ROWS: i64 = 1_000;

#[derive(Debug)]
pub(crate) struct Sample {
    pub kinds: Vec<SampledKind>,
    /// Rows whose time of creation is more than a minute ahead of the server's clock.
    pub from_the_future: i64,
    pub oldest_seconds: Option<f64>,
    /// The highest id in the table.
    pub highest_id: Option<i64>,
}

/// Rows of one topic and type.
#[derive(Debug)]
pub(crate) struct SampledKind {
    /// As the relay reads it.
    pub topic: Option<Vec<u8>>,
    pub event_type: String,
    pub keyless: i64,
    /// Bytes of payload, key and headers of the largest row.
    pub largest: i64,
}

from_row! { SampledKind: topic event_type keyless largest }

/// Reads the rows with the lowest ids.
pub(crate) async fn sample(session: &mut Session, table: &Table) -> Result<Sample> {
    let c = &table.columns;
    // A document as text would have to be read whole: its stored size will do.
    let [_, payload, key, _, headers] = &c.sizes;
    let size = |size: &Size| match size {
        Size::Known(size) | Size::Stored(size) => format!("coalesce({size}, 0)::bigint"),
        Size::Small => "0::bigint".to_owned(),
    };
    let first = format!(
        "SELECT {topic} AS topic, coalesce({event_type}::text, '') AS event_type, {key} IS NULL AS keyless, {payload} + {sizes} AS size, {created_at} AS created_at \
         FROM {from} WHERE {id} IS NOT NULL ORDER BY {id} LIMIT {ROWS}",
        topic = match c.has_routes {
            true => c.topic.clone(),
            false => format!("pg_catalog.textsend({}::text)", c.topic),
        },
        event_type = c.event_type,
        key = c.key,
        payload = size(payload),
        sizes = format_args!("{} + {}", size(key), size(headers)),
        created_at = c.created_at,
        from = table.quoted,
        id = c.id,
    );
    let kinds = format!(
        "SELECT topic, event_type, count(*) FILTER (WHERE keyless) AS keyless, max(size) AS largest \
         FROM ({first}) r GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let times = format!(
        "SELECT count(*) FILTER (WHERE created_at > pg_catalog.clock_timestamp() + interval '1 minute') AS future, \
         pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - min(created_at) FILTER (WHERE pg_catalog.isfinite(created_at))) AS oldest, \
         (SELECT pg_catalog.max({id}) FROM {from}) AS highest FROM ({first}) r",
        id = c.id,
        from = table.quoted,
    );
    session
        .reading(async |session| {
            let kinds = session.rows(&kinds, |q| q).await?;
            let times = session.one(&times, |q| q).await?;
            Ok(Sample {
                kinds,
                from_the_future: times.try_get("future")?,
                oldest_seconds: times.try_get("oldest")?,
                highest_id: times.try_get("highest")?,
            })
        })
        .await
}

/// Returns the age of the oldest dead letter in seconds, if the role may read it.
pub(crate) async fn oldest_letter(session: &mut Session, table: &Table) -> Result<Option<f64>> {
    const MAY: &str = "SELECT count(*) = 3 AND coalesce(bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')), false) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = pg_catalog.to_regclass('doorbell.dead') AND a.attname IN ('outbox', 'retried_at', 'created_at')";
    const OLDEST: &str = "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - min(created_at)) FROM doorbell.dead \
        WHERE outbox = $1 AND retried_at IS NULL AND pg_catalog.isfinite(created_at)";
    let outbox = table.quoted.clone();
    session
        .reading(async |session| {
            if !session.value::<bool>(MAY, |q| q).await? {
                return Ok(None);
            }
            session.value(OLDEST, |q| q.bind(outbox)).await
        })
        .await
}

#[derive(Debug)]
pub(crate) struct DeadReason {
    pub code: String,
    pub topic: Option<String>,
    pub rows: i64,
}

from_row! { DeadReason: code topic rows }

/// Returns why rows became dead letters, the most frequent reason first. Returns none if the role
/// may not read them.
pub(crate) async fn dead_reasons(session: &mut Session, table: &Table) -> Result<Vec<DeadReason>> {
    const MAY: &str = "SELECT coalesce(bool_and(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')), false) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = pg_catalog.to_regclass('doorbell.dead') AND a.attname IN ('outbox', 'retried_at', 'code', 'routed_to')";
    const REASONS: &str = "SELECT code, routed_to AS topic, count(*) AS rows FROM doorbell.dead WHERE outbox = $1 AND retried_at IS NULL \
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 3";
    let outbox = table.quoted.clone();
    session
        .reading(async |session| {
            if !session.value::<bool>(MAY, |q| q).await? {
                return Ok(Vec::new());
            }
            session.rows(REASONS, |q| q.bind(outbox)).await
        })
        .await
}
