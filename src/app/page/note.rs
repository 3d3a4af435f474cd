//! A page that says one thing.

use askama::Template;

#[derive(Template)]
#[template(path = "note.html")]
struct Note<'a> {
    words: &'a str,
}

/// Why there is nothing else to see.
pub(in crate::app) fn note(words: &str) -> askama::Result<String> {
    Note { words }.render()
}
