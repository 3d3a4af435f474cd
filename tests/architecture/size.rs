//! Folders of few files, and one name for one thing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::circles::crates;
use super::source::{rust_files, tokens};

/// Files with Rust code that one folder may hold.
const MOST_FILES: usize = 14;

/// Types of which a feature selects one.
const ALTERNATIVES: &[&str] = &["Traces"];

#[test]
fn a_folder_holds_few_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    let rooms = ["src", "crates", "tests"].map(|it| root.join(it));
    for room in rooms.iter().filter(|room| room.is_dir()) {
        for file in rust_files(room) {
            let folder = file.strip_prefix(root).expect("below the root").parent();
            let folder = folder.and_then(Path::to_str).expect("a folder").to_owned();
            *folders.entry(folder).or_default() += 1;
        }
    }
    folders.retain(|_, files| *files > MOST_FILES);
    assert!(
        folders.is_empty(),
        "more than {MOST_FILES} files: {folders:?}"
    );
}

#[test]
fn one_name_stands_for_one_type() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut twice = BTreeMap::new();
    for of in crates() {
        let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in of.files() {
            let text = fs::read_to_string(root.join(file)).expect("a file");
            for name in types_of(&tokens(&text)) {
                types.entry(name).or_default().push(file.to_owned());
            }
        }
        types.retain(|name, files| files.len() > 1 && !ALTERNATIVES.contains(&name.as_str()));
        twice.extend(types);
    }
    assert!(twice.is_empty(), "types of one name: {twice:#?}");
}

/// Returns the structs, enums and traits of a file that other files can name, without those inside
/// functions and macros.
fn types_of(tokens: &[String]) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    for words in tokens.windows(3) {
        let seen = matches!(words[0].as_str(), "pub" | ")");
        match words[1].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            "struct" | "enum" | "trait" if depth == 0 && seen => names.push(words[2].clone()),
            _ => {}
        }
    }
    names
}
