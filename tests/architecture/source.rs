//! Source files as words: no comments, no texts, no tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file with Rust code in a folder and below.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(rust_files(&path)),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The source folder of the product and of each crate beside it.
pub(crate) fn source_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).into_iter().flatten();
    let beside = crates.map(|entry| entry.expect("an entry").path().join("src"));
    let mut folders: Vec<PathBuf> = beside.filter(|folder| folder.is_dir()).collect();
    folders.sort();
    folders.insert(0, root.join("src"));
    folders
}

/// The words and signs of a file's code; `::` is one sign. What `#[cfg(test)]` marks is left out.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens: Vec<String> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        match rest {
            ['/', '/', ..] => at += until(rest, |it| it[0] == '\n'),
            ['/', '*', ..] => at += until(rest, |it| it.starts_with(&['*', '/'])) + 2,
            ['r' | 'b', '"' | '#', ..] | ['b', 'r', '"' | '#', ..] if raw_text(rest).is_some() => {
                at += raw_text(rest).unwrap_or(1);
            }
            ['"', ..] => at += quoted(rest, '"'),
            // A character, not a lifetime.
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => at += quoted(rest, '\''),
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                at += 2;
            }
            [c, ..] if is_word(*c) => {
                let length = until(rest, |it| !is_word(it[0]));
                tokens.push(rest[..length].iter().collect());
                at += length;
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                at += 1;
            }
            [] => {}
        }
    }
    without_tests(&tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many characters come before the place where `ends` holds.
fn until(chars: &[char], ends: impl Fn(&[char]) -> bool) -> usize {
    (0..chars.len())
        .find(|at| ends(&chars[*at..]))
        .unwrap_or(chars.len())
}

/// The length of a text or character that begins here, with its quotes.
fn quoted(chars: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw or byte text that begins here.
fn raw_text(chars: &[char]) -> Option<usize> {
    let prefix = until(chars, |it| !matches!(it[0], 'r' | 'b'));
    let hashes = until(&chars[prefix..], |it| it[0] != '#');
    let opened = prefix + hashes;
    if chars.get(opened) != Some(&'"') {
        return None;
    }
    if chars[..prefix] == ['b'] {
        return (hashes == 0).then(|| prefix + quoted(&chars[prefix..], '"'));
    }
    let mut end = vec!['"'];
    end.extend(vec!['#'; hashes]);
    Some(opened + 1 + until(&chars[opened + 1..], |it| it.starts_with(&end)) + end.len())
}

/// Leaves out each item that is marked with `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens.len() - at >= MARK.len()
            && MARK
                .iter()
                .zip(&tokens[at..])
                .all(|(mark, token)| token == mark);
        if marked {
            at += item(&tokens[at + MARK.len()..]) + MARK.len();
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// How many tokens the item has that begins here: to its `;`, or to the end of its braces.
fn item(tokens: &[String]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}
