//! Deletes of rows that Kafka has acknowledged.
//!
//! They run on the session that holds the leader's lock, so a deposed leader cannot delete.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use sqlx::Row;

use super::receipts::{ReceiptPosition, ReceiptStatements};
use crate::event::RowId;
use crate::postgres::error::{Error, Result};
use crate::postgres::session::{Query, Session};
use crate::postgres::table::Table;
use crate::postgres::wire::{Timestamp, row_id};

/// After rows went away without the relay, its deletes are transactions for this long, which are
/// rolled back where a trigger gives a row another time instead of deleting it.
const CAREFUL: Duration = Duration::from_secs(60);

/// When a delete counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// At once. The rows of a delete that a crash of the database forgets are sent a second time.
    Later,
    /// Once it is on disk, as the writers' commits are.
    Now,
    /// Once it is on disk, together with this position, which the same transaction records.
    WithReceipt(ReceiptPosition),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub rows: u64,
    /// Rows that are still in the table, ascending.
    pub left: Vec<LeftRow>,
}

/// A row that a delete left in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftRow {
    /// Identity of the row.
    pub row: RowId,
    /// Whether another session holds it locked. If not, a trigger, a rule or a policy of the table
    /// kept it.
    pub is_locked: bool,
}

/// The delete statements of one outbox. All of them take a row by its id and its time of creation,
/// exactly: an id can be given a second time, by TRUNCATE ... RESTART IDENTITY or where it is not
/// unique, and the later row may have the earlier time.
pub(crate) struct Deleter {
    delete: String,
    delete_waiting: String,
    delete_with_receipt: String,
    delete_unlocked: String,
    delete_unlocked_with_receipt: String,
    update_receipt: String,
    left: String,
    lock: String,
    of_same_ids: String,
    /// Whether a conditional rule of the table forbids WITH.
    is_ruled: bool,
    /// Whether rows are deleted that earlier deletes left, of which a trigger may change some.
    pub(super) retries: bool,
    careful_until: Option<Instant>,
}

impl Deleter {
    pub(crate) fn of(whole: &Table, receipts: &ReceiptStatements) -> Self {
        let (id, created_at, table) = (&whole.columns.id, &whole.columns.created_at, &whole.quoted);
        // The columns of the runs have names that no mapped column has: a mapped column may be an
        // expression and cannot be qualified. CASE keeps the subscript within the run whatever the
        // plan.
        const RUNS: &str = "(SELECT doorbell_low, doorbell_high, doorbell_first FROM ROWS FROM \
             (unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::int[])) \
             AS u (doorbell_low, doorbell_high, doorbell_first) OFFSET 0) doorbell_run";
        let within = format!(
            "{id} >= doorbell_low AND {id} <= doorbell_high AND CASE WHEN {id} >= doorbell_low AND {id} <= doorbell_high \
             THEN {created_at} = ($4::timestamptz[])[doorbell_first + ({id} - doorbell_low)::int] END"
        );
        let waits = "doorbell_commit AS MATERIALIZED (SELECT pg_catalog.set_config('synchronous_commit', 'on', true) AS doorbell_waits)";
        let delete_waiting = format!(
            "DELETE FROM {table} USING {RUNS}, doorbell_commit WHERE doorbell_waits = 'on' AND {within}"
        );
        const ASKED: &str = "(SELECT doorbell_id, doorbell_time FROM ROWS FROM (unnest($1::bigint[]), unnest($2::timestamptz[])) \
             AS u (doorbell_id, doorbell_time) OFFSET 0) doorbell_ask";
        let is_asked = format!("{id} = doorbell_id AND {created_at} = doorbell_time");
        let free = format!(
            "SELECT doorbell_id AS doorbell_row, doorbell_time AS doorbell_created FROM {table} doorbell_o, {ASKED} \
             WHERE {is_asked} FOR UPDATE OF doorbell_o SKIP LOCKED"
        );
        let delete_unlocked = format!(
            "DELETE FROM {table} USING ({free}) doorbell_free WHERE {id} = doorbell_row AND {created_at} = doorbell_created"
        );
        Self {
            delete: format!("DELETE FROM {table} USING {RUNS} WHERE {within}"),
            delete_with_receipt: format!(
                "WITH {waits}, {} {delete_waiting}",
                receipts.update("$5", "$6")
            ),
            delete_waiting: format!("WITH {waits} {delete_waiting}"),
            update_receipt: receipts.alone(),
            is_ruled: false,
            retries: false,
            careful_until: None,
            lock: format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"),
            of_same_ids: format!(
                "SELECT {id}, {created_at} FROM {table}, (SELECT doorbell_id FROM unnest($1::bigint[]) \
                 AS u (doorbell_id) OFFSET 0) doorbell_ask WHERE {id} = doorbell_id"
            ),
            delete_unlocked_with_receipt: format!(
                "WITH {} {delete_unlocked}",
                receipts.update("$3", "$4")
            ),
            delete_unlocked,
            left: format!(
                "WITH doorbell_free AS ({free}) SELECT doorbell_id, doorbell_time, \
                 (doorbell_id, doorbell_time) NOT IN (SELECT doorbell_row, doorbell_created FROM doorbell_free) \
                 FROM {table}, {ASKED} WHERE {is_asked} ORDER BY 1, 2"
            ),
        }
    }

    /// Deletes rows and sorts `rows`. Rows that stay in the table are reported.
    pub(crate) async fn delete(
        &mut self,
        session: &mut Session,
        rows: &mut [RowId],
        consecutive: bool,
        commit: Commit,
    ) -> Result<Deleted> {
        rows.sort_unstable();
        if self.is_ruled || self.retries || self.careful_until.is_some_and(|it| it > Instant::now())
        {
            return self.delete_in_transaction(session, rows, commit).await;
        }
        let runs = runs(rows, consecutive);
        let low: Vec<i64> = runs.iter().map(|run| run.low).collect();
        let high: Vec<i64> = runs.iter().map(|run| run.high).collect();
        let first: Vec<i32> = runs.iter().map(|run| run.first).collect();
        let (statement, receipt) = match commit {
            Commit::Later => (&self.delete, None),
            Commit::Now => (&self.delete_waiting, None),
            Commit::WithReceipt(receipt) => (&self.delete_with_receipt, Some(receipt)),
        };
        let deleted = session
            .run(statement, |q| {
                let q = q.bind(low).bind(high).bind(first).bind(times(rows));
                with_receipt(q, receipt)
            })
            .await;
        match deleted {
            Err(error) if error.is_unsupported() && commit != Commit::Later => {
                self.is_ruled = true;
                self.delete_in_transaction(session, rows, commit).await
            }
            Ok(deleted) => self.outcome(session, rows, deleted).await,
            Err(error) if error.is_lock_timeout() => {
                self.delete_unlocked(session, rows, receipt).await
            }
            Err(error) => Err(error),
        }
    }

    fn be_careful(&mut self) {
        self.careful_until = Some(Instant::now() + CAREFUL);
    }

    /// Deletes in a transaction of several statements, since a conditional rule of the table
    /// forbids WITH, or a trigger may change the rows instead.
    async fn delete_in_transaction(
        &mut self,
        session: &mut Session,
        rows: &[RowId],
        commit: Commit,
    ) -> Result<Deleted> {
        let deleted = session
            .writing(async |session| {
                if let Commit::WithReceipt(it) = commit {
                    let mark = session.run(&self.update_receipt, |q| with_receipt(q, Some(it)));
                    mark.await?;
                }
                if commit != Commit::Later {
                    session.batch("SET LOCAL synchronous_commit = on").await?;
                }
                // A session that reads first and then waits for the lock of a delete would be in
                // the way of one that holds that lock and asks for a stronger one, as TRUNCATE
                // does.
                session.batch(&self.lock).await?;
                let before = self.of_same_ids(session, rows).await?;
                let delete = &self.delete_unlocked;
                let deleted = session.run(delete, |q| q.bind(ids(rows)).bind(times(rows)));
                let deleted = deleted.await?;
                if deleted < rows.len() as u64
                    && !self.of_same_ids(session, rows).await?.is_subset(&before)
                {
                    return Err(Error::changed_by_trigger());
                }
                Ok(deleted)
            })
            .await;
        match deleted {
            Ok(deleted) => self.outcome(session, rows, deleted).await,
            Err(error) if error.is_lock_timeout() => Ok(all_locked(rows)),
            Err(error) => {
                if error.is_changed_by_trigger() {
                    self.be_careful();
                }
                Err(error)
            }
        }
    }

    /// The rows that have the ids of these.
    async fn of_same_ids(&self, session: &mut Session, rows: &[RowId]) -> Result<FxHashSet<RowId>> {
        let same = session.all(&self.of_same_ids, |q| q.bind(ids(rows)));
        same.await?.iter().map(row_id).collect()
    }

    /// Deletes those of the rows that no user has locked. The same transaction records `receipt`.
    async fn delete_unlocked(
        &mut self,
        session: &mut Session,
        rows: &[RowId],
        receipt: Option<ReceiptPosition>,
    ) -> Result<Deleted> {
        let statement = match receipt {
            None => &self.delete_unlocked,
            Some(_) => &self.delete_unlocked_with_receipt,
        };
        let deleted = session
            .run(statement, |q| {
                with_receipt(q.bind(ids(rows)).bind(times(rows)), receipt)
            })
            .await;
        match deleted {
            Ok(deleted) => self.outcome(session, rows, deleted).await,
            Err(error) if error.is_lock_timeout() => Ok(all_locked(rows)),
            Err(error) => Err(error),
        }
    }

    /// Looks for the rows that are left where fewer were deleted than asked for.
    async fn outcome(
        &mut self,
        session: &mut Session,
        rows: &[RowId],
        deleted: u64,
    ) -> Result<Deleted> {
        let mut outcome = Deleted {
            rows: deleted,
            left: Vec::new(),
        };
        if deleted < rows.len() as u64 {
            let left = session
                .all(&self.left, |q| q.bind(ids(rows)).bind(times(rows)))
                .await;
            for row in match left {
                Ok(left) => left,
                Err(error) if error.is_lock_timeout() => return Ok(all_locked(rows)),
                Err(error) => return Err(error),
            } {
                outcome.left.push(LeftRow {
                    row: row_id(&row)?,
                    is_locked: row.try_get(2)?,
                });
            }
            if deleted + (outcome.left.len() as u64) < rows.len() as u64 {
                self.be_careful();
            }
        }
        Ok(outcome)
    }
}

/// Binds the position that a statement records along with its delete.
fn with_receipt(query: Query<'_>, receipt: Option<ReceiptPosition>) -> Query<'_> {
    match receipt {
        Some(it) => query.bind(it.receipt).bind(it.deletes),
        None => query,
    }
}

/// Another session has locked the whole table.
fn all_locked(rows: &[RowId]) -> Deleted {
    let left = rows.iter().map(|row| LeftRow {
        row: *row,
        is_locked: true,
    });
    Deleted {
        rows: 0,
        left: left.collect(),
    }
}

fn ids(rows: &[RowId]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

fn times(rows: &[RowId]) -> Vec<Timestamp> {
    rows.iter().map(|row| Timestamp(row.created_at)).collect()
}

/// A run of consecutive ids to delete. It holds only ids that were fetched: any other may be a row
/// that commits late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdRun {
    low: i64,
    high: i64,
    /// The place of its first row among all rows, from 1.
    first: i32,
}

/// Joins sorted rows with consecutive ids. Where two rows may have the same id, each row is a run.
fn runs(rows: &[RowId], consecutive: bool) -> Vec<IdRun> {
    let mut runs: Vec<IdRun> = Vec::new();
    for (row, place) in rows.iter().zip(1..) {
        match runs.last_mut() {
            Some(run) if consecutive && run.high.checked_add(1) == Some(row.id) => {
                run.high = row.id;
            }
            _ => runs.push(IdRun {
                low: row.id,
                high: row.id,
                first: place,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_fetched_ids_only() {
        let rows = [(1, 10), (2, 30), (3, 20), (5, 10), (i64::MAX, 1)];
        let rows = rows.map(|(id, created_at)| RowId { id, created_at });
        let run = |low, high, first| IdRun { low, high, first };
        assert_eq!(
            runs(&rows, true),
            [run(1, 3, 1), run(5, 5, 4), run(i64::MAX, i64::MAX, 5)]
        );
        assert_eq!(runs(&rows, false).len(), 5);
        assert_eq!(runs(&[], true), []);
    }
}
