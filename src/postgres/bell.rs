//! The session that listens.

use std::time::Duration;

use tokio::time::timeout;

use super::error::{Error, Result};
use super::session::Session;
use super::table::Table;

/// A notification of a session beside us takes less than a millisecond; a server under load may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let channel = table.channel();
        session.listen(&channel).await?;
        other
            .run("SELECT pg_catalog.pg_notify($1, '')", |q| q.bind(channel))
            .await?;
        match timeout(PATIENCE, session.notified()).await {
            Ok(heard) => heard?,
            Err(_) => {
                session.batch("UNLISTEN *").await?;
                return Err(Error::refused(
                    "the relay did not hear its own notification: there seems to be a pooler in transaction mode between",
                    "give the relay a direct connection to PostgreSQL; writers may keep the pooler",
                ));
            }
        }
        session.settle_in().await?;
        Ok(Self { session })
    }

    /// Waits for a ring. Safe to drop while it waits.
    pub async fn rung(&mut self) -> Result<()> {
        self.session.notified().await
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
