//! How far the database has come with the receipts in Kafka. Each delete in the mode exactly-once
//! records it.

use sqlx::Row;

use crate::event::OutboxId;
use crate::postgres::error::Result;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReceiptPosition {
    /// Number of the last receipt whose rows were deleted.
    pub receipt: i64,
    /// Number of deletes made so far.
    pub deletes: i64,
}

pub(crate) struct ReceiptStatements {
    outbox: String,
}

impl ReceiptStatements {
    pub(crate) fn of(outbox: OutboxId) -> Self {
        let OutboxId(id) = outbox;
        Self {
            outbox: format!("'{id}'::pg_catalog.uuid"),
        }
    }

    /// Returns the part of a `WITH` list that records a position along with another statement.
    pub(crate) fn update(&self, receipt: &str, deletes: &str) -> String {
        format!("doorbell_mark AS ({})", self.updating(receipt, deletes))
    }

    /// Returns the statement that records a position by itself.
    pub(crate) fn alone(&self) -> String {
        self.updating("$1", "$2")
    }

    fn updating(&self, receipt: &str, deletes: &str) -> String {
        format!(
            "UPDATE doorbell.receipt SET receipt = {receipt}::bigint, deletes = {deletes}::bigint WHERE outbox = {}",
            self.outbox
        )
    }

    /// Reads the position, and whether the operator accepted that the receipts are others.
    pub(crate) async fn read(
        &self,
        session: &mut Session,
    ) -> Result<Option<(ReceiptPosition, bool)>> {
        let statement = format!(
            "SELECT receipt, deletes, accepted FROM doorbell.receipt WHERE outbox = {}",
            self.outbox
        );
        let rows = session.all(&statement, |q| q).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let position = ReceiptPosition {
            receipt: row.try_get(0)?,
            deletes: row.try_get(1)?,
        };
        Ok(Some((position, row.try_get(2)?)))
    }

    pub(crate) async fn write(&self, session: &mut Session, at: ReceiptPosition) -> Result<()> {
        let statement = format!(
            "INSERT INTO doorbell.receipt (outbox, receipt, deletes) VALUES ({}, $1, $2) \
             ON CONFLICT (outbox) DO UPDATE SET receipt = excluded.receipt, deletes = excluded.deletes, accepted = false",
            self.outbox
        );
        session
            .run(&statement, |q| q.bind(at.receipt).bind(at.deletes))
            .await?;
        Ok(())
    }
}

/// Makes the relay continue with the receipts in Kafka, whatever position the database has
/// recorded.
pub(crate) async fn accept(session: &mut Session, table: &Table) -> Result<()> {
    let outbox = ReceiptStatements::of(table.id).outbox;
    let statement = format!(
        "INSERT INTO doorbell.receipt (outbox, receipt, deletes, accepted) VALUES ({outbox}, 0, 0, true) \
         ON CONFLICT (outbox) DO UPDATE SET accepted = true"
    );
    session
        .writing(async |session| session.batch(&statement).await)
        .await
}
