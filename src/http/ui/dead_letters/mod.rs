//! The pages below `/dead`: list dead letters as the database has them, show one, retry and drop.
//!
//! | file | what |
//! |---|---|
//! | `handler` | the list, and one letter |
//! | `actions` | retries and drops, after a question |
//! | `query` | the filter, which is part of the address of each page |
//! | `view` | contents of the templates |

pub(crate) mod actions;
pub(crate) mod handler;
mod query;
mod view;
