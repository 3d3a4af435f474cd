//! `doorbell receipts`.

use clap::Subcommand;

use super::failure::Outcome;
use crate::config::Settings;
use crate::postgres::{self, Server, Session, Table};

/// What is done with receipts.
#[derive(Debug, Subcommand)]
pub(super) enum ReceiptsCommand {
    /// Go on although receipts and database do not belong together: after a restored backup, a failover that lost transactions, or a topic that was
    /// deleted. The rows that the last receipt names are deleted, the others are sent: some perhaps a second time
    Accept,
}

/// Has the relay of each configured table go on.
pub(super) fn receipts(settings: &Settings, command: &ReceiptsCommand) -> Outcome {
    let ReceiptsCommand::Accept = command;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, "receipts").await?;
        for outbox in &settings.outboxes {
            let table = Table::find(&mut session, &outbox.table, &outbox.columns).await?;
            postgres::accept(&mut session, &table).await?;
            println!(
                "{}: the relay goes on with the receipts that are there",
                table.quoted
            );
        }
        Ok(())
    })
}
