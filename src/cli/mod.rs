//! The command line around the library: arguments, log, signals, exit codes.

pub(crate) mod arg_errors;
mod args;
mod commands;
mod config_flags;
pub(crate) mod exit;
mod logging;
mod progress;
mod session;
mod systemd;
mod tally;
mod terminal;

pub use arg_errors::answer as usage_error;
pub use args::{load_settings, main};
pub use config_flags::GlobalFlags;
pub use exit::{Failure, INTERRUPTED, end, leave};
pub use terminal::obey_no_color;
