//! Counts starts of an outbox's relay that made no progress, and records which rows it was about to
//! send. This is how the relay finds a row that ends the process.
//!
//! It costs one statement at a start and one at an orderly stop. The relay records rows only when
//! several starts in a row found the same first row.

use std::sync::LazyLock;

use sqlx::Row;

use crate::postgres::error::Result;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// The id below which no row was when the relay last looked. A schema of an earlier version does
/// not have it.
const LOWEST_ROW: &str = "coalesce((SELECT (pg_catalog.to_jsonb(p) ->> 'lowest_row')::bigint FROM doorbell.starts p WHERE p.outbox = $1), \
    '-9223372036854775808'::bigint)";

/// That id, and how many dead rows the relations `$2` have.
pub(super) static BEGINNING: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {LOWEST_ROW}, (SELECT coalesce(sum(pg_catalog.pg_stat_get_dead_tuples(r)), 0)::bigint \
         FROM pg_catalog.unnest($2::bigint[]::oid[]) r)"
    )
});

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CrashCount {
    /// Starts in a row that found the same first row, including this one.
    pub count: i64,
    /// The rows that were about to be sent when the last process that recorded any ended.
    pub rows: Vec<i64>,
    /// How often in a row these were one row alone, and the same one.
    pub crashes: i64,
}

pub(crate) struct CrashCounter {
    count_start: String,
    outbox: String,
}

impl CrashCounter {
    pub(crate) fn of(table: &Table) -> Self {
        let (c, id, from) = (&table.columns, &table.columns.id, &table.quoted);
        let undelayed = c.undelayed();
        let mut first = format!(
            "(SELECT {id} FROM {from} WHERE {id} >= {LOWEST_ROW}{undelayed} ORDER BY {id} LIMIT 1)"
        );
        if let Some((time, due)) = c.not_before.as_ref().zip(c.came_due()) {
            first = format!(
                "coalesce((SELECT {id} FROM {from} WHERE {due} ORDER BY {time}, {id} LIMIT 1), {first})"
            );
        }
        Self {
            count_start: format!(
                "INSERT INTO doorbell.starts AS s (outbox, starts, first_row) \
                 VALUES ($1, 1, {first}) \
                 ON CONFLICT (outbox) DO UPDATE SET \
                 starts = CASE WHEN excluded.first_row IS NULL THEN 0 \
                     WHEN s.starts >= 3 OR s.first_row = excluded.first_row THEN s.starts + 1 ELSE 1 END, \
                 first_row = excluded.first_row, last_rows = coalesce(s.rows, s.last_rows), rows = NULL, \
                 deaths = CASE WHEN s.rows IS NULL THEN s.deaths WHEN cardinality(s.rows) > 1 THEN 0 \
                     WHEN s.rows = s.last_rows THEN s.deaths + 1 ELSE 1 END \
                 RETURNING starts, coalesce(last_rows, '{{}}') AS rows, deaths"
            ),
            outbox: from.clone(),
        }
    }

    pub(crate) async fn count_start(&self, session: &mut Session) -> Result<CrashCount> {
        let row = session
            .one(&self.count_start, |q| q.bind(&self.outbox))
            .await?;
        Ok(CrashCount {
            count: row.try_get("starts")?,
            rows: row.try_get("rows")?,
            crashes: row.try_get("deaths")?,
        })
    }

    pub(crate) async fn record_next_rows(&self, session: &mut Session, rows: &[i64]) -> Result<()> {
        const RECORD: &str = "UPDATE doorbell.starts SET rows = $2 WHERE outbox = $1";
        let work = session.run(RECORD, |q| q.bind(&self.outbox).bind(rows.to_vec()));
        work.await.map(drop)
    }

    pub(crate) async fn reset(&self, session: &mut Session) -> Result<()> {
        const RESET: &str = "UPDATE doorbell.starts SET starts = 0, rows = NULL, last_rows = NULL, deaths = 0 WHERE outbox = $1";
        let work = session.run(RESET, |q| q.bind(&self.outbox));
        work.await.map(drop)
    }
}

/// Clears the recorded rows of a process that is still running long after it began to send them:
/// they do not end it.
pub(crate) async fn clear_recorded_rows(session: &mut Session, table: &Table) -> Result<()> {
    let sql = format!(
        "UPDATE doorbell.starts SET rows = NULL WHERE outbox = '{}'",
        table.quoted.replace('\'', "''")
    );
    session
        .writing(async |session| session.batch(&sql).await)
        .await
}

/// Records the id below which no row is.
pub(crate) async fn remember_lowest_row(
    session: &mut Session,
    quoted: &str,
    id: i64,
) -> Result<()> {
    const REMEMBER: &str = "UPDATE doorbell.starts SET lowest_row = $2 WHERE outbox = $1";
    let work = session.run(REMEMBER, |q| q.bind(quoted.to_owned()).bind(id));
    work.await.map(drop)
}
