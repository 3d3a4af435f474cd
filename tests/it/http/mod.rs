//! The HTTP port: endpoints for programs, and the page.

mod bounds;
mod browser;
mod dead_letter_actions;
mod dead_letters;
mod endpoints;
mod page;
mod probe;
mod readiness;
mod waiting;
