//! The advisory key K of an outbox: a relay that sleeps holds it, and a writer that finds it free stays silent.

use std::time::Duration;

use sqlx::Row;

use super::error::{Error, Result};
use super::session::Session;
use super::table::Table;

/// The class of K: the bytes of "bell". The second half of the key is the table's oid, wrapped to 32 bits. The trigger has the same number.
pub(super) const BELL_CLASS: i32 = 0x6265_6c6c;

/// How long one wait for K lasts. Shorter than PostgreSQL's `deadlock_timeout` (1 s), after which the server would log the wait; and while a wait lasts,
/// it pins xmin.
const WAIT: Duration = Duration::from_millis(900);

/// The session that holds K while the relay sleeps. It does nothing else: one that waits for a lock is deaf.
pub struct Key {
    session: Session,
    oid: i32,
}

impl Key {
    /// Takes a session over.
    pub async fn new(mut session: Session, table: &Table) -> Result<Self> {
        session.settle_in().await?;
        let oid = table.oid as i32;
        Ok(Self { session, oid })
    }

    /// Takes K if nobody has it. Granted means that every writer that was silent has ended: its rows are visible.
    pub async fn try_lock(&mut self) -> Result<bool> {
        let (class, oid) = (BELL_CLASS, self.oid);
        let row = self
            .session
            .one("SELECT pg_catalog.pg_try_advisory_lock($1, $2)", |q| {
                q.bind(class).bind(oid)
            })
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Waits for K, for a bounded time. While it waits, writers that come new are refused, and ring.
    pub async fn wait(&mut self) -> Result<bool> {
        let (class, oid) = (BELL_CLASS, self.oid);
        let millis = WAIT.as_millis().to_string();
        let row = self
            .session
            .one(
                "SELECT doorbell.lock_within($1, $2, ($3 || ' ms')::interval)",
                |q| q.bind(class).bind(oid).bind(millis),
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Gives K back, however often it was taken; nothing happens where it is not held.
    pub async fn release(&mut self) -> Result<()> {
        self.session
            .run("SELECT pg_catalog.pg_advisory_unlock_all()", |q| q)
            .await
            .map(drop)
    }

    /// Waits until the session is lost, and K with it. Safe to drop while it waits.
    pub async fn lost(&mut self) -> Error {
        self.session.lost().await
    }

    /// Proves that the session is alive.
    pub async fn ping(&mut self) -> Result<()> {
        self.session.ping().await
    }

    /// The server's process for this session.
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }
}
