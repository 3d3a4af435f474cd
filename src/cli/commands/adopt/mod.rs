//! `doorbell adopt`: the table of another relay becomes one that this relay can serve.
//!
//! - `preset`: tables and records of other relays
//! - `connector`: the configuration of a Debezium connector
//! - `mapping`: what the columns become
//! - `plan`: what is printed

mod connector;
mod mapping;
mod plan;
mod preset;

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};
use clap::{Args, ValueHint};

use self::connector::Connector;
use self::mapping::Mapping;
use self::preset::Preset;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::config::{Settings, TableName};
use crate::postgres::{self, AdoptStep, AdoptableTable, Session, TellsBlocker};

#[derive(Debug, Args)]
pub(crate) struct AdoptFlags {
    /// The table, written as in SQL
    table: String,
    /// The relay whose table it is [default: recognised by the columns]
    #[arg(long, value_name = "RELAY", conflicts_with = "undo")]
    from: Option<Preset>,
    /// Translate this configuration of a Debezium connector, and name what cannot be kept
    #[arg(long, value_name = "FILE", conflicts_with = "undo", value_hint = ValueHint::FilePath)]
    connector: Option<PathBuf>,
    /// Run the SQL, without making writers wait
    #[arg(long)]
    apply: bool,
    /// Print the way back instead; with --apply, go it
    #[arg(long)]
    undo: bool,
}

/// Prints what adopts a table, or runs it.
pub(crate) fn adopt(settings: &Settings, flags: &AdoptFlags) -> Outcome {
    let name = TableName::parse(&flags.table)
        .map_err(|fault| Failure::Usage(format!("the table {:?} {fault}", flags.table)))?;
    let connector = connector(flags)?;
    with_session(settings, "adopt", async |mut session| {
        let table = AdoptableTable::find(&mut session, &name).await?;
        if table.is_outbox && !table.has_number {
            say(&format!("{} is an outbox already\n", table.quoted))?;
            return Ok(());
        }
        if flags.undo {
            return undo(&mut session, &table, flags.apply).await;
        }
        let type_of = |name: &str| table.type_of(name);
        let (preset, mapping) = match &connector {
            Some(it) => (Preset::Debezium, it.mapping(&table.quoted, &type_of)),
            None => {
                let preset = recognised(&table, flags.from)?;
                (preset, preset.mapping(type_of))
            }
        };
        check(&table, &mapping)?;
        let mut left = postgres::steps(&table);
        if let Some(time) = mapping.column("not_before") {
            left.extend(postgres::due_steps(&mut session, &table, time).await?);
        }
        if flags.apply {
            run(&mut session, &table, &left).await?;
            let words = match left.is_empty() {
                true => "is adopted already",
                false => "is adopted",
            };
            say(&format!("{} {words}\n", table.quoted))?;
            left.clear();
        }
        say(&plan::plan(&table, &left, preset, &mapping))
    })
}

fn say(text: &str) -> Outcome {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// Takes the column off again. What the migration made goes first.
async fn undo(session: &mut Session, table: &AdoptableTable, apply: bool) -> Outcome {
    let steps = postgres::undo_steps(table);
    if steps.is_empty() {
        return say(&format!("{} is not adopted\n", table.quoted));
    }
    if table.is_outbox {
        return Err(Failure::Failed(anyhow!(
            "{} is still an outbox: stop its relays, and take that back with `migrate --undo` first; nothing was changed",
            table.quoted
        )));
    }
    if !apply {
        return say(&plan::sql(&steps));
    }
    run(session, table, &steps).await?;
    say(&format!("{} is as it was\n", table.quoted))
}

/// Reads the configuration of a connector, if there is one.
fn connector(flags: &AdoptFlags) -> Result<Option<Connector>, Failure> {
    let Some(path) = &flags.connector else {
        return Ok(None);
    };
    if flags.from.is_some_and(|it| it != Preset::Debezium) {
        let words = "--connector is of Debezium: leave out --from, or name debezium";
        return Err(Failure::Usage(words.into()));
    }
    Connector::read(path).map(Some).map_err(Failure::Usage)
}

/// Chooses what the table is.
fn recognised(table: &AdoptableTable, from: Option<Preset>) -> Result<Preset, Failure> {
    let found = from.or_else(|| Preset::of(|name| table.type_of(name).is_some()));
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "the columns of {} are those of no table that is known: choose the relay that made it with --from debezium, open-outbox, eventferry or tomorrow-one",
            table.quoted
        ))
    })
}

/// Checks before anything is changed that the table has the columns.
fn check(table: &AdoptableTable, mapping: &Mapping) -> Outcome {
    let lacks = mapping.needed().find(|name| table.type_of(name).is_none());
    match lacks {
        None => Ok(()),
        Some(name) => Err(Failure::Failed(anyhow!(
            "{} has no column {name:?}, which the relay is to read: choose another relay with --from, or add the column; nothing was changed",
            table.quoted
        ))),
    }
}

/// Runs the steps, and says whom they wait for.
async fn run(session: &mut Session, table: &AdoptableTable, steps: &[AdoptStep]) -> Outcome {
    if steps.is_empty() {
        return Ok(());
    }
    let last = Mutex::new(None);
    let tell: TellsBlocker = Arc::new(move |holder| {
        let holder = holder.map(str::to_owned);
        let mut last = last.lock().unwrap_or_else(|it| it.into_inner());
        if let Some(holder) = holder.as_ref().filter(|_| *last != holder) {
            eprintln!("doorbell: waiting for {holder}");
        }
        *last = holder;
    });
    postgres::prepare(session, Arc::clone(&tell)).await?;
    for step in steps {
        let done = postgres::apply(session, table, step, &tell).await;
        done.with_context(|| {
            let what = format!("failed at: {}", step.sql.join("; "));
            format!("{what}; what came before it stays, and --apply goes on there")
        })?;
        for sql in &step.sql {
            say(&format!("done: {sql}\n"))?;
        }
    }
    Ok(())
}
