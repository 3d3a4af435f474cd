//! The wake lock of an outbox: an advisory lock that the relay holds while it sleeps. A writer that
//! finds it free stays silent, and rings otherwise.

use std::time::Duration;

use crate::postgres::advisory_locks::BELL_CLASS;
use crate::postgres::error::Result;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// How long one wait for the lock lasts. It is shorter than PostgreSQL's `deadlock_timeout` (1 s),
/// after which the server would log the wait. While a wait lasts, it holds back xmin.
const WAIT: Duration = Duration::from_millis(900);

/// The session that holds the wake lock while the relay sleeps. It does nothing else: a session
/// that waits for a lock receives no notifications.
pub(crate) struct WakeLock {
    /// The lock is lost with the session.
    pub session: Session,
    oid: i32,
}

impl WakeLock {
    pub(crate) async fn new(mut session: Session, table: &Table) -> Result<Self> {
        session.configure().await?;
        let oid = table.oid as i32;
        Ok(Self { session, oid })
    }

    /// Takes the lock if it is free. Once it is granted, every silent writer has ended and its rows
    /// are visible.
    pub(crate) async fn try_lock(&mut self) -> Result<bool> {
        let (class, oid) = (BELL_CLASS, self.oid);
        let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";
        self.session.value(lock, |q| q.bind(class).bind(oid)).await
    }

    /// Waits for the lock for a bounded time. Meanwhile new writers are refused the lock, and ring.
    pub(crate) async fn wait(&mut self) -> Result<bool> {
        let (class, oid) = (BELL_CLASS, self.oid);
        let millis = WAIT.as_millis().to_string();
        let lock = "SELECT doorbell.lock_within($1, $2, ($3 || ' ms')::interval)";
        self.session
            .value(lock, |q| q.bind(class).bind(oid).bind(millis))
            .await
    }

    /// Releases the lock, however often it was taken. Does nothing if it is not held.
    pub(crate) async fn release(&mut self) -> Result<()> {
        self.session
            .run("SELECT pg_catalog.pg_advisory_unlock_all()", |q| q)
            .await
            .map(drop)
    }
}
