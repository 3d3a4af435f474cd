//! Values with rules of their own.
//!
//! - `database_url`, `url_parameters`: the URL of the database, and what its parameters may say
//! - `table_name`: a table's name as SQL writes it
//! - `columns`: the columns of an outbox table
//! - `route`: the template of a topic, and Kafka's rule for topic names
//! - `route_rule`: a pattern, and the topic of rows whose column matches it
//! - `topic_patterns`: the topics that rows may go to
//! - `addresses`: Kafka's brokers, the HTTP listener, an OpenTelemetry collector
//! - `properties`: the librdkafka properties that Doorbell sets itself, and those that name files
//! - `secret`: a secret, or the file that holds it
//! - `values`: durations, sizes, counts, and texts with a limit

pub(super) mod addresses;
mod columns;
mod database_url;
pub(super) mod properties;
mod route;
mod route_rule;
mod secret;
mod table_name;
mod topic_patterns;
mod url_parameters;
pub(super) mod values;

pub use addresses::Listen;
pub use columns::Columns;
pub(super) use columns::KEYS as COLUMNS;
pub(crate) use columns::{Optional, PROPERTIES};
pub use database_url::DatabaseUrl;
pub use route::Route;
pub(crate) use route::TopicPart;
pub(crate) use route::check_topic;
pub(crate) use route_rule::RouteInput;
pub use route_rule::RouteRule;
pub(super) use route_rule::pattern;
pub(super) use secret::Secret;
pub(crate) use table_name::LONGEST as LONGEST_NAME;
pub use table_name::TableName;
pub use topic_patterns::TopicPatterns;
