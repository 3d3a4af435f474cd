//! Commands in the documentation are commands of the program.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::Cli;

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
