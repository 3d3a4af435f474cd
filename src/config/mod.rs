//! Settings: from flags, environment and file to checked values, with every error reported at once.
//!
//! A value comes from the first source that gives it: flag, then environment, then file, then
//! default. Nothing here opens a connection, and no error repeats a secret.
//!
//! - `settings`: the result, [`Settings`], with its defaults and bounds
//! - `types`: values with rules of their own: URLs, table names, topics, columns
//! - `keys`, `key`: the table of all keys, and what a key is; everything below walks over it
//! - `flags`: the flags that stand for keys, and what the command line says
//! - `file`: the TOML file, each value with its line
//! - `layer`: what one source says, or several laid over each other
//! - `validate`: the merged texts become settings, or errors
//! - `load`: the ways to settings: flags over environment over file
//! - `effective`: the effective values, with their origins and without secrets
//! - `routes`: the routes of an outbox, and what follows from all of them
//! - `errors`: what is wrong, where, and what to do
//! - `tests`: whole configurations, from the text to the settings or the errors

mod effective;
mod errors;
mod file;
mod flags;
mod key;
mod keys;
mod layer;
mod load;
mod routes;
mod settings;
#[cfg(test)]
mod tests;
mod types;
mod validate;

pub(crate) use effective::Effective;
pub(crate) use errors::meant;
pub use errors::{ConfigError, ConfigErrors, Origin};
pub(crate) use flags::{Flag, FlagGroup, Overrides};
pub use load::Variables;
pub(crate) use load::check_properties;
pub(crate) use settings::defaults;
pub use settings::{
    Database, Delivery, Http, Kafka, Outbox, Poison, Profile, RecordTime, Settings, Telemetry,
    Transactions,
};
pub(crate) use types::addresses::is_local;
pub use types::{Columns, DatabaseUrl, Listen, Route, RouteRule, TableName, TopicPatterns};
pub(crate) use types::{LONGEST_NAME, Optional, PROPERTIES, check_topic};
pub(crate) use types::{RouteInput, TopicPart};
pub(crate) use validate::Needs;
