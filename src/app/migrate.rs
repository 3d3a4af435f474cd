//! `doorbell migrate`.

use std::io::Write;

use anyhow::Context;

use super::failure::Outcome;
use crate::config::Settings;
use crate::postgres::{self, Server, Session, Table};

/// Makes each configured table an outbox, or prints the SQL for it.
pub(super) fn migrate(settings: &Settings, dry_run: bool) -> Outcome {
    if dry_run {
        for outbox in &settings.outboxes {
            let sql = postgres::migration(&outbox.table);
            std::io::stdout().lock().write_all(sql.as_bytes())?;
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, "migrate").await?;
        for outbox in &settings.outboxes {
            let failed = || format!("failed to migrate table {}", outbox.table);
            postgres::migrate(&mut session, &outbox.table)
                .await
                .with_context(failed)?;
            // A table that was there before may lack what the relay needs: said now, not at the first run.
            let table = Table::find(&mut session, &outbox.table, &outbox.columns)
                .await
                .with_context(failed)?;
            writeln!(
                std::io::stdout(),
                "{} is an outbox; relay it with `doorbell run`",
                table.quoted
            )?;
        }
        Ok(())
    })
}
