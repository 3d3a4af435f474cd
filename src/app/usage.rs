//! What is wrong with a command line, on one line with what to do. The library would take a paragraph, and show whatever it does not understand.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;

/// Stands for a word that may hold a secret.
const HIDDEN: &str = "***";

/// Answers a command line that is no command: help and version where they were asked for, else what is wrong.
pub(super) fn answer(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Whoever reads it may have enough.
            error.print().ok();
            ExitCode::SUCCESS
        }
        _ => Failure::Usage(one_line(error)).report(),
    }
}

/// The library's words without their form, and where the help is.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let (said, usage) = text.split_once("Usage: ").unwrap_or((&text, "doorbell"));
    let command: Vec<&str> = usage
        .split_whitespace()
        .take_while(|word| !word.starts_with(['-', '[', '<']))
        .collect();
    let command = command.join(" ");
    let what = match error.kind() {
        ErrorKind::MissingSubcommand => format!("no command is given; {}", commands(error)),
        _ => sentence(said.trim_start_matches("error: ")),
    };
    format!(
        "{}; see `{command} --help`",
        without_secrets(error, &what).trim_end_matches(['.', ';'])
    )
}

fn commands(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidSubcommand) {
        Some(ContextValue::Strings(names)) => format!("known are {}", names.join(", ")),
        _ => "name one".to_owned(),
    }
}

/// Paragraphs become parts of one sentence, lines of a paragraph become one line.
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

/// A word that stands in the wrong place may be a URL with its password.
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Parser, Subcommand};

    #[derive(Debug, Parser)]
    #[command(name = "doorbell", version, arg_required_else_help = false)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, Subcommand)]
    enum Command {
        Run {
            #[arg(long, value_parser = humantime::parse_duration)]
            sweep: Option<std::time::Duration>,
            #[arg(long, requires = "sweep")]
            now: bool,
        },
    }

    fn said(words: &[&str]) -> String {
        let error = Cli::try_parse_from([&["doorbell"], words].concat());
        one_line(&error.expect_err("it is wrong"))
    }

    #[test]
    fn what_is_wrong_stands_on_one_line_with_what_was_meant() {
        for (words, parts) in [
            (
                &["run", "--sweeep", "1s"][..],
                ["'--sweeep'", "exists: '--sweep'"],
            ),
            (&["rum"], ["'rum'", "exists: 'run'"]),
            (&["run", "--sweep", "soon"], ["'soon'", "--sweep"]),
            (&["run", "--sweep"], ["--sweep", "none was supplied"]),
            (&["run", "--now"], ["not provided", "--sweep"]),
            (&["run", "more"], ["'more'", "see `doorbell run"]),
        ] {
            let line = said(words);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.contains("; see `doorbell"), "{line}");
            for part in parts {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
    }

    #[test]
    fn a_word_that_may_hold_a_secret_is_not_repeated() {
        for words in [
            &["postgres://u:HUNTER2@h/db"][..],
            &["run", "postgres://u:HUNTER2@h/db"],
            &["run", "--sweep", "postgres://u:HUNTER2@h/db"],
            &["run", "--sweep=u:HUNTER2"],
            &["run", "--password=HUNTER2"],
            &["run", "-p=HUNTER2"],
        ] {
            let line = said(words);
            assert!(!line.contains("HUNTER2"), "{line}");
        }
    }
}
