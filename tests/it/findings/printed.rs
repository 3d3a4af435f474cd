//! The remedies that the program prints, as its sources have them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that follow `doorbell` and its commands.
const COMMANDS: &[&str] = &[
    "bench",
    "check",
    "compare",
    "completions",
    "config",
    "dead",
    "drain",
    "emit",
    "health",
    "held",
    "man",
    "migrate",
    "pause",
    "preview",
    "receipts",
    "replay",
    "resume",
    "run",
    "status",
    "tail",
    "verify",
];
const SUBCOMMANDS: &[&str] = &["accept", "drop", "list", "retry", "show"];

/// How statements begin that an operator is to run.
const STATEMENTS: &[&str] = &[
    "ALTER TABLE",
    "ALTER SEQUENCE",
    "ALTER ROLE",
    "ALTER DATABASE",
    "ALTER SYSTEM",
    "ALTER PUBLICATION",
    "GRANT ",
    "REVOKE ",
    "DROP TRIGGER",
    "DROP RULE",
    "SELECT pg_terminate_backend",
    "SELECT pg_drop_replication_slot",
    "SELECT pg_reload_conf",
    "SELECT pg_blocking_pids",
    "SELECT setval",
    "UPDATE doorbell",
    "DELETE FROM doorbell",
    "ROLLBACK PREPARED",
    "CREATE ROLE",
    "CREATE UNIQUE INDEX",
];
/// The files whose statements are for operators; those of the others are the program's own.
const REMEDIES: &[&str] = &[
    "src/describe.rs",
    "src/relay/outbox/startup.rs",
    "src/postgres/table.rs",
    "src/cli/commands/migrate.rs",
    "src/cli/commands/status/text.rs",
    "src/cli/commands/check/",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(|it| it.to_str()).expect("a name");
        if path.is_dir() && name != "tests" {
            files.extend(sources(&path));
        } else if name.ends_with(".html") || name.ends_with(".rs") && !name.ends_with("_test.rs") {
            files.push(path);
        }
    }
    files
}

/// Returns each source with its path, without comments and tests, and its texts on one line each.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.starts_with("//"));
        let joined: Vec<&str> = lines.collect();
        let name = path.strip_prefix(root).expect("below the root");
        let name = name.to_str().expect("a path").to_owned();
        (name, joined.join("\n").replace("\\\n", ""))
    };
    let files = sources(&root.join("src")).into_iter().map(read);
    // Comments of the reference of configuration are no remedies.
    files
        .filter(|(name, _)| name != "src/config/keys.rs")
        .collect()
}

/// Returns the commands that the program prints, with their placeholders.
pub(super) fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in texts() {
        for (at, name) in text.match_indices("doorbell ") {
            let is_word = |c: char| c.is_alphanumeric() || "_/\\.-{".contains(c);
            if text[..at].ends_with(is_word) {
                continue;
            }
            let rest = &text[at + name.len()..];
            // As HTML has them, a space is inside the braces.
            let rest = rest.replace("{{ ", "{").replace(" }}", "}");
            let end = rest.find(['`', '"', ';', ',', '(', ')', '<', '\n']);
            let words = rest[..end.unwrap_or(rest.len())].split(' ');
            let mut command: Vec<&str> = Vec::new();
            for word in words {
                let takes_value = command
                    .last()
                    .is_some_and(|it| it.starts_with("--") && *it != "--all");
                let is_part = match command.len() {
                    0 => COMMANDS.contains(&word),
                    _ => {
                        SUBCOMMANDS.contains(&word)
                            || word.starts_with("--")
                            || word.trim_matches('\'').starts_with('{')
                            || takes_value
                    }
                };
                if !is_part {
                    break;
                }
                command.push(word);
            }
            if !command.is_empty() {
                found.insert(command.join(" "));
            } else if text[..at].ends_with('`') {
                panic!("no command of the program: doorbell {rest:.40}");
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Returns the texts with a statement that an operator is to run, with `…` for what differs. One
/// with `...` is a form that the operator fills in.
pub(super) fn statements() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in texts() {
        let is_query = name == "src/postgres/inspect/hazards.rs";
        if !is_query && !REMEDIES.iter().any(|it| name.starts_with(it)) {
            continue;
        }
        let quote = if is_query { "format('" } else { "\"" };
        for (at, _) in text.match_indices(quote) {
            let literal = literal(&text[at + quote.len()..], is_query);
            let begins = STATEMENTS.iter().any(|it| literal.contains(it));
            if begins && !literal.contains("...") {
                found.insert(general(&literal));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// Returns a text up to its end, as it is printed.
fn literal(rest: &str, is_sql: bool) -> String {
    let mut literal = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if is_sql && chars.peek() != Some(&'\'') => break,
            '\'' if is_sql => literal.extend(chars.next()),
            '"' => break,
            '\\' => literal.extend(chars.next()),
            c => literal.push(c),
        }
    }
    literal
}

/// Puts `…` in place of each placeholder, of Rust or of SQL's `format`.
fn general(text: &str) -> String {
    let mut general = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '%']) {
        general.push_str(&rest[..at]);
        let end = match rest[at..].starts_with('{') {
            true => rest[at..].find('}'),
            false => rest[at + 1..].find(char::is_alphabetic).map(|it| it + 1),
        };
        general.push('…');
        rest = &rest[at + end.expect("the end of a placeholder") + 1..];
    }
    general + rest
}

/// Whether a text that was printed is one of this form.
pub(super) fn fits(form: &str, printed: &str) -> bool {
    let mut rest = printed;
    form.split('…').filter(|it| !it.is_empty()).all(|part| {
        let found = rest.split_once(part);
        rest = found.map_or(rest, |(_, after)| after);
        found.is_some()
    })
}

/// Returns the statements of a remedy, without the words around them.
pub(super) fn statement(remedy: &str) -> &str {
    let begin = STATEMENTS.iter().filter_map(|it| remedy.find(it)).min();
    let begin = begin.unwrap_or_else(|| panic!("no statement in {remedy}"));
    let ends = [
        ", or ",
        "; or ",
        " or ",
        " if ",
        ", with ",
        ", and ",
        ", unless ",
        " ends it",
        "`",
    ];
    let rest = &remedy[begin..];
    let end = ends.iter().filter_map(|it| rest.find(it)).min();
    &rest[..end.unwrap_or(rest.len())]
}

#[test]
fn forms_are_taken_from_the_code_and_compared_with_what_is_printed() {
    let form = general(&literal(
        r#"ALTER TABLE {relation} ADD (\"{id}\")" rest"#,
        false,
    ));
    assert_eq!(form, "ALTER TABLE … ADD (\"…\")");
    assert!(fits(&form, "x: ALTER TABLE public.t ADD (\"id\"), or not"));
    assert!(!fits(&form, "ALTER TABLE public.t DROP (\"id\")"));
    let form = general(&literal("DROP TRIGGER %I ON %2$s, say ''x''', rest", true));
    assert_eq!(form, "DROP TRIGGER … ON …, say 'x'");
    let remedy = "unless it lets it through: DROP TRIGGER a ON b; DROP TRIGGER c ON d, or wait";
    assert_eq!(
        statement(remedy),
        "DROP TRIGGER a ON b; DROP TRIGGER c ON d"
    );
}
