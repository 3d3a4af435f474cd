//! `doorbell dead`.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::with_session;
use crate::cli::terminal::{harmless, print_json, table};
use crate::config::Settings;
use crate::numbers::{age, counted};
use crate::postgres::{DeadLetter, DeadLetterContents, DeadLetters, Selection};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters by id, a page at a time
    List {
        /// Only those whose reason or code contains this text
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Start after this id
        #[arg(
            long,
            value_name = "ID",
            default_value_t = 0,
            allow_negative_numbers = true
        )]
        after: i64,
        /// List at most this many
        #[arg(long, value_name = "LETTERS", default_value_t = 100)]
        limit: u32,
    },
    /// Show one dead letter with its payload
    Show {
        /// Id of the dead letter
        #[arg(allow_negative_numbers = true)]
        id: i64,
    },
    /// Put dead letters back into the outbox, with their ids, to be sent again
    Retry(Chosen),
    /// Delete dead letters for ever
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Selection of dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Chosen {
    /// These ids
    #[arg(allow_negative_numbers = true)]
    ids: Vec<i64>,
    /// Those whose reason or code contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl Chosen {
    fn choice(self) -> Selection {
        match self.reason {
            Some(text) => Selection::reason(text),
            None if self.all => Selection::all(),
            None => Selection::Ids(self.ids),
        }
    }
}

pub(crate) fn dead(settings: &Settings, command: DeadCommand, json: bool) -> Outcome {
    with_session(settings, "dead", async |mut session| {
        let mut letters = DeadLetters::of(&mut session, &settings.outboxes).await?;
        match command {
            DeadCommand::List {
                reason,
                after,
                limit,
            } => {
                let choice = reason.map_or_else(Selection::all, Selection::reason);
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

async fn drop_for_ever(
    letters: &mut DeadLetters<'_>,
    choice: &Selection,
    yes: bool,
    json: bool,
) -> Outcome {
    if !yes {
        let letters = counted(letters.count(choice).await?, "dead letter");
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "deleting {letters} for ever needs a confirmation, and standard input is no terminal: add --yes"
            )));
        }
        eprint!("Delete {letters} for ever? [y/N] ");
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
    match json {
        true => print_json(&serde_json::json!({ what: count })),
        false => writeln!(std::io::stdout(), "{count} {what}"),
    }
}

fn list(page: &[DeadLetter], limit: u32, json: bool) -> std::io::Result<()> {
    if json {
        return print_json(&page);
    }
    let row = |letter: &DeadLetter| {
        [
            letter.id.to_string(),
            letter.outbox.clone(),
            letter.row_id.to_string(),
            letter.event_type.escape_debug().to_string(),
            or_none(letter.key.as_deref()),
            or_none(letter.topic.as_deref()),
            letter.payload_size.to_string(),
            letter.attempts.to_string(),
            age(letter.age_seconds),
            format!("{}: {}", letter.code, letter.reason.escape_debug()),
        ]
    };
    let rows: Vec<_> = page.iter().map(row).collect();
    if !rows.is_empty() {
        let head = [
            "ID", "OUTBOX", "ROW", "TYPE", "KEY", "TOPIC", "BYTES", "ATTEMPTS", "AGE", "REASON",
        ];
        write!(std::io::stdout(), "{}", table(head, &rows))?;
    }
    if let (Some(last), true) = (page.last(), page.len() >= limit as usize) {
        eprintln!("more may follow: add --after {}", last.id);
    }
    Ok(())
}

fn show(contents: &DeadLetterContents, json: bool) -> std::io::Result<()> {
    if json {
        return print_json(contents);
    }
    let letter = &contents.letter;
    let mut out = std::io::stdout().lock();
    for (name, value) in [
        ("id", letter.id.to_string()),
        ("outbox", letter.outbox.clone()),
        ("row", letter.row_id.to_string()),
        ("created", contents.created_at.clone()),
        (
            "refused",
            format!(
                "{}, {}",
                letter.refused_at,
                counted(letter.attempts, "time")
            ),
        ),
        ("code", letter.code.clone()),
        ("reason", letter.reason.escape_debug().to_string()),
        ("topic", or_none(letter.topic.as_deref())),
        ("type", letter.event_type.escape_debug().to_string()),
        ("key", or_none(letter.key.as_deref())),
        ("headers", or_none(contents.headers.as_deref())),
        ("columns", or_none(contents.columns.as_deref())),
        ("payload", counted(letter.payload_size, "byte")),
    ] {
        writeln!(out, "{name:9} {value}")?;
    }
    match &contents.payload {
        Some(payload) => writeln!(out, "{}", harmless(&std::io::stdout(), payload)),
        None => writeln!(out, "none: a tombstone"),
    }
}

fn or_none(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.escape_debug().to_string())
}
