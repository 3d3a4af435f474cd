//! A session: opened, configured, and watched.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgListener, PgPoolOptions, PgQueryResult, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor, FromRow, Row};
use tokio::time::timeout;

use super::error::{Error, Result};
use super::server::{CONNECT_DEADLINE, Server, connect_error};
use super::waiter::{STATEMENT_DEADLINE, TellsBlocker, Waiter, within};
use crate::config::TableName;

/// An empty statement touches no disk and waits for no lock, so a server that does not answer it is
/// unreachable.
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// What each session sets for itself, whatever the role or the database prescribes. A session of
/// the relay is idle for hours and must stay. And the *server* must notice within about ten seconds
/// that a machine vanished, because its session holds the leader's lock; a server on Windows cannot
/// check its connections, and has keepalives alone. And it must end what takes too long: a session
/// that the relay gave up would wait on, with its locks. (Of one that waits for locks, it notices
/// the closed connection.)
pub(super) const SESSION_SETTINGS: &str = "SET statement_timeout = 30000; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET idle_session_timeout = 0; \
    DO $$ BEGIN SET client_connection_check_interval = '5s'; EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 10000; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; SET row_security = off; \
    SET search_path = pg_catalog, pg_temp; SET quote_all_identifiers = off";

/// Begins a transaction or a round trip of a session that is not configured. Where others may
/// create objects in a schema of the `search_path`, a function or an operator of theirs would run
/// as our role. Identifiers are shown as the registry has them.
pub(super) const PINNED: &str =
    "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off; ";

/// A table as the session's own `search_path` finds it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub oid: u32,
    /// Quoted name with its schema, as in the registry.
    pub quoted: String,
    /// `relkind` in the catalogue.
    pub kind: String,
}

/// One connection. It is a `PgListener` because only that can wait for what the server sends
/// unasked: a notification, or the end of the session.
pub struct Session {
    inner: PgListener,
    waiter: Box<Waiter>,
    /// Whether the session is known to be the relay's alone. Before that no statement stays
    /// prepared: behind a pooler it would stay on another client's session.
    pub(super) is_configured: bool,
    /// Whether the `search_path` is ours for now.
    pub(super) is_pinned: bool,
    /// Begins a read-only transaction.
    pub(super) read_only: &'static str,
}

impl Session {
    /// Opens a connection whose `application_name` says what it is for.
    pub async fn open(server: &Server, purpose: &str) -> Result<Self> {
        // The listener needs a pool. It gets a pool of one: a shared pool would get the session
        // back with its locks.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(CONNECT_DEADLINE)
            .connect_lazy_with(server.options(purpose));
        let mut inner = match PgListener::connect_with(&pool).await {
            Ok(inner) => inner,
            // The pool tried again and again, and lost the server's words: ask for them.
            Err(sqlx::Error::PoolTimedOut) => {
                let asked = timeout(
                    CONNECT_DEADLINE,
                    PgConnection::connect_with(&server.options),
                );
                let error = asked.await.ok().and_then(std::result::Result::err);
                let error = error.unwrap_or(sqlx::Error::PoolTimedOut);
                return Err(connect_error(error, &server.options, &server.shown));
            }
            Err(error) => return Err(connect_error(error, &server.options, &server.shown)),
        };
        inner.eager_reconnect(false);
        inner.ignore_pool_close_event(true);
        let mut session = Self {
            inner,
            waiter: Box::new(Waiter {
                server: server.clone(),
                pid: 0,
                blocker: None,
            }),
            is_configured: false,
            is_pinned: false,
            read_only: "BEGIN READ ONLY",
        };
        session.waiter.pid = session.current_pid().await?;
        Ok(session)
    }

    /// Returns the server process that answers now. Behind a pooler it may differ each time.
    pub async fn current_pid(&mut self) -> Result<i32> {
        let row = self
            .one_unpinned("SELECT pg_catalog.pg_backend_pid()")
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Finds a table by the `search_path` of the role, the database or the connection: the only
    /// statement that runs with it.
    pub(crate) async fn place(&mut self, name: &TableName) -> Result<Option<Place>> {
        let name = literal(&name.to_string());
        let ask = format!(
            "{PINNED}SET LOCAL search_path TO DEFAULT; SELECT c.oid::pg_catalog.int8, \
             CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END, c.relkind::pg_catalog.text \
             FROM (SELECT pg_catalog.to_regclass({name})::pg_catalog.oid AS oid) named \
             LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) named.oid \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace; {PINNED}"
        );
        let row = self.one_unpinned(&ask).await?;
        let oid: Option<i64> = row.try_get(0)?;
        let place = |oid| {
            Ok(Place {
                oid: oid as u32,
                quoted: row.try_get(1)?,
                kind: row.try_get(2)?,
            })
        };
        oid.map(place).transpose()
    }

    /// Configures the session to stay for long. This is not part of opening it: behind a pooler the
    /// settings would stay on another client's session.
    pub async fn configure(&mut self) -> Result<()> {
        self.batch(SESSION_SETTINGS).await?;
        if self.waiter.server.version >= 170_000 {
            self.batch("SET transaction_timeout = 0").await?;
        }
        (self.is_configured, self.is_pinned) = (true, true);
        Ok(())
    }

    /// Limits each statement to a time. For a session whose user waits for the answer.
    pub async fn limit_statements(&mut self, longest: Duration) -> Result<()> {
        let longest = longest.as_millis();
        self.batch(&format!("SET statement_timeout = {longest}"))
            .await
    }

    /// Makes the session wait as long as another one holds a lock that it needs.
    pub(crate) async fn wait_for_locks(&mut self, blocker: TellsBlocker) -> Result<()> {
        self.waiter.blocker = Some(blocker);
        self.batch("SET statement_timeout = 0").await
    }

    /// Bounds how long statements of read-only transactions take, and wait for a lock. Nothing of
    /// it stays on a session that a pooler lends.
    pub(crate) fn wait_briefly(&mut self) {
        self.read_only =
            "BEGIN READ ONLY; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '20s'";
    }

    pub(crate) fn pid(&self) -> i32 {
        self.waiter.pid
    }

    /// Runs statements without parameters. Several at once form one transaction.
    pub async fn batch(&mut self, sql: &str) -> Result<()> {
        self.batch_within(STATEMENT_DEADLINE, sql).await
    }

    /// Runs statements that may wait, within a deadline.
    pub async fn batch_within(&mut self, deadline: Duration, sql: &str) -> Result<()> {
        let work = self.inner.execute(sqlx::raw_sql(AssertSqlSafe(sql)));
        within(deadline, work).await.map(drop)
    }

    /// Runs statements without parameters in one round trip, which no pooler can separate. Returns
    /// the one row that they give.
    pub async fn one_plain(&mut self, sql: &str) -> Result<PgRow> {
        self.one_unpinned(&format!("{PINNED}{sql}")).await
    }

    async fn one_unpinned(&mut self, sql: &str) -> Result<PgRow> {
        let work = self.inner.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql)));
        within(STATEMENT_DEADLINE, work).await
    }

    /// Runs a prepared statement and returns the number of rows it affected.
    pub async fn run(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<u64> {
        let query = self.prepared(sql);
        let work = self.inner.execute(bind(query));
        let result: PgQueryResult = self.waiter.answer(work).await?;
        Ok(result.rows_affected())
    }

    /// Runs a prepared statement and returns all of its rows.
    pub async fn all(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<PgRow>> {
        let query = self.prepared(sql);
        let work = self.inner.fetch_all(bind(query));
        self.waiter.answer(work).await
    }

    /// Runs a prepared statement and reads all of its rows.
    pub(crate) async fn rows<T: for<'r> FromRow<'r, PgRow>>(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<T>> {
        let rows = self.all(sql, bind).await?;
        rows.iter().map(|row| Ok(T::from_row(row)?)).collect()
    }

    /// Runs a prepared statement and returns all of its rows, however long that takes, as long as
    /// the server works on it.
    pub async fn all_patiently(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<PgRow>> {
        let query = self.prepared(sql);
        let work = self.inner.fetch_all(bind(query));
        self.waiter.answer_at_last(work).await
    }

    /// Runs a prepared statement and passes on its rows one by one, as they arrive, until `take`
    /// returns `false`. The statement is then cancelled.
    pub async fn each(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
        mut take: impl FnMut(PgRow) -> Result<bool>,
    ) -> Result<()> {
        let query = self.prepared(sql);
        let mut rows = self.inner.fetch(bind(query));
        let mut goes_on = true;
        let work = async {
            while let Some(row) = rows.try_next().await? {
                if goes_on && !take(row)? {
                    goes_on = false;
                    self.waiter.cancel().await;
                }
            }
            Ok::<(), Error>(())
        };
        match self.waiter.answer(work).await {
            Err(Error::Statement { .. }) if !goes_on => Ok(()),
            ended => ended,
        }
    }

    /// Runs a prepared statement that returns one row.
    pub async fn one(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<PgRow> {
        let query = self.prepared(sql);
        let work = self.inner.fetch_one(bind(query));
        self.waiter.answer(work).await
    }

    /// Runs a prepared statement and returns the first column of its one row.
    pub(crate) async fn value<T: Value>(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<T> {
        Ok(self.one(sql, bind).await?.try_get(0)?)
    }

    /// Runs a prepared statement and returns the first column of all of its rows.
    pub(crate) async fn values<T: Value>(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<T>> {
        let rows = self.all(sql, bind).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Runs a statement that waits on purpose, within a deadline. It returns one row.
    pub async fn one_within(
        &mut self,
        deadline: Duration,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<PgRow> {
        let query = self.prepared(sql);
        let work = self.inner.fetch_one(bind(query));
        within(deadline, work).await
    }

    fn prepared<'q>(&self, sql: &str) -> Query<'q> {
        debug_assert!(self.is_pinned, "{sql} runs with a search_path of others");
        sqlx::query(AssertSqlSafe(sql)).persistent(self.is_configured)
    }

    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.batch_within(PING_DEADLINE, "SELECT").await
    }

    /// Waits until the session is lost, and its locks with it. Cancel-safe.
    pub async fn lost(&mut self) -> Error {
        loop {
            if let Err(error) = self.notified().await {
                return error;
            }
        }
    }

    /// Waits for notifications, and returns their payloads, without empty ones. Cancel-safe.
    ///
    /// The library would rebuild a lost connection without its locks. Here any loss is an error,
    /// and the session is over.
    pub async fn notified(&mut self) -> Result<Vec<String>> {
        match self.inner.try_recv().await {
            Ok(Some(first)) => {
                let mut spoken = Vec::new();
                let mut next = Some(first);
                // One look answers all notifications that arrived together.
                while let Some(notification) = next {
                    if !notification.payload().is_empty() {
                        spoken.push(notification.payload().to_owned());
                    }
                    next = self.inner.next_buffered();
                }
                Ok(spoken)
            }
            Ok(None) => Err(Error::Lost("the server closed it".into())),
            Err(error) => Err(Error::Lost(error.to_string())),
        }
    }
}

/// Makes a struct readable from a row: the columns have the names of these fields, and those after
/// `;` are structs in the same row. (What sqlx derives would build all of sqlx a second time.)
macro_rules! from_row {
    ($type:ident: $($field:ident)* $(; $inner:ident)?) => {
        impl<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> for $type {
            fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                Ok(Self {
                    $($field: sqlx::Row::try_get(row, stringify!($field))?,)*
                    $($inner: sqlx::FromRow::from_row(row)?,)?
                })
            }
        }
    };
}
pub(super) use from_row;

pub(crate) trait Value:
    for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>
{
}

impl<T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>> Value for T {}

/// Returns an untyped literal, the one form of a value that fits columns of every type.
pub(super) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;
