//! The pages: one folder each, with handler, view and templates. `frame.html` is the frame of all.
//! `delivered` responds to programs.

mod advice;
mod code;
pub(super) mod dead_letters;
pub(super) mod delivered;
mod frame;
mod note;
pub(super) mod overview;
pub(super) mod pause;
pub(super) mod relays;
pub(super) mod runbook;

pub(super) use frame::{About, Here, Login, Page};
pub(super) use note::note;
