//! Bounds what pages ask of the database: one request at a time, and none for long. Their session
//! is kept for a few seconds, so that many requests open one, and an open page costs nothing.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::responses::HttpError;
use crate::config::{DatabaseUrl, Outbox, Settings};
use crate::postgres::{self, Error, Server, Session};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for which the session is kept after a request.
const KEPT: Duration = Duration::from_secs(5);

pub(super) struct DbGate {
    database: DatabaseUrl,
    pub(super) outboxes: Vec<Outbox>,
    permits: Semaphore,
    /// The session of the last request, and when it was used.
    kept: Mutex<Option<(Session, Instant)>>,
}

impl DbGate {
    /// `requests` may run or wait for the session, of all clients.
    pub(super) fn new(settings: &Settings, requests: usize) -> Self {
        Self {
            database: settings.database.url.clone(),
            outboxes: settings.outboxes.clone(),
            permits: Semaphore::new(requests),
            kept: Mutex::default(),
        }
    }

    /// Runs the work, unless too much is waiting already or it takes too long. A session whose
    /// request was given up is not used again.
    pub(super) async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> postgres::Result<T>,
    ) -> Result<T, HttpError> {
        let Ok(_permit) = self.permits.try_acquire() else {
            let message = "the database is busy with other requests of this page: try again";
            return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, message));
        };
        let whole = async {
            let mut kept = self.kept.lock().await;
            let mut session = self
                .session(kept.take().map(|(session, _)| session))
                .await?;
            let done = work(&mut session).await;
            if !matches!(done, Err(Error::Lost(_))) {
                *kept = Some((session, Instant::now()));
            }
            done
        };
        match timeout(REQUEST_TIMEOUT, whole).await {
            Ok(done) => done.map_err(HttpError::from),
            Err(_) => {
                let seconds = REQUEST_TIMEOUT.as_secs();
                let message = format!("PostgreSQL did not answer within {seconds} s: try again");
                Err(HttpError::new(StatusCode::GATEWAY_TIMEOUT, message))
            }
        }
    }

    /// Closes a session that was not used for a while.
    pub(super) fn close_unused(&self) {
        if let Ok(mut kept) = self.kept.try_lock() {
            kept.take_if(|(_, used)| used.elapsed() >= KEPT);
        }
    }

    async fn session(&self, kept: Option<Session>) -> postgres::Result<Session> {
        if let Some(mut session) = kept
            && session.ping().await.is_ok()
        {
            return Ok(session);
        }
        let server = Server::find(&self.database).await?;
        let mut session = Session::open(&server, "page").await?;
        session.limit_statements(STATEMENT_TIMEOUT).await?;
        Ok(session)
    }
}
