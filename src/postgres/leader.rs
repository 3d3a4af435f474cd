//! The lock that makes one relay the leader of an outbox, and the deletes, which run on the session that holds it: a deposed leader
//! cannot delete.

use sqlx::Row;

use super::dead::{self, Convict, Parked};
use super::error::{Error, Result};
use super::marks::{self, Mark};
use super::session::Session;
use super::starts::{self, Starts};
use super::table::Table;
use crate::config::Route;

/// The class of the leader's advisory lock: the bytes of "door". The second half of the key is the table's oid, wrapped to 32 bits.
pub(super) const LEADER_CLASS: i32 = 0x646f_6f72;

/// How long a delete waits for a user's lock on a row. Well under PostgreSQL's `deadlock_timeout` (1 s): a deadlock with a user is
/// resolved by our giving up, never by the user's transaction being chosen as the victim.
const LEADER_SETTINGS: &str = "SET lock_timeout = '50ms'; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET jit = off";

/// When a delete counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// At once: one that a crash of the database forgets is a double.
    Later,
    /// When it is on the disk, as those of the writers are.
    Now,
    /// The same, and this is written down in the same transaction.
    Marked(Mark),
}

/// The session that holds the lock.
pub struct Leader {
    session: Session,
    statements: Statements,
    parking: dead::Parking,
    starts: starts::Statements,
}

struct Statements {
    delete: String,
    delete_waiting: String,
    delete_marked: String,
    delete_unlocked: String,
    delete_unlocked_marked: String,
    mark: marks::Statements,
    still_there: String,
}

impl Statements {
    fn of(whole: &Table) -> Self {
        let (id, created_at, table) = (&whole.columns.id, &whole.columns.created_at, &whole.quoted);
        // The columns of the runs have names that no mapped column has, since that may be an expression and cannot be qualified.
        // OFFSET 0 has the bound in time worked out once for a run, not once for each of its rows.
        let runs = format!(
            "(SELECT doorbell_low, doorbell_high, {} AS doorbell_until \
             FROM ROWS FROM (unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[])) \
             AS u (doorbell_low, doorbell_high, until) OFFSET 0) doorbell_run",
            time_of("until")
        );
        let within = format!(
            "{id} >= doorbell_low AND {id} <= doorbell_high AND {created_at} <= doorbell_until"
        );
        let mark = marks::Statements::of(whole.id);
        let waits = "doorbell_commit AS MATERIALIZED (SELECT pg_catalog.set_config('synchronous_commit', 'on', true) AS doorbell_waits)";
        let delete_waiting = format!(
            "DELETE FROM {table} USING {runs}, doorbell_commit WHERE doorbell_waits = 'on' AND {within}"
        );
        // The same guard as that of the runs: a row that came later under an id is another one.
        let asked = format!(
            "(SELECT doorbell_id, {} AS doorbell_until FROM ROWS FROM (unnest($1::bigint[]), unnest($2::bigint[])) \
             AS u (doorbell_id, until) OFFSET 0) doorbell_ask",
            time_of("until")
        );
        let is_asked = format!("{id} = doorbell_id AND {created_at} <= doorbell_until");
        let delete_unlocked = format!(
            "DELETE FROM {table} USING (SELECT {id} AS doorbell_row, doorbell_until AS doorbell_created FROM {table} doorbell_o, {asked} \
             WHERE {is_asked} FOR UPDATE OF doorbell_o SKIP LOCKED) doorbell_free WHERE {id} = doorbell_row AND {created_at} <= doorbell_created"
        );
        Self {
            delete: format!("DELETE FROM {table} USING {runs} WHERE {within}"),
            delete_marked: format!("WITH {waits}, {} {delete_waiting}", mark.beside("$4", "$5")),
            delete_waiting: format!("WITH {waits} {delete_waiting}"),
            delete_unlocked_marked: format!("WITH {} {delete_unlocked}", mark.beside("$3", "$4")),
            delete_unlocked,
            mark,
            still_there: format!(
                "SELECT {id} FROM {table}, {asked} WHERE {is_asked} ORDER BY {id}"
            ),
        }
    }
}

/// A row that Kafka has: its id, and when it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sent {
    /// The row's id.
    pub id: i64,
    /// Microseconds since the Unix epoch, as it was when the row was fetched.
    pub created_at: i64,
}

/// A run of consecutive ids to delete. Ids that were never fetched are in no run: one of them may be a row that commits late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first id.
    pub low: i64,
    /// The last id.
    pub high: i64,
    /// The latest creation among its rows. A row that came later under one of these ids (after TRUNCATE ... RESTART IDENTITY) is another one.
    pub until: i64,
}

/// What became of the rows of a delete.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Rows that went.
    pub rows: u64,
    /// Rows that a user holds locked: to be deleted later.
    pub locked: Vec<i64>,
}

impl Leader {
    /// Only for a session that was granted the lock.
    pub(super) async fn new(mut session: Session, table: &Table, route: &Route) -> Result<Self> {
        session.batch(LEADER_SETTINGS).await?;
        // A delete that is to count at once says so itself.
        session.batch("SET synchronous_commit = off").await?;
        Ok(Self {
            session,
            statements: Statements::of(table),
            parking: dead::Parking::of(table, route),
            starts: starts::Statements::of(table),
        })
    }

    /// Deletes rows; `sent` gets sorted. Rows that a user has locked are left out, all others go.
    pub async fn delete(
        &mut self,
        sent: &mut [Sent],
        consecutive: bool,
        commit: Commit,
    ) -> Result<Deleted> {
        sent.sort_unstable();
        let runs = runs(sent, consecutive);
        let low: Vec<i64> = runs.iter().map(|run| run.low).collect();
        let high: Vec<i64> = runs.iter().map(|run| run.high).collect();
        let until: Vec<i64> = runs.iter().map(|run| since_2000(run.until)).collect();
        let (statement, mark) = match commit {
            Commit::Later => (&self.statements.delete, None),
            Commit::Now => (&self.statements.delete_waiting, None),
            Commit::Marked(mark) => (&self.statements.delete_marked, Some(mark)),
        };
        let deleted = self
            .session
            .run(statement, |q| {
                let q = q.bind(low).bind(high).bind(until);
                match mark {
                    Some(mark) => q.bind(mark.receipt).bind(mark.deletes),
                    None => q,
                }
            })
            .await;
        match deleted {
            Ok(rows) => Ok(Deleted {
                rows,
                locked: Vec::new(),
            }),
            Err(error) if error.is_lock_timeout() => self.delete_unlocked(sent, mark).await,
            Err(error) => Err(error),
        }
    }

    /// Deletes those of the rows that nobody else has locked; with a mark it is written down in the same transaction.
    pub async fn delete_unlocked(&mut self, sent: &[Sent], mark: Option<Mark>) -> Result<Deleted> {
        let ids: Vec<i64> = sent.iter().map(|row| row.id).collect();
        let until: Vec<i64> = sent.iter().map(|row| since_2000(row.created_at)).collect();
        let statement = match mark {
            None => &self.statements.delete_unlocked,
            Some(_) => &self.statements.delete_unlocked_marked,
        };
        let deleted = self
            .session
            .run(statement, |q| {
                let q = q.bind(ids.clone()).bind(until.clone());
                match mark {
                    Some(Mark { receipt, deletes }) => q.bind(receipt).bind(deletes),
                    None => q,
                }
            })
            .await;
        let deleted = match deleted {
            // somebody locks the whole table
            Err(error) if error.is_lock_timeout() => {
                return Ok(Deleted {
                    rows: 0,
                    locked: ids,
                });
            }
            other => other?,
        };
        let left = self
            .session
            .all(&self.statements.still_there, |q| q.bind(ids).bind(until))
            .await?;
        Ok(Deleted {
            rows: deleted,
            locked: left
                .iter()
                .map(|row| row.try_get(0))
                .collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Has every commit of this session wait for the disk.
    pub async fn commit_durably(&mut self) -> Result<()> {
        self.session.batch("SET synchronous_commit = on").await
    }

    /// What the database knows of the receipts; `None` where it never heard of one.
    pub async fn known_receipt(&mut self) -> Result<Option<(Mark, bool)>> {
        self.statements.mark.read(&mut self.session).await
    }

    /// Writes that down anew, with nothing left to accept.
    pub async fn set_mark(&mut self, mark: Mark) -> Result<()> {
        self.statements.mark.write(&mut self.session, mark).await
    }

    /// Moves refused rows to the dead letters in one statement.
    pub async fn park(&mut self, convicts: &[Convict]) -> Result<Parked> {
        self.parking.park(&mut self.session, convicts).await
    }

    /// Counts a start of the relay: once for each process.
    pub async fn begin(&mut self) -> Result<Starts> {
        self.starts.begin(&mut self.session).await
    }

    /// Writes down which rows are sent next.
    pub async fn mark(&mut self, rows: &[i64]) -> Result<()> {
        self.starts.mark(&mut self.session, rows).await
    }

    /// The relay got on, or ends as it should: starts are counted anew.
    pub async fn forget(&mut self) -> Result<()> {
        self.starts.forget(&mut self.session).await
    }

    /// Waits until the session is lost, and with it the lock. Safe to drop while it waits.
    pub async fn deposed(&mut self) -> Error {
        self.session.lost().await
    }

    /// Proves that the session is alive.
    pub async fn ping(&mut self) -> Result<()> {
        self.session.ping().await
    }

    /// The server's process for this session.
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }
}

/// A time as PostgreSQL has it, of a column that counts microseconds since 2000.
pub(super) fn time_of(micros: &str) -> String {
    format!(
        "CASE WHEN {micros} = 9223372036854775807 THEN 'infinity' ELSE \
         '2000-01-01 00:00:00+00'::timestamptz + {micros} * interval '1 microsecond' END"
    )
}

/// PostgreSQL's microseconds; the year 2000 for what is older, which as an upper bound is as good.
pub(super) fn since_2000(unix: i64) -> i64 {
    const EPOCH_2000: i64 = 946_684_800_000_000;
    if unix == i64::MAX {
        unix
    } else {
        unix.saturating_sub(EPOCH_2000).max(0)
    }
}

/// Joins sorted rows with consecutive ids, or makes each a run of its own where an id may belong to two rows.
fn runs(sent: &[Sent], consecutive: bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in sent {
        match runs.last_mut() {
            Some(run) if consecutive && run.high.checked_add(1) == Some(row.id) => {
                run.high = row.id;
                run.until = run.until.max(row.created_at);
            }
            _ => runs.push(Run {
                low: row.id,
                high: row.id,
                until: row.created_at,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rows: &[(i64, i64)]) -> Vec<Sent> {
        rows.iter()
            .map(|&(id, created_at)| Sent { id, created_at })
            .collect()
    }

    #[test]
    fn runs_hold_fetched_ids_only_and_the_latest_time() {
        let rows = sent(&[(1, 10), (2, 30), (3, 20), (5, 10), (i64::MAX, 1)]);
        let run = |low, high, until| Run { low, high, until };
        assert_eq!(
            runs(&rows, true),
            [run(1, 3, 30), run(5, 5, 10), run(i64::MAX, i64::MAX, 1)]
        );
        assert_eq!(runs(&rows, false).len(), 5);
        assert_eq!(runs(&[], true), []);
    }

    #[test]
    fn times_before_2000_and_infinity_stay_usable_bounds() {
        assert_eq!(since_2000(i64::MAX), i64::MAX);
        assert_eq!(since_2000(i64::MIN), 0);
        assert_eq!(since_2000(946_684_800_000_001), 1);
    }
}
