//! Settings: from flags, environment and file to checked values, with every fault reported at once.
//!
//! A value is taken from the first layer that gives it: flag, then environment, then file, then default. Nothing here
//! opens a connection, and no fault repeats a secret.
//!
//! - `settings`: the result, [`Settings`], with its defaults and bounds
//! - `database_url`, `table_name`, `route`, `columns`: values with rules of their own
//! - `endpoint`: where spans go
//! - `url_parameters`, `reserved`: what the URL's parameters may say, and the words that SQL keeps for itself
//! - `secret`: a secret, or the file that holds it
//! - `flags`: the command line's part, one definition for flags, help and environment
//! - `file`: the TOML file as a layer, each value with its line
//! - `layers`: what one layer is, and [`Settings::load`]
//! - `settle`: the merged texts become settings
//! - `in_force`: what is in force, with its origin and without its secrets
//! - `properties`: what `[kafka.properties]` may not touch, and the files it names
//! - `values`: durations, sizes and counts as people write them
//! - `faults`: what was wrong, where, and what to do
//! - `tests`: whole configurations, from the text to the settings or the faults

mod columns;
mod database_url;
mod endpoint;
mod faults;
mod file;
mod flags;
mod in_force;
mod layers;
mod properties;
mod reserved;
mod route;
mod secret;
mod settings;
mod settle;
mod table_name;
#[cfg(test)]
mod tests;
mod url_parameters;
mod values;

pub use columns::{Columns, Optional};
pub use database_url::DatabaseUrl;
pub use faults::{Fault, Faults, Origin};
pub use flags::{GlobalFlags, HttpFlags, OutboxFlags, Overrides};
pub use in_force::{InForce, InForceValue, Section, Shown};
pub use layers::Needs;
pub use route::{Route, TopicFault, check_topic};
pub use settings::{
    Database, Delivery, Http, Kafka, Listen, Outbox, Poison, Settings, Telemetry, Transactions,
    defaults,
};
pub use table_name::TableName;
