//! `doorbell pause` and `doorbell resume`.

use std::io::Write;

use clap::Args;

use super::failure::{Failure, Outcome};
use crate::config::{Outbox, Settings, TableName};
use crate::postgres::{self, Server, Session, Switched};

/// Which outboxes, and how to answer.
#[derive(Debug, Args)]
pub(super) struct ResumeFlags {
    /// Only this one of those that are configured [default: all of them]; any table where no file names outboxes
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// `pause`'s flags.
#[derive(Debug, Args)]
pub(super) struct PauseFlags {
    #[command(flatten)]
    which: ResumeFlags,
    /// Why: shown by `status` and in the log of every relay
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who does it [default: user and host]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Pauses: no relay of these outboxes fetches a row before `resume`.
pub(super) fn pause(settings: &Settings, flags: PauseFlags) -> Outcome {
    let PauseFlags { which, reason, by } = flags;
    let by = by.unwrap_or_else(user_and_host);
    for (flag, text) in [("--reason", reason.as_ref()), ("--by", Some(&by))] {
        if text.is_some_and(|text| text.trim().is_empty() || text.contains(char::is_control)) {
            return Err(Failure::Usage(format!("{flag} must be one line of text")));
        }
    }
    let outboxes = chosen(settings, which.table.as_deref())?;
    let switched = each(settings, &outboxes, "pause", async |session, outbox| {
        postgres::pause(session, &outbox.table, &by, reason.as_deref()).await
    })?;
    let say = |it: &Switched| match it.was_paused {
        true => format!("{} was paused already", it.outbox),
        false => format!(
            "{} is paused: no row leaves before `doorbell resume`",
            it.outbox
        ),
    };
    answer(&switched, true, which.json, say)
}

/// Ends pauses.
pub(super) fn resume(settings: &Settings, flags: &ResumeFlags) -> Outcome {
    let outboxes = chosen(settings, flags.table.as_deref())?;
    let switched = each(settings, &outboxes, "resume", async |session, outbox| {
        postgres::resume(session, &outbox.table).await
    })?;
    let say = |it: &Switched| match it.was_paused {
        true => format!("{} is resumed", it.outbox),
        false => format!("{} was not paused", it.outbox),
    };
    answer(&switched, false, flags.json, say)
}

/// One of the configured outboxes, or all.
fn chosen(settings: &Settings, table: Option<&str>) -> Result<Vec<Outbox>, Failure> {
    let outboxes = settings.outboxes.clone();
    let Some(table) = table else {
        return Ok(outboxes);
    };
    let table = TableName::parse(table)
        .map_err(|fault| Failure::Usage(format!("--table: the table {fault}")))?;
    if outboxes == [Outbox::default()] {
        return Ok(vec![Outbox {
            table,
            ..Outbox::default()
        }]);
    }
    let names: Vec<String> = outboxes.iter().map(|it| it.table.to_string()).collect();
    let found: Vec<Outbox> = outboxes
        .into_iter()
        .filter(|outbox| outbox.table == table)
        .collect();
    if found.is_empty() {
        let names = names.join(", ");
        return Err(Failure::Usage(format!(
            "--table: {table} is none of the configured outboxes, which are {names}"
        )));
    }
    Ok(found)
}

fn each(
    settings: &Settings,
    outboxes: &[Outbox],
    purpose: &str,
    switch: impl AsyncFn(&mut Session, &Outbox) -> postgres::Result<Switched>,
) -> Result<Vec<Switched>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let mut session = Session::open(&server, purpose).await?;
        let mut switched = Vec::new();
        for outbox in outboxes {
            switched.push(switch(&mut session, outbox).await?);
        }
        Ok(switched)
    })
}

fn answer(
    switched: &[Switched],
    paused: bool,
    json: bool,
    say: impl Fn(&Switched) -> String,
) -> Outcome {
    let mut out = std::io::stdout().lock();
    if json {
        let line = |it: &Switched| serde_json::json!({ "outbox": it.outbox, "paused": paused, "was_paused": it.was_paused });
        let all: Vec<_> = switched.iter().map(line).collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
        return Ok(());
    }
    for it in switched {
        writeln!(out, "{}", say(it))?;
    }
    Ok(())
}

fn user_and_host() -> String {
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    match user {
        Some(user) => format!("{user}@{host}"),
        None => format!("somebody at {host}"),
    }
}
