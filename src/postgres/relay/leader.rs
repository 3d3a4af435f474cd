//! The session that holds the leader's lock, and what only the leader may write.

use rustc_hash::FxHashMap;

use super::crash_counter::{CrashCount, CrashCounter};
use super::dead_letter_writer::{DeadLetterWriter, Parked, RejectedRow};
use super::deleter::{Commit, Deleted, Deleter};
use super::receipts::{ReceiptPosition, ReceiptStatements};
use crate::event::{OutboxId, RowId};
use crate::postgres::error::Result;
use crate::postgres::inspect::lock_holders::{LeaderFigures, leader_name};
use crate::postgres::session::Session;
use crate::postgres::table::Table;
use crate::postgres::wire::Timestamp;

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
    shown: LeaderFigures,
    outbox: OutboxId,
    key_column: Option<String>,
    /// What `doorbell.held` has of this outbox; `None`: what an earlier leader left there.
    recorded: Option<FxHashMap<RowId, bool>>,
}

impl Leader {
    /// Takes over a session that was granted the leader's lock.
    pub(crate) async fn new(mut session: Session, table: &Table) -> Result<Self> {
        session.batch(LEADER_SETTINGS).await?;
        // A delete that must be on disk when it returns sets this for itself.
        session.batch("SET synchronous_commit = off").await?;
        let receipts = ReceiptStatements::of(table.id);
        Ok(Self {
            session,
            deleter: Deleter::of(table, &receipts),
            receipts,
            dead_letters: DeadLetterWriter::of(table),
            crashes: CrashCounter::of(table),
            shown: LeaderFigures::default(),
            outbox: table.id,
            key_column: table.columns.key_column.clone(),
            recorded: None,
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

    /// Whether rows are deleted from now on that earlier deletes left.
    pub(crate) fn retries(&mut self, retries: bool) {
        self.deleter.retries = retries;
    }

    /// Publishes figures in the session's name, for `doorbell status`.
    pub(crate) async fn publish(&mut self, figures: LeaderFigures) -> Result<()> {
        if self.shown == figures {
            return Ok(());
        }
        let name = leader_name(figures);
        const NAME: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";
        self.session.one(NAME, |q| q.bind(name)).await?;
        self.shown = figures;
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

    /// Records which refused rows hold others back: those of their key (`true`), or of their topic.
    /// Writes what has changed. Returns `false` if the schema is of an earlier version, or the role
    /// may not write it.
    pub(crate) async fn record_held(&mut self, held: FxHashMap<RowId, bool>) -> Result<bool> {
        const MAY: &str = "SELECT coalesce(bool_and(pg_catalog.has_table_privilege(pg_catalog.to_regclass('doorbell.held')::oid, p)), false) \
            FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p";
        const CLEAR: &str = "DELETE FROM doorbell.held h WHERE h.outbox = $1::text::uuid";
        const RECORD: &str = "WITH gone AS (DELETE FROM doorbell.held h \
            USING ROWS FROM (unnest($2::bigint[]), unnest($3::timestamptz[])) AS g (id, at) \
            WHERE h.outbox = $1::text::uuid AND h.row_id = g.id AND h.created_at = g.at) \
            INSERT INTO doorbell.held (outbox, row_id, created_at, key_column) \
            SELECT $1::text::uuid, n.id, n.at, CASE WHEN n.is_of_key THEN $7::text END \
            FROM ROWS FROM (unnest($4::bigint[]), unnest($5::timestamptz[]), unnest($6::bool[])) AS n (id, at, is_of_key) \
            ON CONFLICT (outbox, row_id, created_at) DO UPDATE SET key_column = excluded.key_column";
        let session = &mut self.session;
        if !session.value::<bool>(MAY, |q| q).await? {
            self.recorded = None;
            return Ok(false);
        }
        let outbox = self.outbox.0.to_string();
        if self.recorded.is_none() {
            session.run(CLEAR, |q| q.bind(&outbox)).await?;
        }
        let known = self.recorded.get_or_insert_default();
        let gone = known.keys().filter(|row| !held.contains_key(row));
        let (gone, gone_at) = parameters(gone.copied());
        let new = held
            .iter()
            .filter(|(row, kind)| known.get(row) != Some(kind));
        let (new, kinds): (Vec<RowId>, Vec<bool>) = new.unzip();
        let (new, new_at) = parameters(new.into_iter());
        if !gone.is_empty() || !new.is_empty() {
            let key = self.key_column.as_deref();
            let work = session.run(RECORD, |q| {
                let q = q.bind(&outbox).bind(gone).bind(gone_at);
                q.bind(new).bind(new_at).bind(kinds).bind(key)
            });
            work.await?;
        }
        self.recorded = Some(held);
        Ok(true)
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

/// Returns ids and times of rows, as parameters have them.
fn parameters(rows: impl Iterator<Item = RowId>) -> (Vec<i64>, Vec<Timestamp>) {
    rows.map(|row| (row.id, Timestamp(row.created_at))).unzip()
}
