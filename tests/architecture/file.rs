//! What a file declares, brings in by `use` lines, defines and names.

use std::collections::BTreeSet;

/// One name that a `use` line brings in.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// `*` for all.
    pub(crate) name: String,
    pub(crate) passed_on: bool,
}

/// What one file declares, brings in, defines and names.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) imports: Vec<Import>,
    pub(crate) defined: BTreeSet<String>,
    /// Paths in the code, of at least two parts.
    pub(crate) named: Vec<Vec<String>>,
    /// Every word outside of `use` lines.
    pub(crate) words: BTreeSet<String>,
}

/// The file, and the modules that it declares and that have files of their own.
pub(crate) fn parse(path: &str, tokens: &[String]) -> (File, Vec<String>) {
    let mut file = File {
        path: path.to_owned(),
        imports: Vec::new(),
        defined: BTreeSet::new(),
        named: Vec::new(),
        words: BTreeSet::new(),
    };
    let mut children = Vec::new();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut at = 0;
    while at < tokens.len() {
        match token(at) {
            "use" => {
                let end = at + tokens[at..].iter().position(|it| it == ";").unwrap_or(0);
                let passed_on = at > 0 && matches!(token(at - 1), "pub" | ")");
                for (path, name) in branches(&tokens[at + 1..end], &[]) {
                    file.imports.push(Import {
                        path,
                        name,
                        passed_on,
                    });
                }
                at = end;
            }
            "mod" if token(at + 2) == ";" => children.push(token(at + 1).to_owned()),
            "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" | "mod" => {
                file.defined.insert(token(at + 1).to_owned());
            }
            "macro_rules" => {
                file.defined.insert(token(at + 2).to_owned());
            }
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                file.words.insert(word.to_owned());
                let mut path = vec![word.to_owned()];
                while token(at + 1) == "::"
                    && token(at + 2).starts_with(|c: char| c.is_alphabetic())
                {
                    at += 2;
                    path.push(token(at).to_owned());
                }
                if path.len() > 1 {
                    file.named.push(path);
                }
            }
            _ => {}
        }
        at += 1;
    }
    (file, children)
}

/// The names of a `use` line, each with its whole path: `a::{b, c as d}` has `a::b` as `b` and
/// `a::c` as `d`.
fn branches(tokens: &[String], before: &[String]) -> Vec<(Vec<String>, String)> {
    let mut path = before.to_vec();
    let mut rest = tokens;
    while let [word, tail @ ..] = rest {
        match word.as_str() {
            "::" => {}
            "{" => {
                let inner = &tail[..tail.len() - 1];
                let parts = split_at_commas(inner);
                return parts.iter().flat_map(|it| branches(it, &path)).collect();
            }
            "*" => return vec![(path, "*".to_owned())],
            "as" => return vec![(path, tail[0].clone())],
            // `a::{self}` is `a`.
            "self" if !path.is_empty() => {}
            _ => path.push(word.clone()),
        }
        rest = tail;
    }
    match path.last().cloned() {
        Some(name) => vec![(path, name)],
        None => Vec::new(),
    }
}

fn split_at_commas(tokens: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let parts = tokens.split(|token| {
        depth += i32::from(token == "{") - i32::from(token == "}");
        depth == 0 && token == ","
    });
    parts.filter(|part| !part.is_empty()).collect()
}
