//! Runs what a command asks of the database.

use tokio::runtime::{Builder, Runtime};

use super::exit::Failure;
use crate::config::{Outbox, Settings};
use crate::postgres::{Server, Session};

/// Runs the work on this thread, with a session of its own.
pub(crate) fn with_session<T>(
    settings: &Settings,
    purpose: &str,
    work: impl AsyncFnOnce(Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    runtime()?.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        work(Session::open(&server, purpose).await?).await
    })
}

/// Makes a runtime that runs on this thread.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Returns the outbox of a command that works on one.
pub(crate) fn the_outbox(settings: &Settings) -> Result<&Outbox, Failure> {
    if let [outbox] = settings.outboxes.as_slice() {
        return Ok(outbox);
    }
    let names = settings.outboxes.iter().map(|it| it.table.to_string());
    let names: Vec<_> = names.collect();
    Err(Failure::Usage(format!(
        "several outboxes are configured: choose one of {} with --table",
        names.join(", ")
    )))
}
