//! `doorbell dead`.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};

use super::failure::{Failure, Outcome};
use super::status::age;
use crate::config::Settings;
use crate::postgres::{Choice, Contents, Letter, Letters, Server, Session};

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// Which there are, by their ids, a page at a time
    List {
        /// Only those whose reason or code has this text
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Begin behind this id
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
        /// At most so many
        #[arg(long, value_name = "LETTERS", default_value_t = 100)]
        limit: u32,
    },
    /// One with everything, its payload last
    Show {
        /// Its id
        id: i64,
    },
    /// Put rows back into the outbox, under their own ids: the relay sends them as any others
    Retry(Chosen),
    /// Delete rows for ever
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Chosen {
    /// These ids
    ids: Vec<i64>,
    /// Those whose reason or code has this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl Chosen {
    fn choice(self) -> Choice {
        match self.reason {
            Some(text) => Choice::Reason(text),
            None if self.all => Choice::All,
            None => Choice::Ids(self.ids),
        }
    }
}

/// Does it.
pub(super) fn dead(settings: &Settings, command: DeadCommand, json: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::find(&settings.database.url).await?;
        let session = Session::open(&server, "dead").await?;
        let mut letters = Letters::of(session, &settings.outboxes).await?;
        match command {
            DeadCommand::List {
                reason,
                after,
                limit,
            } => {
                let choice = reason.map_or(Choice::All, Choice::Reason);
                let page = letters.list(&choice, after, limit).await?;
                Ok(list(&page, limit, json)?)
            }
            DeadCommand::Show { id } => Ok(show(&letters.show(id).await?, json)?),
            DeadCommand::Retry(chosen) => {
                let sent = letters.retry(&chosen.choice()).await?;
                Ok(done("retried", sent, json)?)
            }
            DeadCommand::Drop { chosen, yes } => {
                drop_for_ever(&mut letters, &chosen.choice(), yes, json).await
            }
        }
    })
}

async fn drop_for_ever(letters: &mut Letters, choice: &Choice, yes: bool, json: bool) -> Outcome {
    if !yes {
        let count = letters.count(choice).await?;
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "{count} dead letters would be deleted for ever, and nobody is at the terminal to be asked: add --yes"
            )));
        }
        eprint!("Delete {count} dead letters for ever? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    let dropped = letters.drop(choice).await?;
    Ok(done("dropped", dropped, json)?)
}

fn done(what: &str, count: usize, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::json!({ what: count })),
        false => writeln!(out, "{count} {what}"),
    }
}

fn list(page: &[Letter], limit: u32, json: bool) -> Result<(), anyhow::Error> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, page)?;
        writeln!(out)?;
        return Ok(());
    }
    for letter in page {
        writeln!(
            out,
            "{}  {} row {}  {}  key {}  to {}  {}: {}  {} bytes (key {}, headers {})  attempts {}  {} ago",
            letter.id,
            letter.outbox,
            letter.row_id,
            letter.event_type.escape_debug(),
            or_none(letter.key.as_deref()),
            or_none(letter.topic.as_deref()),
            letter.code,
            letter.reason.escape_debug(),
            letter.payload_size,
            letter.key_size,
            letter.headers_size,
            letter.attempts,
            age(letter.age_seconds),
        )?;
    }
    if let (Some(last), true) = (page.last(), page.len() >= limit as usize) {
        eprintln!("there may be more: --after {}", last.id);
    }
    Ok(())
}

fn show(contents: &Contents, json: bool) -> Result<(), anyhow::Error> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, contents)?;
        writeln!(out)?;
        return Ok(());
    }
    let letter = &contents.letter;
    writeln!(out, "id        {}", letter.id)?;
    writeln!(out, "outbox    {}", letter.outbox)?;
    writeln!(out, "row       {}", letter.row_id)?;
    writeln!(out, "created   {}", contents.created_at)?;
    writeln!(
        out,
        "refused   {}, {} times",
        letter.refused_at, letter.attempts
    )?;
    writeln!(out, "code      {}", letter.code)?;
    writeln!(out, "reason    {}", letter.reason.escape_debug())?;
    writeln!(out, "topic     {}", or_none(letter.topic.as_deref()))?;
    writeln!(out, "type      {}", letter.event_type.escape_debug())?;
    writeln!(out, "key       {}", or_none(letter.key.as_deref()))?;
    writeln!(out, "headers   {}", or_none(contents.headers.as_deref()))?;
    writeln!(out, "payload   {} bytes", letter.payload_size)?;
    match &contents.payload {
        Some(payload) => writeln!(out, "{payload}")?,
        None => writeln!(out, "none: a tombstone")?,
    }
    Ok(())
}

fn or_none(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.escape_debug().to_string())
}
