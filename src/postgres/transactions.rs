//! Transactions of a session. A command waits for a lock for a bounded time, and says whose it is.

use sqlx::Row;

use super::error::{Error, Result};
use super::session::{PINNED, Session};

/// A command waits for the lock of another session for a bounded time, and then says whose it is.
const LOCK_BOUND: &str = "SELECT pg_catalog.set_config('lock_timeout', '10s', true) WHERE pg_catalog.current_setting('lock_timeout') = '0'";

/// Sessions that hold a lock on a table that keeps writers, or all, out: on an outbox or a table of
/// the schema `doorbell` if there are any, else on any table.
const BLOCKERS: &str = "SELECT coalesce(pg_catalog.string_agg(b.words, '; ') FILTER (WHERE b.is_ours), pg_catalog.string_agg(b.words, '; ')) FROM (\
    SELECT (c.relnamespace = pg_catalog.to_regnamespace('doorbell') OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'doorbell_ring')) AS is_ours, \
    pg_catalog.format('%s on %s is held by ', l.mode, l.relation::regclass) \
    || CASE WHEN l.pid IS NULL THEN 'a prepared transaction, see pg_prepared_xacts' \
    ELSE pg_catalog.format('server process %s, role %I, application_name %L', l.pid, a.usename, a.application_name) END AS words \
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
    WHERE l.locktype = 'relation' AND l.granted AND l.relation >= 16384 AND (l.pid IS NULL OR a.pid IS NOT NULL) \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) b";

impl Session {
    async fn begin(&mut self, begin: &str) -> Result<()> {
        self.is_pinned = true;
        let bound = if self.is_configured { "" } else { LOCK_BOUND };
        self.batch(&format!("{begin}; {PINNED}{bound}")).await
    }

    /// Adds to a failure to get a lock who holds it.
    async fn blocked(&mut self, error: Error) -> Error {
        match (error, self.one_plain(BLOCKERS).await) {
            (Error::Statement { code, message }, Ok(row)) if code == "55P03" => {
                let blockers: Option<String> = row.try_get(0).unwrap_or_default();
                let message = match blockers {
                    Some(it) => format!(
                        "{message}: {it}; wait for its end, or end it with pg_terminate_backend or ROLLBACK PREPARED"
                    ),
                    None => message,
                };
                Error::Statement { code, message }
            }
            (error, _) => error,
        }
    }

    async fn end(&mut self, end: &str) -> Result<()> {
        self.is_pinned = self.is_configured;
        self.batch(end).await
    }

    /// Runs statements in one read-only transaction. A pooler lends one session for all of it.
    pub async fn reading<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.begin(self.read_only).await?;
        let done = work(self).await;
        let ended = self.end("ROLLBACK").await;
        match done.and_then(|value| ended.map(|()| value)) {
            Err(error) if error.is_lock_timeout() => Err(self.blocked(error).await),
            done => done,
        }
    }

    /// Runs statements in one transaction. A pooler lends one session for all of it. If a statement
    /// fails, nothing is changed.
    pub async fn writing<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        // default_transaction_read_only may be on.
        self.begin("BEGIN READ WRITE").await?;
        match work(self).await {
            Ok(value) => self.end("COMMIT").await.map(|()| value),
            Err(error) => {
                // The failure is what counts. A lost session has rolled back by itself.
                self.end("ROLLBACK").await.ok();
                match error.is_lock_timeout() {
                    true => Err(self.blocked(error).await),
                    false => Err(error),
                }
            }
        }
    }
}
