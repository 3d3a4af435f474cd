//! The next rows of an outbox, in the form and by the statement in which the relay fetches them.

use crate::event::RowId;
use crate::postgres::error::Result;
use crate::postgres::relay::batch::Batch;
use crate::postgres::relay::fetch_statement::{FetchStatements, READER_SETTINGS, fetch_statements};
use crate::postgres::session::Session;
use crate::postgres::table::Table;
use crate::postgres::wire::row_id;

/// Bytes of the rows of one statement.
const BYTES: usize = 8 << 20;

/// Reads an outbox in the order of ids, in read-only transactions and without a lock.
pub(crate) struct NextRows {
    statements: FetchStatements,
    /// The id from which on rows are still to be read. `None`: all are read.
    from: Option<i64>,
}

impl NextRows {
    /// Begins with the first row. Contents of a row of more than `largest` bytes are not read.
    pub(crate) fn of(table: &Table, largest: usize) -> Self {
        Self {
            statements: fetch_statements(table, largest),
            from: Some(i64::MIN),
        }
    }

    /// Returns the next rows, at most so many, and none at the end. A row that the server cannot
    /// send comes alone, without its contents.
    pub(crate) async fn read(&mut self, session: &mut Session, most: usize) -> Result<Batch> {
        let mut most = most;
        loop {
            let Some(from) = self.from else {
                return Ok(Batch::default());
            };
            let mut batch = Batch::default();
            match self.fetch(session, from, most, &mut batch).await {
                Ok(()) => {
                    batch.sort();
                }
                Err(error) if !error.may_be_a_row() => return Err(error),
                Err(_) if most > 1 => {
                    // The row at fault is the first of those that are left, or comes later.
                    most = 1;
                    continue;
                }
                Err(error) => {
                    batch = Batch::default();
                    if let Some(row) = self.first(session, from).await? {
                        batch.add_unreadable(row, error.to_string());
                    }
                }
            }
            self.from = batch.rows().last().and_then(|it| it.id.checked_add(1));
            return Ok(batch);
        }
    }

    async fn fetch(
        &self,
        session: &mut Session,
        from: i64,
        most: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        let statements = &self.statements;
        let take = |row| {
            batch.add(&row, &statements.sizes)?;
            Ok(batch.held() < 2 * BYTES)
        };
        let read = async |session: &mut Session| {
            // The reader's settings, for this transaction alone.
            let settings = READER_SETTINGS.replace("SET ", "SET LOCAL ");
            session.batch(&settings).await?;
            // The rows above an id, and in the gap that is this id.
            session
                .each(
                    &statements.due.all,
                    |q| {
                        let q = q.bind(from).bind(most as i64).bind(BYTES as i64);
                        q.bind(vec![from]).bind(vec![from])
                    },
                    take,
                )
                .await
        };
        session.reading(read).await
    }

    /// Returns the identity of the first row.
    async fn first(&self, session: &mut Session, from: i64) -> Result<Option<RowId>> {
        let sql = &self.statements.due.first;
        let read = async |session: &mut Session| {
            session
                .all(sql, |q| {
                    let q = q.bind(from).bind(1_i64).bind(1_i64);
                    q.bind(vec![from]).bind(vec![from])
                })
                .await
        };
        let rows = session.reading(read).await?;
        rows.first().map(row_id).transpose()
    }
}
