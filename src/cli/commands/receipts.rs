//! `doorbell receipts`.

use clap::Subcommand;

use crate::cli::exit::Outcome;
use crate::cli::session::{the_outbox, with_session};
use crate::config::Settings;
use crate::postgres::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptsCommand {
    /// Continue although receipts and database do not match: after a restored backup, a failover
    /// that lost transactions, or a deleted topic. Rows that the last receipt names are deleted;
    /// the others are sent, some perhaps a second time
    Accept,
}

/// Lets the relay of the outbox continue. With several, the operator has to name it: to accept is
/// a decision about one.
pub(crate) fn receipts(settings: &Settings, command: &ReceiptsCommand) -> Outcome {
    let ReceiptsCommand::Accept = command;
    let outbox = the_outbox(settings)?;
    with_session(settings, "receipts", async |mut session| {
        let table = Table::find(&mut session, outbox).await?;
        postgres::accept(&mut session, &table).await?;
        println!(
            "{}: the relay continues with the receipts that exist",
            table.quoted
        );
        Ok(())
    })
}
