//! The wait for the answer to a statement: for how long, and what for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::error::{Error, Result};
use super::server::{CONNECT_DEADLINE, Server};

/// A statement that takes longer has lost its server, which ends each statement of the relay after
/// 30 s. The relay's statements take milliseconds; a fetch of very large rows from a slow disk may
/// take seconds.
pub(super) const STATEMENT_DEADLINE: Duration = Duration::from_secs(35);
/// A statement of a patient session that works for longer is cancelled.
const LONGEST_WORK: Duration = Duration::from_secs(30);
/// A patient session that gets no answer looks this often what the server does.
const LOOK: Duration = Duration::from_secs(5);
/// The answer to a statement that was cancelled comes within this time.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// What the server does for a session: whether it waits for a lock, and the words for it.
const WORK: &str = "SELECT wait_event_type IS NOT DISTINCT FROM 'Lock', CASE WHEN wait_event_type = 'Lock' THEN \
    coalesce((SELECT pg_catalog.string_agg(pg_catalog.format('server process %s, role %I, application_name %L', b.pid, b.usename, b.application_name), '; ') \
        FROM pg_catalog.pg_stat_activity b WHERE b.pid OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(a.pid))), 'a prepared transaction') \
    ELSE 'it passes dead rows that vacuum cannot remove yet' END \
    FROM pg_catalog.pg_stat_activity a WHERE a.pid OPERATOR(pg_catalog.=) {pid} AND a.state = 'active'";

/// Is told which session holds a lock that a statement waits for, and `None` once it has got it.
pub(crate) type TellsBlocker = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// Waits for the answers to the statements of a session.
pub(super) struct Waiter {
    pub(super) server: Server,
    pub(super) pid: i32,
    /// For a patient session, which waits as long as another session holds the lock it needs.
    pub(super) blocker: Option<TellsBlocker>,
}

impl Waiter {
    /// Waits for an answer.
    pub(super) async fn answer<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, impl Into<Error>>>,
    ) -> Result<T> {
        match &self.blocker {
            None => within(STATEMENT_DEADLINE, work).await,
            Some(tell) => self.patiently(tell, LONGEST_WORK, work).await,
        }
    }

    /// Waits for an answer as long as the server works on it.
    pub(super) async fn answer_at_last<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, impl Into<Error>>>,
    ) -> Result<T> {
        match &self.blocker {
            None => within(STATEMENT_DEADLINE, work).await,
            Some(tell) => self.patiently(tell, Duration::MAX, work).await,
        }
    }

    /// Cancels the statement of the session, on another one. If that fails, the server ends it when
    /// it finds the connection closed.
    pub(super) async fn cancel(&self) {
        let sql = format!("SELECT pg_catalog.pg_cancel_backend({})", self.pid);
        Box::pin(self.ask("cancel", &sql)).await.ok();
    }

    /// Another session may hold the table locked for hours: this one is not lost by that, and
    /// neither is what is known of the rows in flight.
    async fn patiently<T>(
        &self,
        tell: &TellsBlocker,
        longest: Duration,
        work: impl Future<Output = std::result::Result<T, impl Into<Error>>>,
    ) -> Result<T> {
        let mut work = pin!(work);
        let (mut since, mut is_blocked, mut is_told) = (Instant::now(), false, false);
        loop {
            if let Ok(answer) = timeout(LOOK, work.as_mut()).await {
                if is_blocked {
                    tell(None);
                }
                return answer.map_err(Into::into);
            }
            let look = WORK.replace("{pid}", &self.pid.to_string());
            let row = match Box::pin(self.ask("look", &look)).await {
                Ok(Some(row)) => row,
                // The answer may be under way, or the server have no session left for the look.
                _ if since.elapsed() < STATEMENT_DEADLINE => continue,
                Ok(None) => return Err(Error::Lost("the server does not work on it".into())),
                Err(error) => return Err(error),
            };
            let (waits, words): (bool, String) = (row.try_get(0)?, row.try_get(1)?);
            if waits {
                since = Instant::now();
                tell(Some(&words));
                if !std::mem::replace(&mut is_blocked, true) {
                    warn!(
                        holder = words,
                        "another session holds the table locked; waiting for its end"
                    );
                }
            } else if since.elapsed() >= longest {
                self.cancel().await;
                return within(CANCEL_GRACE, work).await;
            } else if since.elapsed() >= LONGEST_WORK && !std::mem::replace(&mut is_told, true) {
                warn!(
                    reason = words,
                    "the next row is not found within 30 s; still waiting"
                );
            }
        }
    }

    /// Runs a statement on a connection of its own. Returns its first row.
    async fn ask(&self, purpose: &str, sql: &str) -> Result<Option<PgRow>> {
        let options = self.server.options(purpose);
        let asked = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let sql = sqlx::raw_sql(AssertSqlSafe(sql));
            connection.fetch_optional(sql).await
        };
        within(CONNECT_DEADLINE, asked).await
    }
}

pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = std::result::Result<T, impl Into<Error>>>,
) -> Result<T> {
    match timeout(deadline, work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Error::Lost(format!(
            "no answer within {} s",
            deadline.as_secs()
        ))),
    }
}
