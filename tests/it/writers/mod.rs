//! What services at both ends of the topic use: the event store, the inbox of a consumer, where an
//! event is, and sending records again.

use std::future::Future;

use futures_util::future::join_all;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};

use crate::support::World;

mod events;
mod inbox;
mod pending;
mod replay;

/// Runs one future a session, all at the same time.
fn side_by_side<T, F: Future<Output = T>>(
    world: &World,
    sessions: usize,
    work: impl Fn(usize, PgConnection) -> F,
) -> Vec<T> {
    let sessions: Vec<PgConnection> = (0..sessions).map(|_| world.connect()).collect();
    let work = sessions.into_iter().enumerate().map(|(n, it)| work(n, it));
    world.block_on(join_all(work))
}

/// Runs a query and returns its rows.
async fn query(session: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).fetch_all(session).await
}

/// Returns the SQLSTATE of a failure.
fn sqlstate(error: &sqlx::Error) -> String {
    let server = error.as_database_error().expect("an error of the server");
    server.code().expect("a code").into_owned()
}

/// Runs statements that must fail with these SQLSTATEs.
fn assert_refused(world: &World, cases: &[(&str, &str)]) {
    let mut session = world.connect();
    for (sql, code) in cases {
        let error = world.try_sql_on(&mut session, sql).expect_err(sql);
        assert_eq!(sqlstate(&error), *code, "{sql}: {error}");
    }
}
