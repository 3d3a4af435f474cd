//! A connection of our own: found, set up, and watched.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::TryStreamExt;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgQueryResult, PgRow,
    PgSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

use super::error::{Error, Result};
use crate::config::DatabaseUrl;
use crate::tls;

/// A statement that takes longer has lost its server. Everything we ask is answered in milliseconds; a fetch of very large rows
/// from a slow disk may take seconds.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// An empty statement touches no disk and waits for no lock: whoever does not answer it is gone.
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// The oldest server that has what we use (`CREATE OR REPLACE TRIGGER`, `client_connection_check_interval`).
pub const OLDEST_SERVER: i32 = 140_000;

/// What each session sets for itself, whatever the role or the database prescribe. A session of ours is idle for hours and must stay;
/// and the *server* has to notice within about ten seconds that a machine vanished, since its session holds the leader's lock.
const SESSION_SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET idle_session_timeout = 0; SET client_connection_check_interval = '5s'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 10000; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; SET row_security = off";

/// A server that takes writes, found among the hosts of the URL.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
    shown: String,
    version: i32,
}

/// A server that answered, whatever it is good for.
pub struct Reached {
    /// The server.
    pub server: Server,
    /// Whether it is a standby, which takes no writes.
    pub is_standby: bool,
}

impl Server {
    /// Asks each of the hosts who it is.
    pub async fn each(url: &DatabaseUrl) -> Vec<Result<Reached>> {
        let mut all = Vec::new();
        for host in url.per_host() {
            all.push(Self::reach(&host).await);
        }
        all
    }

    /// `server_version_num`.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Tries the hosts in turn; the first that is not in recovery is it.
    pub async fn find(url: &DatabaseUrl) -> Result<Self> {
        let mut last = Error::refused(
            "DATABASE_URL names no host",
            "write postgres://user@host:5432/database",
        );
        for host in url.per_host() {
            match Self::probe(&host).await {
                Ok(server) => return Ok(server),
                // A standby beside a primary that is down: the primary's absence is the news.
                Err(error) if matches!(last, Error::Away { .. }) && error.is_permanent() => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn probe(url: &SecretString) -> Result<Self> {
        let Reached { server, is_standby } = Self::reach(url).await?;
        let shown = &server.shown;
        if server.version < OLDEST_SERVER {
            return Err(Error::refused(
                format!("PostgreSQL {shown} is version {}", server.version / 10_000),
                "Doorbell needs PostgreSQL 14 or newer",
            ));
        }
        if is_standby {
            return Err(Error::refused(
                format!("PostgreSQL {shown} is a standby server (in recovery)"),
                "name the primary in DATABASE_URL, or several hosts",
            ));
        }
        Ok(server)
    }

    async fn reach(url: &SecretString) -> Result<Reached> {
        let options: PgConnectOptions = url
            .expose_secret()
            .parse::<PgConnectOptions>()
            .map_err(|_| {
                Error::refused(
                    "DATABASE_URL cannot be read",
                    "write postgres://user@host:5432/database",
                )
            })?
            .disable_statement_logging();
        let options = verifying(options);
        let shown = format!("{}:{}", options.get_host(), options.get_port());
        let away = |reason: String| Error::Away {
            server: shown.clone(),
            reason,
        };
        let attempt = timeout(CONNECT_DEADLINE, PgConnection::connect_with(&options)).await;
        let mut connection = match attempt {
            Err(_) => {
                return Err(away(format!(
                    "no answer within {} s",
                    CONNECT_DEADLINE.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(connect_error(error, &options, &shown)),
            Ok(Ok(connection)) => connection,
        };
        let row = timeout(
            CONNECT_DEADLINE,
            connection.fetch_one("SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery()"),
        )
        .await
        .map_err(|_| away("no answer to the first statement".into()))??;
        let (version, is_standby) = (row.try_get(0)?, row.try_get(1)?);
        connection.close().await.ok();
        let server = Self {
            options,
            shown,
            version,
        };
        Ok(Reached { server, is_standby })
    }

    /// `host:port`.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// Whoever names certificates to trust means that they be looked at: as with libpq, `require` is `verify-ca` then. The driver would accept any.
fn verifying(options: PgConnectOptions) -> PgConnectOptions {
    let names_roots = options
        .to_url_lossy()
        .query_pairs()
        .any(|(key, _)| key == "sslrootcert");
    match options.get_ssl_mode() {
        PgSslMode::Require if names_roots => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    }
}

/// Failures of the connect phase that no waiting cures are told apart from those that pass.
fn connect_error(error: sqlx::Error, options: &PgConnectOptions, shown: &str) -> Error {
    let text = error.to_string();
    if let sqlx::Error::Io(io) = &error
        && let Some(why) = tls::distrust(io, "sslrootcert")
    {
        let problem = format!("TLS with PostgreSQL {shown} failed: {}", why.problem);
        return Error::refused(problem, why.remedy);
    }
    match error {
        // No connection over TCP ends like this: it is a file of certificates, named by a variable.
        sqlx::Error::Io(ref io)
            if matches!(io.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
                && options.get_socket().is_none() =>
        {
            Error::refused(
                format!("a file for TLS with PostgreSQL {shown} cannot be read: {io}"),
                "check sslrootcert, sslcert and sslkey, and PGSSLROOTCERT, PGSSLCERT and PGSSLKEY",
            )
        }
        sqlx::Error::Io(ref io)
            if text.contains("failed to lookup address")
                || text.contains("Name or service not known") =>
        {
            Error::refused(
                format!("the host of PostgreSQL {shown} cannot be resolved: {io}"),
                "check the host in DATABASE_URL",
            )
        }
        sqlx::Error::Tls(_) => Error::refused(
            format!("TLS with PostgreSQL {shown} failed: {text}"),
            "check sslmode and the certificates",
        ),
        sqlx::Error::Configuration(_) => Error::refused(
            format!("DATABASE_URL cannot be used: {text}"),
            "check its parameters",
        ),
        sqlx::Error::Database(_) => match Error::from(error) {
            Error::Lost(reason) => Error::Away {
                server: shown.to_owned(),
                reason,
            },
            Error::Statement { code, message } if code == "53300" => Error::Away {
                server: shown.to_owned(),
                reason: message,
            },
            other => other,
        },
        _ => Error::Away {
            server: shown.to_owned(),
            reason: text,
        },
    }
}

/// One connection. It is a listener, because only a listener can wait for what the server says unasked: a notification, or its end.
pub struct Session {
    inner: PgListener,
    pid: i32,
    version: i32,
    /// Until it is known to be ours alone, no statement stays prepared: behind a pooler it would on somebody else's session.
    settled: bool,
}

impl Session {
    /// Opens a connection that says in `pg_stat_activity` what it is for.
    pub async fn open(server: &Server, purpose: &str) -> Result<Self> {
        let options = server.options.clone().application_name(&format!(
            "doorbell {} {purpose} {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        ));
        // A pool of one: the listener wants a pool, and a shared one would get the session back with its locks.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(CONNECT_DEADLINE)
            .connect_lazy_with(options.clone());
        let mut inner = PgListener::connect_with(&pool)
            .await
            .map_err(|error| connect_error(error, &server.options, &server.shown))?;
        inner.eager_reconnect(false);
        inner.ignore_pool_close_event(true);
        let mut session = Self {
            inner,
            pid: 0,
            version: server.version,
            settled: false,
        };
        session.pid = session.current_pid().await?;
        Ok(session)
    }

    /// The server's process that answers now. Behind a pooler it may be another one each time.
    pub async fn current_pid(&mut self) -> Result<i32> {
        let row = self.one_plain("SELECT pg_catalog.pg_backend_pid()").await?;
        Ok(row.try_get(0)?)
    }

    /// Sets the session up to stay for long. Not part of opening it: behind a pooler the settings would stay on somebody else's session.
    pub async fn settle_in(&mut self) -> Result<()> {
        self.batch(SESSION_SETTINGS).await?;
        if self.version >= 170_000 {
            self.batch("SET transaction_timeout = 0").await?;
        }
        self.settled = true;
        Ok(())
    }

    /// Sets the session up for somebody who waits for an answer: what takes longer than this fails.
    pub async fn hurry(&mut self, longest: Duration) -> Result<()> {
        let longest = longest.as_millis();
        self.batch(&format!("SET statement_timeout = {longest}"))
            .await
    }

    /// The server's process for this session.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Runs statements without parameters; several at once make one transaction.
    pub async fn batch(&mut self, sql: &str) -> Result<()> {
        self.batch_within(STATEMENT_DEADLINE, sql).await
    }

    /// The same for statements that may wait.
    pub async fn batch_within(&mut self, deadline: Duration, sql: &str) -> Result<()> {
        let work = self.inner.execute(sqlx::raw_sql(AssertSqlSafe(sql)));
        within(deadline, work).await.map(drop)
    }

    /// Runs statements without parameters in one round trip, which no pooler can tear apart; the one row that they give.
    pub async fn one_plain(&mut self, sql: &str) -> Result<PgRow> {
        let work = self.inner.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql)));
        within(STATEMENT_DEADLINE, work).await
    }

    /// Runs a prepared statement and counts the rows it touched.
    pub async fn run(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<u64> {
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.settled);
        let work = self.inner.execute(bind(query));
        let result: PgQueryResult = within(STATEMENT_DEADLINE, work).await?;
        Ok(result.rows_affected())
    }

    /// Runs a prepared statement and takes all of its rows.
    pub async fn all(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<PgRow>> {
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.settled);
        let work = self.inner.fetch_all(bind(query));
        within(STATEMENT_DEADLINE, work).await
    }

    /// Runs a prepared statement and hands its rows over one by one, as they come.
    pub async fn each(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
        mut take: impl FnMut(PgRow) -> Result<()>,
    ) -> Result<()> {
        let mut rows = self.inner.fetch(bind(sqlx::query(AssertSqlSafe(sql))));
        let work = async {
            while let Some(row) = rows.try_next().await? {
                take(row)?;
            }
            Ok::<(), Error>(())
        };
        within(STATEMENT_DEADLINE, work).await
    }

    /// Runs a prepared statement that gives one row.
    pub async fn one(
        &mut self,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<PgRow> {
        self.one_within(STATEMENT_DEADLINE, sql, bind).await
    }

    /// The same for a statement that waits on purpose.
    pub async fn one_within(
        &mut self,
        deadline: Duration,
        sql: &str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<PgRow> {
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.settled);
        let work = self.inner.fetch_one(bind(query));
        within(deadline, work).await
    }

    /// Runs statements that only read in one transaction, for which a pooler lends one and the same session.
    pub async fn reading<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.batch("BEGIN READ ONLY").await?;
        let done = work(self).await;
        let ended = self.batch("ROLLBACK").await;
        done.and_then(|value| ended.map(|()| value))
    }

    /// Runs statements in one transaction, for which a pooler lends one and the same session; nothing is changed where one fails.
    pub async fn writing<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.batch("BEGIN").await?;
        match work(self).await {
            Ok(value) => self.batch("COMMIT").await.map(|()| value),
            Err(error) => {
                // What failed is the news; a lost session has rolled back by itself.
                self.batch("ROLLBACK").await.ok();
                Err(error)
            }
        }
    }

    /// Proves that the server still answers.
    pub async fn ping(&mut self) -> Result<()> {
        self.batch_within(PING_DEADLINE, "SELECT").await
    }

    /// Waits until the session is lost, and its locks with it. Safe to drop while it waits.
    pub async fn lost(&mut self) -> Error {
        loop {
            if let Err(error) = self.notified().await {
                return error;
            }
        }
    }

    /// Waits for notifications; whether one of them had a payload. Safe to drop while it waits.
    ///
    /// The library underneath would build a lost connection anew, without its locks; here any loss is an error, and the session is done.
    pub async fn notified(&mut self) -> Result<bool> {
        match self.inner.try_recv().await {
            Ok(Some(first)) => {
                let mut spoken = !first.payload().is_empty();
                // One look serves all that came together.
                while let Some(next) = self.inner.next_buffered() {
                    spoken |= !next.payload().is_empty();
                }
                Ok(spoken)
            }
            Ok(None) => Err(Error::Lost("the server closed it".into())),
            Err(error) => Err(Error::Lost(error.to_string())),
        }
    }
}

/// A prepared statement that waits for its parameters.
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

async fn within<T, E>(
    deadline: Duration,
    work: impl Future<Output = std::result::Result<T, E>>,
) -> Result<T>
where
    Error: From<E>,
{
    match timeout(deadline, work).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Lost(format!(
            "no answer within {} s",
            deadline.as_secs()
        ))),
    }
}
