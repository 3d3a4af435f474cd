//! The only place with rdkafka.
//!
//! | file | what |
//! |---|---|
//! | `producer` | the idempotent producer |
//! | `record` | a row's headers and timestamp |
//! | `reports` | delivery reports, from librdkafka's thread to whoever deletes |
//! | `failure` | from a failed record to what is done about it |
//! | `topics` | limits of topics |

mod failure;
mod producer;
mod record;
mod reports;
mod topics;

pub use failure::{Verdict, decide};
pub use producer::{Batching, ConfigError, DEFAULT_BATCH_SIZE, Producer, SendError};
pub use reports::{Delivered, Reports};
pub use topics::Topics;
