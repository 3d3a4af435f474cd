//! What the server counted: statements of a role, and what it runs.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row;

use super::error::{Error, Result};
use super::scratch::Scratch;
use super::table::quote;

/// How the server counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Each statement of our role in this database.
    PgStatStatements,
    /// Transactions of everybody in this database: the extension is not there.
    PgStatDatabase,
}

/// Counts since the server began to count.
#[derive(Debug, Clone)]
pub struct Activity {
    /// Who counted.
    pub source: Source,
    /// The statement, or `transactions`, and how often.
    pub counts: BTreeMap<String, i64>,
}

/// How the server is set up, as far as it bears on the figures.
#[derive(Debug, Clone, Serialize)]
pub struct ServerFacts {
    /// The server's version.
    pub version: String,
    /// Whether a commit waits for the disk.
    pub synchronous_commit: String,
    /// Whether anything waits for the disk.
    pub fsync: String,
}

/// Marks our own questions, which are not what is asked for.
const OWN: &str = "doorbell_bench_asks";

impl Scratch {
    /// What the server has counted so far.
    pub async fn activity(&mut self) -> Result<Activity> {
        let extension = format!(
            "SELECT n.nspname::text AS {OWN} FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
             WHERE e.extname = 'pg_stat_statements'"
        );
        if let Some(row) = self.session().all(&extension, |q| q).await?.first() {
            let schema: String = row.try_get(0)?;
            match self.statements(&quote(&schema)).await {
                // Installed, but not loaded by the server, or not for us to read.
                Err(Error::Statement { .. } | Error::Refused { .. }) => {}
                counted => return counted,
            }
        }
        let transactions = "SELECT xact_commit + xact_rollback FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()";
        let row = self.session().one(transactions, |q| q).await?;
        Ok(Activity {
            source: Source::PgStatDatabase,
            counts: BTreeMap::from([("transactions".to_owned(), row.try_get(0)?)]),
        })
    }

    async fn statements(&mut self, schema: &str) -> Result<Activity> {
        let ask = format!(
            "SELECT s.query, sum(s.calls)::bigint AS {OWN} FROM {schema}.pg_stat_statements s \
             WHERE s.userid = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) \
             AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) GROUP BY s.query"
        );
        let mut counts = BTreeMap::new();
        for row in self.session().all(&ask, |q| q).await? {
            let query: String = row.try_get(0)?;
            if !query.contains(OWN) {
                counts.insert(query, row.try_get(1)?);
            }
        }
        Ok(Activity {
            source: Source::PgStatStatements,
            counts,
        })
    }

    /// What the server is.
    pub async fn server_facts(&mut self) -> Result<ServerFacts> {
        let ask = "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('synchronous_commit'), \
            pg_catalog.current_setting('fsync')";
        let row = self.session().one(ask, |q| q).await?;
        Ok(ServerFacts {
            version: row.try_get(0)?,
            synchronous_commit: row.try_get(1)?,
            fsync: row.try_get(2)?,
        })
    }
}

impl Activity {
    /// What was counted since `before`, the most frequent first.
    pub fn since(&self, before: &Self) -> Vec<(String, i64)> {
        let more = |(name, count): (&String, &i64)| {
            let more = count - before.counts.get(name).copied().unwrap_or(0);
            (more > 0).then(|| (name.clone(), more))
        };
        let mut counted: Vec<_> = self.counts.iter().filter_map(more).collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counted
    }
}
