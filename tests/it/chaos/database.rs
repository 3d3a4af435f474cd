//! The database behind its servers, of which one takes writes.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::runtime::Runtime;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// The outboxes of a run. Of the table `twins` two rows each share an id and lie in any partition;
/// a trigger of `kept` keeps every fourth row for a while; rows of another table reference some of
/// `cited`, until their writer deletes those.
pub(crate) const OUTBOXES: [&str; 4] = ["outbox", TWINS, "kept", CITED];
pub(crate) const TWINS: &str = "twins";
pub(crate) const CITED: &str = "cited";

/// What is made before the migration of each.
pub(crate) const BEFORE_MIGRATION: &str = "CREATE SEQUENCE twin_ids; \
     CREATE TABLE twins (id bigint NOT NULL, type text NOT NULL, payload text, \
         created_at timestamptz NOT NULL DEFAULT clock_timestamp(), key text, topic text, headers jsonb, \
         PRIMARY KEY (id, created_at)) PARTITION BY HASH (created_at); \
     CREATE TABLE twins_1 PARTITION OF twins FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
     CREATE TABLE twins_2 PARTITION OF twins FOR VALUES WITH (MODULUS 2, REMAINDER 1)";

/// What is made after it.
pub(crate) const AFTER_MIGRATION: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
         IF OLD.id % 4 = 0 AND clock_timestamp() < OLD.created_at + interval ''2 s'' THEN RETURN NULL; END IF; RETURN OLD; END'; \
     CREATE TRIGGER keep BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keep(); \
     CREATE TABLE citation (writer bigint NOT NULL, row bigint NOT NULL REFERENCES cited)";

/// Counts the rows of all outboxes.
pub(crate) const ROWS: &str = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM twins) \
     + (SELECT count(*) FROM kept) + (SELECT count(*) FROM cited)";

/// The addresses of the servers, without a proxy in between.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) urls: Vec<String>,
}

pub(crate) fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

impl Database {
    /// Opens a session with the server that takes writes, if one answers.
    pub(crate) async fn connect(&self, application: &str) -> Option<PgConnection> {
        for url in &self.urls {
            let options: PgConnectOptions = url.parse().expect("a database URL");
            let options = options
                .application_name(application)
                .disable_statement_logging();
            let attempt = async {
                let mut session = options.connect().await?;
                let row = session.fetch_one("SELECT pg_is_in_recovery()").await?;
                let is_standby: bool = row.try_get(0)?;
                Ok::<_, sqlx::Error>((!is_standby).then_some(session))
            };
            if let Ok(Ok(Some(session))) = timeout(PATIENCE, attempt).await {
                return Some(session);
            }
        }
        None
    }

    /// Runs a query in a session of its own; `None` if no server answers.
    pub(crate) fn ask(&self, sql: &str) -> Option<Vec<PgRow>> {
        runtime().block_on(async {
            let mut session = self.connect("chaos").await?;
            let work = session.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)));
            timeout(PATIENCE, work).await.ok()?.ok()
        })
    }

    /// Returns the one number that a query gives.
    pub(crate) fn number(&self, sql: &str) -> Option<i64> {
        self.ask(sql)?.first()?.try_get(0).ok()
    }
}
