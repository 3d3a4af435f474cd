//! The page of a request that failed.

use askama::Template;

use super::frame::Page;

#[derive(Template)]
#[template(path = "note.html")]
struct Note<'a> {
    page: Page,
    message: &'a str,
}

pub(crate) fn note(message: &str) -> askama::Result<String> {
    let page = Page::bare();
    Note { page, message }.render()
}
