//! The only place with rdkafka.
//!
//! | file | what |
//! |---|---|
//! | `producer` | the idempotent producer |
//! | `record` | a row's headers and timestamp |
//! | `reports` | delivery reports, from librdkafka's thread to whoever deletes |
//! | `failure` | from a failed record to what is done about it |
//! | `topics` | limits of topics |
//! | `scratch`, `consumer` | what the benchmark does: its own topics, and when records arrive |

mod consumer;
mod failure;
mod producer;
mod record;
mod reports;
mod scratch;
mod topics;

pub use consumer::{Arrival, Arrivals};
pub use failure::{Refusal, Verdict, decide, told};
pub use producer::{Batching, ConfigError, DEFAULT_BATCH_SIZE, Producer, SendError};
pub use reports::{Delivered, Reports};
pub use scratch::{ScratchTopics, TopicError, librdkafka_version, scratch_topics};
pub use topics::Topics;
