//! Errors of the command line, on one line with what to do. Clap prints a paragraph, with the word
//! that it does not understand, which may be a secret.

use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::config_flags::with_own_flags;
use super::exit::{Failure, SUCCESS};

const HIDDEN: &str = "***";

/// Prints help or version if requested, or where nothing is, else the error, and returns the exit
/// code.
pub fn answer(error: &clap::Error, root: Command) -> u8 {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match error.kind() {
        ErrorKind::DisplayVersion => {
            // The reader may close the pipe.
            error.print().ok();
            SUCCESS
        }
        kind if kind == ErrorKind::DisplayHelp || words.is_empty() => {
            let help = help(root, &words);
            anstream::stdout().write_all(help.as_bytes()).ok();
            SUCCESS
        }
        _ => Failure::Usage(one_line(error, &root, &words)).report(),
    }
}

/// The help of the command that the words name, with its own flags alone.
fn help(root: Command, words: &[OsString]) -> String {
    let root = with_own_flags(root);
    let mut command = named(&root, words).1.clone();
    let is_long = words.iter().any(|word| word == "--help" || word == "help");
    let help = match is_long {
        true => command.render_long_help(),
        false => command.render_help(),
    };
    help.ansi().to_string()
}

/// The command that the words name, and its whole name.
fn named<'a>(root: &'a Command, words: &[OsString]) -> (String, &'a Command) {
    let (mut name, mut command) = (root.get_name().to_owned(), root);
    // `help run` is about `run`: below `help` are copies of the commands, without their flags.
    for word in words.iter().filter(|word| *word != "help") {
        if let Some(inner) = command.find_subcommand(word) {
            name = format!("{name} {}", inner.get_name());
            command = inner;
        }
    }
    (name, command)
}

/// Formats the message of Clap on one line, with the command for help.
pub(super) fn one_line(error: &clap::Error, root: &Command, words: &[OsString]) -> String {
    let text = error.to_string();
    let (said, usage) = text.split_once("Usage: ").unwrap_or((&text, ""));
    let command: Vec<&str> = usage
        .split_whitespace()
        .take_while(|word| !word.starts_with(['-', '[', '<']))
        .collect();
    let command = match command.as_slice() {
        [] => named(root, words).0,
        command => command.join(" "),
    };
    let what = match error.kind() {
        ErrorKind::MissingSubcommand => format!("no command is given; {}", commands(error)),
        _ => plain(&sentence(said.trim_start_matches("error: "))),
    };
    format!(
        "{}; see `{command} --help`",
        without_secrets(error, &what).trim_end_matches(['.', ';'])
    )
}

/// Reads a duration, of flags that stand for no key.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "must be a duration such as 500ms, 2s or 5m".into())
}

/// Says what a number must be, instead of what the parser of numbers met.
fn plain(text: &str) -> String {
    const SAID: [(&str, &str); 3] = [
        ("invalid digit found in string", "must be a number"),
        ("number too large to fit in target type", "is too large"),
        ("cannot parse integer from empty string", "must be a number"),
    ];
    SAID.iter().fold(text.to_owned(), |text, (said, plain)| {
        text.replace(said, plain)
    })
}

fn commands(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidSubcommand) {
        Some(ContextValue::Strings(names)) => format!("known are {}", names.join(", ")),
        _ => "name one".to_owned(),
    }
}

/// Joins paragraphs to one sentence, and the lines of each.
fn sentence(text: &str) -> String {
    let footer = |paragraph: &&str| !paragraph.starts_with("For more information");
    let paragraphs = text.split("\n\n").map(str::trim);
    let paragraphs = paragraphs.filter(|it| !it.is_empty()).filter(footer);
    let parts = paragraphs.map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ").replace("tip: ", "")
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// Hides words that may hold a secret: one in the wrong place may be a URL with its password.
fn without_secrets(error: &clap::Error, text: &str) -> String {
    let kinds = [
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidValue,
    ];
    let mut text = text.to_owned();
    for kind in kinds {
        if let Some(ContextValue::String(word)) = error.get(kind)
            && word.contains([':', '/', '@', '=', '%'])
        {
            text = text.replace(word, HIDDEN);
        }
    }
    text
}
