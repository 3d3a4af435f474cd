//! One file, or folder, for each command.

pub(super) mod adopt;
pub(super) mod bench;
pub(super) mod check;
pub(super) mod compare;
pub(super) mod completions;
pub(super) mod config;
pub(super) mod dead_letters;
pub(super) mod drain;
pub(super) mod emit;
pub(super) mod health;
pub(super) mod held;
pub(super) mod migrate;
pub(super) mod pause;
pub(super) mod preview;
pub(super) mod receipts;
pub(super) mod replay;
pub(super) mod run;
pub(super) mod status;
pub(super) mod tail;
pub(super) mod verify;
