//! `doorbell pause` and `doorbell resume`.

use std::io::Write;

use clap::Args;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::cli::terminal::print_json;
use crate::config::{Outbox, Settings, TableName};
use crate::postgres::{self, Switched};

/// Flags of `resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeFlags {
    /// Only this outbox [default: all configured ones]; without a configuration file, any table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseFlags {
    #[command(flatten)]
    which: ResumeFlags,
    /// Reason, shown by `status` and in the log of every relay
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Name of the operator [default: user and host]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Pauses: no relay of these outboxes fetches a row until `resume`.
pub(crate) fn pause(settings: &Settings, flags: PauseFlags) -> Outcome {
    let PauseFlags { which, reason, by } = flags;
    let by = by.unwrap_or_else(user_and_host);
    for (flag, text) in [("--reason", reason.as_ref()), ("--by", Some(&by))] {
        if text.is_some_and(|text| text.trim().is_empty() || text.contains(char::is_control)) {
            return Err(Failure::Usage(format!(
                "{flag} must be one line of text: it is empty, or has control characters"
            )));
        }
    }
    let pause = Some((by.as_str(), reason.as_deref()));
    switch(settings, &which, pause, |it| match it.was_paused {
        true => format!(
            "{} was already paused {}",
            it.outbox,
            it.before.as_deref().unwrap_or_default()
        ),
        false => format!(
            "{0} is paused: no row is sent until `doorbell resume --table '{0}'`",
            it.outbox
        ),
    })
}

pub(crate) fn resume(settings: &Settings, flags: &ResumeFlags) -> Outcome {
    switch(settings, flags, None, |it| match it.was_paused {
        true => format!("{} is resumed", it.outbox),
        false => format!("{} was not paused", it.outbox),
    })
}

fn switch(
    settings: &Settings,
    flags: &ResumeFlags,
    pause: Option<(&str, Option<&str>)>,
    say: impl Fn(&Switched) -> String,
) -> Outcome {
    let tables = chosen(settings, flags.table.as_deref())?;
    let (paused, purpose) = match pause {
        Some(_) => (true, "pause"),
        None => (false, "resume"),
    };
    let switched = with_session(settings, purpose, async |mut session| {
        let mut switched = Vec::new();
        for table in &tables {
            switched.push(postgres::switch(&mut session, table, pause).await?);
        }
        Ok(switched)
    })?;
    if flags.json {
        let line = |it: &Switched| serde_json::json!({ "outbox": it.outbox, "paused": paused, "was_paused": it.was_paused });
        return Ok(print_json(&switched.iter().map(line).collect::<Vec<_>>())?);
    }
    for it in &switched {
        writeln!(std::io::stdout(), "{}", say(it))?;
    }
    Ok(())
}

/// Returns the selected table, or those of all configured outboxes.
fn chosen(settings: &Settings, table: Option<&str>) -> Result<Vec<TableName>, Failure> {
    let configured = settings.outboxes.iter().map(|it| it.table.clone());
    let configured: Vec<TableName> = configured.collect();
    let Some(table) = table else {
        return Ok(configured);
    };
    let table = TableName::parse(table)
        .map_err(|fault| Failure::Usage(format!("--table: the table {fault}")))?;
    let exact = configured.iter().find(|it| **it == table);
    match exact.or_else(|| configured.iter().find(|it| it.may_be(&table))) {
        Some(found) => Ok(vec![found.clone()]),
        None if settings.outboxes == [Outbox::default()] => Ok(vec![table]),
        None => {
            let names: Vec<String> = configured.iter().map(ToString::to_string).collect();
            Err(Failure::Usage(format!(
                "--table: {table} is not a configured outbox; choose one of {}",
                names.join(", ")
            )))
        }
    }
}

fn user_and_host() -> String {
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    match user {
        Some(user) => format!("{user}@{host}"),
        None => format!("unknown user at {host}"),
    }
}
