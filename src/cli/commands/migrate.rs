//! `doorbell migrate`.

use std::io::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::{the_outbox, with_session};
use crate::config::{Outbox, Settings};
use crate::postgres::inspect::of_table;
use crate::postgres::{self, Table};

#[derive(Debug, Args)]
pub(crate) struct MigrateFlags {
    /// Print SQL and change nothing: that of the migration, or of another file that comes with it
    #[arg(long, visible_alias = "print", value_name = "WHAT", num_args = 0..=1, default_missing_value = "outbox")]
    pub(crate) dry_run: Option<Script>,
    /// Print it without BEGIN and COMMIT, for a tool that runs it in a transaction of its own
    #[arg(long, requires = "dry_run")]
    no_transaction: bool,
    /// Take off again what the migration made; the table and its rows stay
    #[arg(long)]
    undo: bool,
}

/// A file of SQL.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Script {
    /// Table, trigger and schema of an outbox
    Outbox,
    /// Roles of writers, relays and operators, with the privileges that they need
    Roles,
    /// Ids of each key in the order of commits
    StrictOrder,
    /// Claims of a consumer: each event takes effect once
    Inbox,
    /// An event store that sends its events through the outbox
    Events,
}

impl Script {
    fn sql(self, settings: &Settings, undo: bool) -> Result<String, Failure> {
        let each = |sql: fn(&Outbox) -> String| settings.outboxes.iter().map(sql).collect();
        Ok(match self {
            Self::Outbox if undo => each(|it| postgres::undoing(&it.table)),
            _ if undo => {
                let message = "--undo prints the SQL of the migration alone: leave out its name";
                return Err(Failure::Usage(message.into()));
            }
            Self::Outbox => each(|it| postgres::migration(&it.table)),
            Self::Roles => each(postgres::roles),
            Self::StrictOrder => each(|it| postgres::strict_order(&it.table, &it.columns)),
            Self::Inbox => postgres::INBOX.to_owned(),
            Self::Events => postgres::events(&the_outbox(settings)?.table),
        })
    }
}

/// Makes each configured table an outbox, or a plain table again, or prints the SQL for it.
pub(crate) fn migrate(settings: &Settings, flags: &MigrateFlags) -> Outcome {
    let mut out = std::io::stdout();
    if let Some(script) = flags.dry_run {
        let sql = script.sql(settings, flags.undo)?;
        let mut sql = match flags.no_transaction {
            false => sql,
            true => postgres::without_transaction(&sql),
        };
        if matches!(script, Script::Outbox) && !flags.undo {
            let of = |it| postgres::due_index_script(it, flags.no_transaction);
            sql.extend(settings.outboxes.iter().map(of));
        }
        out.write_all(sql.as_bytes())?;
        return Ok(());
    }
    with_session(settings, "migrate", async |mut session| {
        if flags.undo {
            for outbox in &settings.outboxes {
                let failed = || format!("failed to undo the migration of table {}", outbox.table);
                let undone = postgres::undo(&mut session, &outbox.table);
                undone.await.with_context(failed)?;
                writeln!(out, "{} is no outbox any more", outbox.table)?;
            }
            return Ok(());
        }
        let failed = |table| move || format!("failed to migrate table {table}");
        // Nothing is changed if one of the tables cannot be an outbox.
        for outbox in &settings.outboxes {
            let suits = Table::examine(&mut session, outbox);
            suits.await.with_context(failed(&outbox.table))?;
        }
        for outbox in &settings.outboxes {
            let table = postgres::migrate(&mut session, outbox);
            let table = table.await.with_context(failed(&outbox.table))?;
            let (quoted, columns) = (table.quoted, &outbox.columns);
            let hazards = session
                .reading(async |session| of_table(session, table.oid, outbox).await)
                .await?;
            for it in hazards.iter().filter(|it| it.kind == "local-time") {
                eprintln!(
                    "doorbell: the relay reads {}, which has no time zone, as UTC, and the TimeZone is another for {}: set it to UTC there, or: {}",
                    columns.created_at.as_deref().unwrap_or_default(),
                    it.names.join(", "),
                    it.remedies.join("; ")
                );
            }
            writeln!(out, "{quoted} is an outbox; relay it with `doorbell run`")?;
        }
        for it in postgres::vanished(&mut session).await? {
            eprintln!("doorbell: {}", stands_for_none(&it));
        }
        Ok(())
    })
}

/// Says what can be done about the name of an outbox whose table is gone.
fn stands_for_none(it: &postgres::Vanished) -> String {
    let (gone, name) = (&it.name, postgres::literal(&it.name));
    let says = format!("{gone} in doorbell.outbox stands for no table");
    let Some(later) = &it.later else {
        return format!(
            "{says}; if it was dropped for good: DELETE FROM doorbell.outbox WHERE name = {name}"
        );
    };
    let new = postgres::literal(later);
    format!(
        "{says}; if {later} is that table under a new name, give it its identity back, so that its events keep their ids: \
         DELETE FROM doorbell.outbox WHERE name = {new}; UPDATE doorbell.outbox SET name = {new} WHERE name = {name}; or else DELETE FROM doorbell.outbox WHERE name = {name}"
    )
}
