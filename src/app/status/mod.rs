//! `doorbell status`: how each configured outbox is, once or again and again.

mod snapshots;
mod text;
mod watch;

use std::io::Write;
use std::time::Duration;

use super::failure::Outcome;
use super::terminal;
use crate::config::Settings;
use crate::postgres::{self, Server, Session, Status, Table};

pub(super) use snapshots::held;
pub(super) use text::{age, described, end};
pub(super) use watch::interval;

/// Says how each configured outbox is.
pub(super) fn status(settings: &Settings, json: bool, every: Option<Duration>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(every) = every {
            return watch::watch(settings, json, every).await;
        }
        let all = Asking::new(settings).ask().await?;
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, &all)?;
            writeln!(out)?;
            return Ok(());
        }
        let blocks: String = all.iter().map(text::block).collect();
        terminal::write(&mut out, &blocks)?;
        Ok(())
    })
}

/// Asks again on the same session, and on a new one where that was lost.
struct Asking<'a> {
    settings: &'a Settings,
    session: Option<Session>,
}

impl<'a> Asking<'a> {
    fn new(settings: &'a Settings) -> Self {
        let session = None;
        Self { settings, session }
    }

    async fn ask(&mut self) -> postgres::Result<Vec<Status>> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let server = Server::find(&self.settings.database.url).await?;
                Session::open(&server, "status").await?
            }
        };
        let mut all = Vec::new();
        for outbox in &self.settings.outboxes {
            let table = Table::find_to_ask(&mut session, &outbox.table, &outbox.columns).await?;
            all.push(postgres::status(&mut session, &table).await?);
        }
        self.session = Some(session);
        Ok(all)
    }
}
