//! What the database knows of the receipts in Kafka: written with each delete of the mode exactly-once.

use sqlx::Row;

use super::error::Result;
use super::session::Session;
use super::table::Table;
use crate::event::OutboxId;

/// How far the database has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the last receipt whose rows were deleted.
    pub receipt: i64,
    /// How many deletes there were.
    pub deletes: i64,
}

/// The statements of one outbox.
pub(super) struct Statements {
    outbox: String,
}

impl Statements {
    pub(super) fn of(outbox: OutboxId) -> Self {
        let OutboxId(id) = outbox;
        Self {
            outbox: format!("'{id}'::pg_catalog.uuid"),
        }
    }

    /// A part of a statement that writes a mark along with what else it does.
    pub(super) fn beside(&self, receipt: &str, deletes: &str) -> String {
        format!(
            "doorbell_mark AS (UPDATE doorbell.receipt SET receipt = {receipt}::bigint, deletes = {deletes}::bigint WHERE outbox = {})",
            self.outbox
        )
    }

    /// The mark, and whether somebody has accepted that the receipts are others.
    pub(super) async fn read(&self, session: &mut Session) -> Result<Option<(Mark, bool)>> {
        let statement = format!(
            "SELECT receipt, deletes, accepted FROM doorbell.receipt WHERE outbox = {}",
            self.outbox
        );
        let rows = session.all(&statement, |q| q).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let mark = Mark {
            receipt: row.try_get(0)?,
            deletes: row.try_get(1)?,
        };
        Ok(Some((mark, row.try_get(2)?)))
    }

    pub(super) async fn write(&self, session: &mut Session, mark: Mark) -> Result<()> {
        let statement = format!(
            "INSERT INTO doorbell.receipt (outbox, receipt, deletes) VALUES ({}, $1, $2) \
             ON CONFLICT (outbox) DO UPDATE SET receipt = excluded.receipt, deletes = excluded.deletes, accepted = false",
            self.outbox
        );
        session
            .run(&statement, |q| q.bind(mark.receipt).bind(mark.deletes))
            .await?;
        Ok(())
    }
}

/// Has the relay go on with the receipts that are in Kafka, whatever the database knew.
pub async fn accept(session: &mut Session, table: &Table) -> Result<()> {
    let outbox = Statements::of(table.id).outbox;
    let statement = format!(
        "INSERT INTO doorbell.receipt (outbox, receipt, deletes, accepted) VALUES ({outbox}, 0, 0, true) \
         ON CONFLICT (outbox) DO UPDATE SET accepted = true"
    );
    session.run(&statement, |q| q).await?;
    Ok(())
}
