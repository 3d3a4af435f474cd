//! The only place with rdkafka.
//!
//! | file | what |
//! |---|---|
//! | `producer` | the idempotent producer |
//! | `polled` | the producer's thread |
//! | `record` | a row's headers and timestamp |
//! | `reports` | delivery reports, from librdkafka's thread to whoever deletes |
//! | `condition` | what is known about the brokers without asking them |
//! | `failure` | from a failed record to what is done about it |
//! | `topics` | limits of topics |
//! | `admin` | the client that asks about topics and makes them |
//! | `token` | the token for OAUTHBEARER, from its file |
//! | `trouble` | whether brokers that do not answer are away, or refuse us |
//! | `transactions` | what a producer does in a transaction |
//! | `receipt` | what a transaction says about its rows, as bytes (pure) |
//! | `receipts` | where receipts are kept and read |
//! | `history` | what is in a topic, from one offset to another, for `doorbell verify` |
//! | `grants` | what `doorbell check` asks for the mode exactly-once: rights, without using them |
//! | `survey`, `probe`, `ear` | what `doorbell check` asks, whether the relay could write, and what the library says |
//! | `scratch`, `consumer` | what the benchmark does: its own topics, and when records arrive |

mod admin;
mod condition;
mod consumer;
mod ear;
mod failure;
mod grants;
mod history;
mod polled;
mod probe;
mod producer;
mod receipt;
mod receipts;
mod record;
mod reports;
mod scratch;
mod survey;
mod token;
mod topics;
mod transactions;
mod trouble;

pub use rdkafka::error::RDKafkaErrorCode as Code;

pub use condition::{Condition, Traffic};
pub use consumer::{Arrival, Arrivals};
pub use failure::{Refusal, Verdict, decide, told};
pub use grants::{Grant, may_create, may_read, may_transact};
pub use history::{History, HistoryError, Range, Record};
pub use probe::Writing;
pub use producer::{Batching, ConfigError, DEFAULT_BATCH_SIZE, Producer, SendError, check, takes};
pub use receipt::{Receipt, Unreadable};
pub use receipts::{Receipts, ReceiptsError};
pub use reports::{Delivered, Reports};
pub use scratch::{ScratchTopics, TopicError, librdkafka_version, scratch_topics};
pub use survey::{Cluster, SurveyError, Topic, TopicSettings, TopicState, survey};
pub use topics::Topics;
pub use transactions::{CALL_PATIENCE, TransactionError, Trouble};
pub use trouble::Silence;
