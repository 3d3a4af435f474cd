//! Lines of the log from `warn` on and the reasons to wait, as the code has them and as
//! docs/operation.md explains them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files with the reasons that a relay gives for waiting or for its end.
const REASONS: [&str; 3] = [
    "src/relay/error.rs",
    "src/postgres/error.rs",
    "src/kafka/receipts/error.rs",
];

/// A line, or a reason, with `…` for what differs, and its level.
type Line = (String, String);

fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            texts.push(fs::read_to_string(&path).expect("a file"));
        }
    }
    texts
}

/// Returns the literals of a piece of code, up to the bracket that closes it.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut rest = code.chars();
    while let Some(c) = rest.next() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => break,
            ')' => depth -= 1,
            '"' => {
                let mut literal = String::new();
                loop {
                    match rest.next().expect("the end of a literal") {
                        '"' => break,
                        '\\' => literal.push(rest.next().expect("what is escaped")),
                        c => literal.push(c),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
    }
    found
}

/// The same with `…` in place of each `{name}`.
fn general(text: &str) -> String {
    let mut general = String::new();
    let mut parts = text.split('{');
    general.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (_, rest) = part.split_once('}').expect("a closed brace");
        general.push('…');
        general.push_str(rest);
    }
    general
}

/// Returns the messages that the code logs with the macro of this level.
fn said(level: &str, text: &str) -> Vec<String> {
    let call = format!("{level}!(");
    let mut lines = Vec::new();
    for (at, _) in text.match_indices(&call) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let message = literals(&text[at + call.len()..]).pop();
        let message = message.unwrap_or_else(|| panic!("a {level}! without a text"));
        // The message is chosen before: all candidates.
        if message == "{words}" {
            let (_, choice) = text[..at].rsplit_once("let words =").expect("the words");
            lines.extend(literals(choice));
        } else {
            lines.push(message);
        }
    }
    lines.iter().map(|line| general(line)).collect()
}

fn in_the_code() -> BTreeSet<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lines = BTreeSet::new();
    for text in sources(&root.join("src")) {
        assert!(!text.contains("Level::WARN") && !text.contains("Level::ERROR"));
        for level in ["warn", "error"] {
            let said = said(level, &text).into_iter();
            lines.extend(said.map(|line| (line, level.to_owned())));
        }
    }
    lines
}

fn reasons_in_the_code() -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    for path in REASONS {
        let text = crate::read(path);
        for attribute in text.split("#[error(").skip(1) {
            reasons.extend(literals(attribute).iter().map(|text| general(text)));
        }
    }
    // The text of another error.
    reasons.remove("…");
    reasons
}

/// Returns the first two cells of each row of a page whose first cell is a text in backticks.
fn rows(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| {
        let rest = line.strip_prefix("| ")?;
        let (text, rest) = match rest.strip_prefix("`` ") {
            Some(rest) => rest.split_once(" `` | ")?,
            None => rest.strip_prefix('`')?.split_once("` | ")?,
        };
        Some((text, rest.split(" | ").next()?))
    })
}

#[track_caller]
fn assert_same<T: Ord + std::fmt::Debug>(what: &str, page: BTreeSet<T>, code: BTreeSet<T>) {
    let unexplained: Vec<_> = code.difference(&page).collect();
    let unsaid: Vec<_> = page.difference(&code).collect();
    assert!(
        unexplained.is_empty() && unsaid.is_empty(),
        "docs/operation.md, {what}: add a row for each of {unexplained:#?}; take out what the code does not say: {unsaid:#?}"
    );
}

#[test]
fn the_page_on_operation_explains_each_line_from_warn_on_and_no_other() {
    let page = crate::read("docs/operation.md");
    let (_, lines) = page
        .split_once("\n## Lines of the log\n")
        .expect("the lines");
    let (lines, rest) = lines.split_once("\n### Reasons\n").expect("the reasons");
    let own = |(line, level): (&str, &str)| (line.to_owned(), level.to_owned());
    assert_same("lines", rows(lines).map(own).collect(), in_the_code());

    let (reasons, _) = rest.split_once("\n## ").expect("the end of the reasons");
    let reasons = rows(reasons).map(|(reason, _)| reason.to_owned()).collect();
    assert_same("reasons", reasons, reasons_in_the_code());
}

#[test]
fn lines_are_read_from_the_code_as_they_are_said() {
    let code = r#"
        let words = match cause { A => "one", B => format!("two `{name}` {}", x) };
        warn!(parent: &span, error = reason, "{words}");
        error!(row.id = id(), reason = "x", "three \"four\"");
        my_warn!("five");
    "#;
    assert_eq!(said("warn", code), ["one", "two `…` …"]);
    assert_eq!(said("error", code), ["three \"four\""]);
}
