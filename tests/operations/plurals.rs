//! A number in a sentence agrees with its noun: the code counts by `numbers::counted`.

use std::fs;
use std::path::{Path, PathBuf};

/// Nouns that a message may count.
const NOUNS: &[&str] = &[
    "brokers",
    "bytes",
    "changes",
    "connections",
    "events",
    "ids",
    "keys",
    "letters",
    "numbers",
    "offsets",
    "outboxes",
    "partitions",
    "privileges",
    "records",
    "replicas",
    "rows",
    "sessions",
    "times",
    "topics",
    "transactions",
];

/// Numbers that are never 1, or a limit that stands for a size.
const NEVER_ONE: &[&str] = &[
    "none of {known} brokers",
    "of {all} outboxes",
    "All {all} outboxes",
    "{crashes} times",
    "{} keys are held back already",
    "records of up to {limit} bytes",
    "up to {ours} bytes",
    "is not 8 bytes",
    "it has {size} bytes",
    "{LONGEST} bytes",
    "{MAX_BYTES} bytes",
    "letter.attempts }} times so far",
    "{} rows wait in the table",
    "{rows} rows reach Kafka",
    "keeps records for",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("model") {
            files.extend(rust_files(&path));
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "html")
        {
            files.push(path);
        }
    }
    files
}

/// Returns what a line counts with a plural that is written out, one word apart at most.
fn counts(line: &str) -> Option<String> {
    line.match_indices("} ").find_map(|(at, _)| {
        let begin = line[..at].rfind('{')?;
        if line[..at].ends_with('%') {
            return None;
        }
        let rest = line[at + 2..].split(|c: char| !c.is_ascii_alphabetic() && c != ' ');
        let words: Vec<&str> = rest.take(1).flat_map(|it| it.split(' ')).take(2).collect();
        let noun = words.iter().position(|word| NOUNS.contains(word))?;
        Some(format!(
            "{} {}",
            &line[begin..=at],
            words[..=noun].join(" ")
        ))
    })
}

#[test]
fn a_number_agrees_with_its_noun() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in rust_files(&root) {
        let text = fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().map(str::trim);
        for line in lines.filter(|line| !line.starts_with("//")) {
            let is_known = NEVER_ONE.iter().any(|known| line.contains(known));
            if let Some(words) = counts(line).filter(|_| !is_known) {
                found.push(format!("{}: {words}", path.display()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "count these by numbers::counted: {found:#?}"
    );
}

#[test]
fn a_plural_that_is_written_out_is_found() {
    for (line, words) in [
        ("format!(\"{} rows wait\", rows)", Some("{} rows")),
        ("\"the last {n} waiting rows\"", Some("{n} waiting rows")),
        ("\"{rows}, {keys} keys\"", Some("{keys} keys")),
        ("\"{} of the rows\"", None),
        ("\"{rows} in the table\"", None),
    ] {
        assert_eq!(counts(line).as_deref(), words, "{line}");
    }
}
