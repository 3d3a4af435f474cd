//! The session that holds the leader's lock, and what only the leader may write.

use super::crash_counter::{CrashCount, CrashCounter};
use super::dead_letter_writer::{DeadLetterWriter, Parked, RejectedRow};
use super::deleter::{Commit, Deleted, Deleter};
use super::receipts::{ReceiptPosition, ReceiptStatements};
use crate::config::Route;
use crate::event::RowId;
use crate::postgres::error::Result;
use crate::postgres::inspect::lock_holders::leader_name;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// `lock_timeout` bounds how long a delete waits for a user's lock on a row. It is well below
/// PostgreSQL's `deadlock_timeout` (1 s): the relay gives up before PostgreSQL detects a deadlock,
/// so the victim is never the user's transaction.
const LEADER_SETTINGS: &str = "SET lock_timeout = '50ms'; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET jit = off";

pub(crate) struct Leader {
    /// The lock is lost with the session.
    pub session: Session,
    deleter: Deleter,
    receipts: ReceiptStatements,
    dead_letters: DeadLetterWriter,
    crashes: CrashCounter,
    /// What the session's name shows.
    shown: (usize, bool),
}

impl Leader {
    /// Takes over a session that was granted the leader's lock.
    pub(crate) async fn new(mut session: Session, table: &Table, route: &Route) -> Result<Self> {
        session.batch(LEADER_SETTINGS).await?;
        // A delete that must be on disk when it returns sets this for itself.
        session.batch("SET synchronous_commit = off").await?;
        let receipts = ReceiptStatements::of(table.id);
        Ok(Self {
            session,
            deleter: Deleter::of(table, &receipts),
            receipts,
            dead_letters: DeadLetterWriter::of(table, route),
            crashes: CrashCounter::of(table),
            shown: (0, true),
        })
    }

    /// Deletes rows and sorts `rows`. Rows that a user has locked stay, and are reported.
    /// `consecutive` says that no two rows have the same id.
    pub(crate) async fn delete(
        &mut self,
        rows: &mut [RowId],
        consecutive: bool,
        commit: Commit,
    ) -> Result<Deleted> {
        let session = &mut self.session;
        self.deleter
            .delete(session, rows, consecutive, commit)
            .await
    }

    /// Publishes in the session's name, for `doorbell status`, how many rows the table keeps, and
    /// whether a broker is reachable.
    pub(crate) async fn publish(&mut self, kept: usize, has_kafka: bool) -> Result<()> {
        if self.shown == (kept, has_kafka) {
            return Ok(());
        }
        let name = leader_name(kept, has_kafka);
        const NAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";
        self.session.one(NAME, |q| q.bind(name)).await?;
        self.shown = (kept, has_kafka);
        Ok(())
    }

    /// Makes every commit of this session wait for the disk.
    pub(crate) async fn commit_durably(&mut self) -> Result<()> {
        self.session.batch("SET synchronous_commit = on").await
    }

    /// Reads how far the database has come with the receipts, and whether the operator accepted the
    /// receipts in Kafka. `None`: the database has never recorded a receipt.
    pub(crate) async fn known_receipt(&mut self) -> Result<Option<(ReceiptPosition, bool)>> {
        self.receipts.read(&mut self.session).await
    }

    /// Records a position, and that there is nothing left to accept.
    pub(crate) async fn set_receipt_position(&mut self, position: ReceiptPosition) -> Result<()> {
        self.receipts.write(&mut self.session, position).await
    }

    /// Moves rejected rows to the dead letters in one statement.
    pub(crate) async fn park(&mut self, rows: &[RejectedRow]) -> Result<Parked> {
        self.dead_letters.park(&mut self.session, rows).await
    }

    /// Counts a start of the relay, once for each process.
    pub(crate) async fn count_start(&mut self) -> Result<CrashCount> {
        self.crashes.count_start(&mut self.session).await
    }

    pub(crate) async fn record_next_rows(&mut self, rows: &[i64]) -> Result<()> {
        self.crashes.record_next_rows(&mut self.session, rows).await
    }

    /// Resets the count of starts: the relay made progress, or stops in order.
    pub(crate) async fn reset_crash_count(&mut self) -> Result<()> {
        self.crashes.reset(&mut self.session).await
    }
}
