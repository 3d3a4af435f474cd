//! Runs the statements that adopt a table, without making writers wait for long.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::adoptable::AdoptableTable;
use super::steps::{AdoptStep, Waits};
use crate::postgres::error::{Error, Result};
use crate::postgres::session::Session;
use crate::postgres::waiter::TellsBlocker;

/// Writers wait behind a statement that waits for a strong lock, so it waits no longer than this.
pub(crate) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";

/// Attempts to get a lock, with pauses that grow up to the longest: about a minute in all.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// From then on, and each time after as long, the operator is told whom the statement waits for.
const TELL: Duration = Duration::from_secs(5);
/// None of the statements of a transaction works for long once it has its lock.
const DEADLINE: Duration = Duration::from_secs(35);

/// The oldest transactions that hold a lock on the table.
const HOLDERS: &str = "SELECT pg_catalog.string_agg(words, '; ') FROM (SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction, see pg_prepared_xacts' \
    ELSE pg_catalog.format('server process %s, role %I, application_name %L', l.pid, a.usename, a.application_name) END AS words \
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'relation' AND l.granted AND l.relation = {oid} AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    GROUP BY l.pid, a.usename, a.application_name, a.xact_start ORDER BY a.xact_start NULLS FIRST LIMIT 3) h";

/// Prepares a session for the statements.
pub(crate) async fn prepare(session: &mut Session, tell: TellsBlocker) -> Result<()> {
    session.configure().await?;
    session.wait_for_locks(tell).await
}

/// Runs a step. If it fails, what the steps before it made stays, and a later run goes on there.
pub(crate) async fn apply(
    session: &mut Session,
    table: &AdoptableTable,
    step: &AdoptStep,
    tell: &TellsBlocker,
) -> Result<()> {
    let sql = step.sql.join("; ");
    match step.waits {
        Waits::Briefly => briefly(session, table, &sql, tell).await,
        Waits::AsLongAsNeeded => session.all_patiently(&sql, |q| q).await.map(drop),
    }
}

async fn briefly(
    session: &mut Session,
    table: &AdoptableTable,
    sql: &str,
    tell: &TellsBlocker,
) -> Result<()> {
    let batch = format!("{LOCK_TIMEOUT}; {sql}");
    let (mut told, mut is_blocked) = (Instant::now(), false);
    for attempt in 1..=ATTEMPTS {
        match session.batch_within(DEADLINE, &batch).await {
            Err(error) if error.is_lock_timeout() || error.is_deadlock() => {}
            done => {
                if is_blocked {
                    tell(None);
                }
                return done;
            }
        }
        if told.elapsed() >= TELL {
            tell(Some(&holders(session, table).await?));
            (told, is_blocked) = (Instant::now(), true);
        }
        sleep((PAUSE * attempt).min(LONGEST_PAUSE)).await;
    }
    Err(Error::refused(
        format!(
            "no lock on {}, which {} uses",
            table.quoted,
            holders(session, table).await?
        ),
        "wait for its end, or end it with pg_terminate_backend or ROLLBACK PREPARED, and run this again",
    ))
}

async fn holders(session: &mut Session, table: &AdoptableTable) -> Result<String> {
    let sql = HOLDERS.replace("{oid}", &table.oid.to_string());
    let row = session.value::<Option<String>>(&sql, |q| q).await?;
    Ok(row.unwrap_or_else(|| "a transaction that has just ended".into()))
}
