//! The session that listens.

use std::time::Duration;

use sqlx::Row;
use tokio::time::timeout;

use super::error::{Error, Result};
use super::registry::{self, Entry};
use super::session::Session;
use super::table::Table;

/// A notification of a session beside us takes less than a millisecond; a server under load may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Somebody inserted.
    Rows,
    /// Somebody paused the outbox, or ended its pause: the registry is to be looked at. There may be rows as well.
    Flag,
}

/// Hears the trigger of one outbox.
pub struct Bell {
    session: Session,
}

impl Bell {
    /// Listens, and makes sure that it hears: `other` rings once, and the ring must arrive.
    ///
    /// A pooler in transaction mode takes LISTEN and loses every notification without a word, and locks and settings of ours would stay
    /// on sessions that it lends to others. Nothing of the sort is left behind: until here nothing was locked or set.
    pub async fn hang(mut session: Session, other: &mut Session, table: &Table) -> Result<Self> {
        if !hears_itself(&mut session, other, &table.channel()).await? {
            return Err(pooler());
        }
        session.settle_in().await?;
        Ok(Self { session })
    }

    /// Waits for a ring. Safe to drop while it waits.
    pub async fn rung(&mut self) -> Result<Ring> {
        // The trigger's payload is empty.
        Ok(match self.session.notified().await? {
            true => Ring::Flag,
            false => Ring::Rows,
        })
    }

    /// What the outbox's name stands for now, and whether it is paused.
    pub async fn entry(&mut self, table: &Table) -> Result<Entry> {
        registry::entry(&mut self.session, &table.quoted).await
    }

    /// Proves that the session is alive: one that only listens would not notice a server that vanished.
    pub async fn ping(&mut self) -> Result<()> {
        self.session.ping().await
    }

    /// The server's process for this session.
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }
}

/// Whether a session that listens hears what another one notifies: not through a pooler in transaction mode, where nothing of it is left behind.
pub async fn hears_itself(
    session: &mut Session,
    other: &mut Session,
    channel: &str,
) -> Result<bool> {
    // An idle pooler answers both from the same session: seen before anything is left on it.
    if session.current_pid().await? == other.current_pid().await? {
        return Ok(false);
    }
    let listening = format!("LISTEN \"{channel}\"; SELECT pg_catalog.pg_backend_pid()");
    let listening = session.one_plain(&listening).await?.try_get(0)?;
    other
        .batch(&format!("SELECT pg_catalog.pg_notify('{channel}', '')"))
        .await?;
    match timeout(PATIENCE, session.notified()).await {
        Ok(heard) => heard.map(|_| true),
        Err(_) => {
            unlisten(session, listening).await?;
            Ok(false)
        }
    }
}

fn pooler() -> Error {
    Error::refused(
        "the relay does not hear its own notifications: there is a pooler in transaction mode between",
        "give the relay a direct connection to PostgreSQL; writers may keep the pooler",
    )
}

/// Takes LISTEN back from the server's process that took it. A busy pooler may need some tries to answer from that one.
async fn unlisten(session: &mut Session, listening: i32) -> Result<()> {
    const TRIES: usize = 1_000;
    for _ in 0..TRIES {
        let answered = session
            .one_plain("UNLISTEN *; SELECT pg_catalog.pg_backend_pid()")
            .await?;
        if answered.try_get::<i32, _>(0)? == listening {
            break;
        }
    }
    Ok(())
}
