//! How often an outbox's relay was started without getting on, and which rows it was about to send then: what finds a row that ends the process.
//!
//! One statement at a start and one at an orderly end. Only where starts follow each other at one and the same row does the relay write down more.

use sqlx::Row;

use super::error::Result;
use super::session::Session;
use super::table::Table;

/// What is known at a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starts {
    /// Starts in a row that found the same first row, this one included.
    pub count: i64,
    /// The rows that were about to be sent when the last one that wrote them down ended.
    pub rows: Vec<i64>,
    /// How often in a row that was one and the same row alone.
    pub deaths: i64,
}

/// The statements of one outbox.
pub(super) struct Statements {
    begin: String,
    outbox: String,
}

impl Statements {
    pub(super) fn of(table: &Table) -> Self {
        let (id, from) = (&table.columns.id, &table.quoted);
        Self {
            begin: format!(
                "INSERT INTO doorbell.starts AS s (outbox, starts, first_row) \
                 VALUES ($1, 1, (SELECT {id} FROM {from} ORDER BY {id} LIMIT 1)) \
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

    /// Counts a start.
    pub(super) async fn begin(&self, session: &mut Session) -> Result<Starts> {
        let row = session.one(&self.begin, |q| q.bind(&self.outbox)).await?;
        Ok(Starts {
            count: row.try_get("starts")?,
            rows: row.try_get("rows")?,
            deaths: row.try_get("deaths")?,
        })
    }

    /// Writes down which rows are sent next.
    pub(super) async fn mark(&self, session: &mut Session, rows: &[i64]) -> Result<()> {
        const MARK: &str = "UPDATE doorbell.starts SET rows = $2 WHERE outbox = $1";
        let work = session.run(MARK, |q| q.bind(&self.outbox).bind(rows.to_vec()));
        work.await.map(drop)
    }

    /// The relay got on, or ended as it should.
    pub(super) async fn forget(&self, session: &mut Session) -> Result<()> {
        const FORGET: &str = "UPDATE doorbell.starts SET starts = 0, rows = NULL, last_rows = NULL, deaths = 0 WHERE outbox = $1";
        let work = session.run(FORGET, |q| q.bind(&self.outbox));
        work.await.map(drop)
    }
}

/// The process is still there long after it began to send these rows: they do not end it.
pub async fn survived(session: &mut Session, table: &Table) -> Result<()> {
    let sql = format!(
        "UPDATE doorbell.starts SET rows = NULL WHERE outbox = '{}'",
        table.quoted.replace('\'', "''")
    );
    session.batch(&sql).await
}
