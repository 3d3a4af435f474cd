//! The database behind its servers, of which one takes writes.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::runtime::Runtime;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// Where the servers are, without a proxy between.
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
    /// A session with the server that takes writes, if one answers.
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

    /// Asks in a session of its own; `None`: nobody answers.
    pub(crate) fn ask(&self, sql: &str) -> Option<Vec<PgRow>> {
        runtime().block_on(async {
            let mut session = self.connect("chaos").await?;
            let work = session.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)));
            timeout(PATIENCE, work).await.ok()?.ok()
        })
    }

    /// The one number that a query gives.
    pub(crate) fn number(&self, sql: &str) -> Option<i64> {
        self.ask(sql)?.first()?.try_get(0).ok()
    }
}
