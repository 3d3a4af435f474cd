//! Queries the status of each configured outbox.

use crate::config::{Outbox, Settings};
use crate::describe::{described, end};
use crate::postgres::inspect::table_holders;
use crate::postgres::{self, Error, LONG_WAIT, Server, Session, Status, Table};

/// Queries the status, on the same session as before or on a new one if that was lost.
pub(super) async fn query(
    settings: &Settings,
    known: &mut Option<Session>,
) -> postgres::Result<Vec<Status>> {
    let mut session = match known.take() {
        Some(session) => session,
        None => Session::open(&Server::find(&settings.database.url).await?, "status").await?,
    };
    session.wait_briefly();
    let mut all = Vec::new();
    for outbox in &settings.outboxes {
        match of_outbox(&mut session, outbox).await {
            Ok(status) => all.push(status),
            Err(error) => return Err(locked(&mut session, outbox, error).await),
        }
    }
    *known = Some(session);
    Ok(all)
}

async fn of_outbox(session: &mut Session, outbox: &Outbox) -> postgres::Result<Status> {
    let table = Table::find_to_ask(session, outbox).await?;
    postgres::status(session, &table, LONG_WAIT).await
}

/// Names the session that holds the table, if a statement waited for it in vain.
async fn locked(session: &mut Session, outbox: &Outbox, error: Error) -> Error {
    let holders = match error.is_lock_timeout() {
        true => table_holders(session, &outbox.table).await,
        false => return error,
    };
    match holders.unwrap_or_default().first() {
        Some(holder) => {
            let problem = format!("table {} is locked by {}", outbox.table, described(holder));
            Error::refused(problem, format!("{} ends it", end(holder)))
        }
        None => error,
    }
}
