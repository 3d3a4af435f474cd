//! Dead letters for `doorbell dead` and the page.

mod letter;
mod list;
mod preview;
mod retry;

pub(crate) use letter::{DeadLetter, DeadLetterContents, LetterFilter, Selection};
pub(crate) use list::DeadLetters;
pub(crate) use preview::{DETAIL_CHARS, Facet, LetterRefusal, PREVIEW_CHARS};
