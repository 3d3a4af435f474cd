//! The session that listens for the trigger's notifications.

use std::time::Duration;

use sqlx::Row;
use tokio::time::timeout;

use super::registry::{self, RegistryEntry};
use crate::postgres::admin::held::{ASKS, HeldRow, answer};
use crate::postgres::error::{Error, Result};
use crate::postgres::inspect::lock_holders::leader_holders;
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// A notification of another session of the relay takes less than a millisecond. A server under
/// load may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ring {
    Rows,
    /// An operator paused the outbox or ended its pause: the relay must read the registry. There
    /// may be rows as well.
    PauseChanged,
    /// A command asks for the held rows, on this channel. There may be rows as well.
    HeldAsked(String),
}

pub(crate) struct Listener {
    /// To be pinged: a session that only listens would not notice a server that vanished.
    pub session: Session,
}

impl Listener {
    /// Starts to listen, and checks that notifications arrive: `other` notifies once.
    ///
    /// A pooler in transaction mode accepts LISTEN and silently loses every notification. The
    /// relay's locks and settings would stay on sessions that the pooler lends to other clients, so
    /// the relay locks and sets nothing before this check.
    pub(crate) async fn start(
        mut session: Session,
        other: &mut Session,
        table: &Table,
    ) -> Result<Self> {
        if !hears_itself(&mut session, other, &table.channel()).await? {
            return Err(pooler());
        }
        session.configure().await?;
        Ok(Self { session })
    }

    /// Waits for a ring. Cancel-safe.
    pub(crate) async fn rung(&mut self) -> Result<Ring> {
        // The trigger's payload is empty. A question that comes with others is asked again.
        let spoken = self.session.notified().await?;
        let asked = |it: &String| it.strip_prefix(ASKS).map(str::to_owned);
        Ok(match spoken.as_slice() {
            [] => Ring::Rows,
            [one] => asked(one).map_or(Ring::PauseChanged, Ring::HeldAsked),
            _ => Ring::PauseChanged,
        })
    }

    /// Answers who asked for the held rows.
    pub(crate) async fn answer(&mut self, to: &str, rows: &[HeldRow]) -> Result<()> {
        answer(&mut self.session, to, rows).await
    }

    /// Returns the name of a relay that waits for the leader's lock, if there is one.
    pub(crate) async fn waiting_relay(&mut self, table: &Table) -> Result<Option<String>> {
        let (_, standbys) = leader_holders(&mut self.session, table).await?;
        Ok(standbys.into_iter().next().map(|it| it.application))
    }

    /// Reads what the outbox's name stands for now, and whether it is paused.
    pub(crate) async fn entry(&mut self, table: &Table) -> Result<RegistryEntry> {
        registry::entry(&mut self.session, &table.quoted).await
    }
}

/// Returns whether a session that listens receives what another session notifies. It does not
/// through a pooler in transaction mode; then this leaves nothing behind on the pooler's sessions.
pub(crate) async fn hears_itself(
    session: &mut Session,
    other: &mut Session,
    channel: &str,
) -> Result<bool> {
    // An idle pooler answers both from the same session. This shows before anything is left on it.
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
        "the relay does not receive its own notifications: it is connected through a pooler in transaction mode",
        "give the relay a direct connection to PostgreSQL; writers may keep the pooler",
    )
}

/// Undoes LISTEN on the server process that accepted it. A busy pooler may take several attempts to
/// answer from that process.
async fn unlisten(session: &mut Session, listening: i32) -> Result<()> {
    const ATTEMPTS: usize = 1_000;
    for _ in 0..ATTEMPTS {
        let answered = session
            .one_plain("UNLISTEN *; SELECT pg_catalog.pg_backend_pid()")
            .await?;
        if answered.try_get::<i32, _>(0)? == listening {
            break;
        }
    }
    Ok(())
}
