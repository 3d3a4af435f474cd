//! What only the database knows, asked because somebody opened a page or pressed a button: few at a time, and none for long. Each has a session of its own
//! that ends with the answer, so a page that is only open costs nothing.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answers::Trouble;
use crate::config::{DatabaseUrl, Outbox, Settings};
use crate::postgres::{self, Letters, Server, Session};

/// Sessions at the same time, whoever asks.
const AT_ONCE: usize = 2;
/// What a statement may take: a page is not the place for more.
const STATEMENT: Duration = Duration::from_secs(15);
/// What all of it may take.
const WHOLE: Duration = Duration::from_secs(20);

/// Where the database is asked.
pub(super) struct Desk {
    database: DatabaseUrl,
    pub(super) outboxes: Vec<Outbox>,
    room: Semaphore,
}

impl Desk {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            database: settings.database.url.clone(),
            outboxes: settings.outboxes.clone(),
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// Does it, if there is room, and not for longer than somebody waits.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = postgres::Result<T>>,
    ) -> Result<T, Trouble> {
        let Ok(_permit) = self.room.try_acquire() else {
            let words = "the database is being asked for others: try again";
            return Err(Trouble::new(StatusCode::SERVICE_UNAVAILABLE, words));
        };
        match timeout(WHOLE, work).await {
            Ok(done) => done.map_err(Trouble::from),
            Err(_) => {
                let words = format!("PostgreSQL did not answer within {} s", WHOLE.as_secs());
                Err(Trouble::new(StatusCode::GATEWAY_TIMEOUT, words))
            }
        }
    }

    pub(super) async fn session(&self) -> postgres::Result<Session> {
        let server = Server::find(&self.database).await?;
        let mut session = Session::open(&server, "page").await?;
        session.hurry(STATEMENT).await?;
        Ok(session)
    }

    pub(super) async fn letters(&self) -> postgres::Result<Letters> {
        Letters::of(self.session().await?, &self.outboxes).await
    }
}
