//! The command line, its errors, and the commands in the documentation.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::{Cli, Command, with_own_flags};
use crate::cli::arg_errors::one_line;
use crate::config::{Needs, Settings};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_stand_before_or_after_the_command_and_are_not_judged_here() {
    let line = "doorbell --config a.toml run --database-url postgres://u:HUNTER2@h --sweep never \
                --column key=k --column id=i --in-flight-rows 0 --listen nowhere";
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags are only text");
    let shown = format!("{cli:?}");
    assert!(!shown.contains("HUNTER2"), "{shown}");
    let Command::Run(run) = cli.command else {
        panic!("another command: {shown}")
    };
    let flags = run.outbox.overrides.and(run.http.overrides);
    let mut all = cli.global.overrides.and(flags);
    assert_eq!(all.config.take(), Some("a.toml".into()));
    let needs = Needs { kafka: false };
    let errors = Settings::load(all, &|_| None, needs).expect_err("several are wrong");
    let errors = errors.to_string();
    let origins = errors.lines().filter_map(|it| it.split(": ").next());
    let wrong = ["--in-flight-rows", "--listen", "--sweep"];
    assert_eq!(origins.collect::<Vec<_>>(), wrong);
}

#[test]
fn the_help_tells_the_variables_and_the_defaults() {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand_mut("run").expect("a command");
    let help = run.render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "--config <FILE> Read this TOML file [env: DOORBELL_CONFIG]",
        "[env: DATABASE_URL, or DATABASE_URL_FILE for a file that holds it]",
        "[env: KAFKA_BROKERS]",
        "[env: DOORBELL_LISTEN] [default: 127.0.0.1:8686]",
        "[default: 30s]",
        "[default: 32MiB]",
        "--column <KEY=NAME>",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn the_help_of_a_command_has_its_own_flags_alone_and_others_are_accepted() {
    let mut root = with_own_flags(Cli::command());
    let mut help = |name: &str| {
        let command = root.find_subcommand_mut(name).expect("a command");
        command.render_long_help().to_string()
    };
    for (command, has, lacks) in [
        ("status", "--table", "--poison"),
        ("status", "--database-url", "--kafka-brokers"),
        ("emit", "--header", "--stop-timeout"),
        ("run", "--poison", "--fix"),
        ("tail", "-X <KEY=VALUE>", "--leader-timeout"),
        ("replay", "-X <KEY=VALUE>", "--database-url"),
        ("replay", "--kafka-brokers", "--poison"),
        ("completions", "<SHELL>", "--database-url"),
    ] {
        let help = help(command);
        assert!(help.contains(has), "{command} lacks {has}: {help}");
        assert!(!help.contains(lacks), "{command} has {lacks}: {help}");
    }
    let line = [
        "doorbell",
        "status",
        "--poison",
        "park",
        "--stop-timeout",
        "1s",
    ];
    Cli::try_parse_from(line).expect("the flags of a script");
}

fn error(words: &[&str]) -> String {
    let error = Cli::try_parse_from([&["doorbell"], words].concat());
    let mut root = Cli::command();
    root.build();
    let words: Vec<_> = words.iter().map(std::ffi::OsString::from).collect();
    one_line(&error.expect_err("it is wrong"), &root, &words)
}

#[test]
fn what_is_wrong_stands_on_one_line_with_what_was_meant() {
    for (words, parts) in [
        (
            &["run", "--sweeep", "1s"][..],
            ["'--sweeep'", "exists: '--sweep'"],
        ),
        (&["emitt"], ["'emitt'", "exists: 'emit'"]),
        (
            &["run", "--start-timeout", "soon"],
            ["'soon'", "--start-timeout"],
        ),
        (&["run", "--sweep"], ["--sweep", "none was supplied"]),
        (&["replay", "--to", "x"], ["not provided", "--from"]),
        (&["run", "more"], ["'more'", "see `doorbell run"]),
        (
            &["dead", "show", "abc"],
            ["must be a number", "see `doorbell dead show --help`"],
        ),
        (
            &["status", "--watch=abc"],
            ["must be a duration such as", "see `doorbell status --help`"],
        ),
    ] {
        let line = error(words);
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
        &["run", "--start-timeout", "postgres://u:HUNTER2@h/db"],
        &["run", "--start-timeout=u:HUNTER2"],
        &["run", "--password=HUNTER2"],
        &["run", "-p=HUNTER2"],
    ] {
        let line = error(words);
        assert!(!line.contains("HUNTER2"), "{line}");
    }
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    pages.extend(["README.md", "examples/README.md"].map(|page| root.join(page)));
    pages
}

/// Lines of code: in fences of a shell, and indented ones outside of fences.
fn code(page: &str) -> Vec<&str> {
    let mut fence = None;
    let mut lines = Vec::new();
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() {
                None
            } else {
                Some(language)
            };
        } else if fence == Some("sh") || (fence.is_none() && line.starts_with("    ")) {
            lines.push(line.trim());
        }
    }
    lines
}

/// The words of a command, up to whatever ends it: a comment, a pipe, another command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('#' | '|' | '&' | ';' | '>', None) if word.is_none() => break,
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn each_command_of_the_documentation_is_understood() {
    let mut understood = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        for line in code(&page) {
            let words = words(line);
            if words.first().is_none_or(|word| word != "doorbell") {
                continue;
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: {line}\n{error}", path.display());
            }
            understood += 1;
        }
    }
    assert!(understood > 30, "only {understood} commands were found");
}

#[test]
fn words_end_where_the_shell_ends_them() {
    assert_eq!(
        words(r#"doorbell emit --key 'a b' '{"n": 1}' ""  # a comment"#),
        ["doorbell", "emit", "--key", "a b", r#"{"n": 1}"#, ""]
    );
    assert_eq!(words("doorbell run &"), ["doorbell", "run"]);
}
