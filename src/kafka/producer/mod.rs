//! The producer, and how a row becomes a record.
//!
//! | file | what |
//! |---|---|
//! | `idempotent`, `transactional` | the producer, without transactions and with them |
//! | `record` | a row's headers and timestamp |
//! | `copier` | sends records of a topic again, for `doorbell replay` |
//! | `poll_thread`, `callbacks` | its thread, and what librdkafka calls on it |
//! | `reports` | delivery reports, from that thread to the settler |
//! | `topic_limits` | `max.message.bytes` of topics |

pub(crate) mod callbacks;
pub(crate) mod copier;
pub(crate) mod idempotent;
pub(crate) mod poll_thread;
mod properties;
pub(crate) mod record;
pub(crate) mod reports;
pub(crate) mod topic_limits;
pub(crate) mod transactional;
