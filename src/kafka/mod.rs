//! The only module with rdkafka.
//!
//! | file or folder | what |
//! |---|---|
//! | `producer` | the producer, and how a row becomes a record |
//! | `consumer` | reads topics, for `doorbell verify` and `replay`, and for receipts |
//! | `receipts` | receipts: their format, and the topic that holds them |
//! | `inspect` | what `doorbell check` asks the brokers |
//! | `error_policy` | decides what to do about a record that failed |
//! | `connect_error` | why no broker answers |
//! | `health` | what is known about the brokers without asking them |
//! | `client`, `admin` | what every client starts from, and the administration client |
//! | `oauth_token` | the token for OAUTHBEARER, from its file |

mod admin;
mod client;
mod connect_error;
mod consumer;
mod error_policy;
mod health;
mod inspect;
mod oauth_token;
mod producer;
mod receipts;

pub(crate) use rdkafka::error::RDKafkaErrorCode as Code;

pub use admin::Admin;
pub(crate) use admin::check;
pub(crate) use client::{
    ClientConfigError, DEFAULT_MESSAGE_BYTES, in_plain, property_fault, takes,
};
pub use connect_error::ConnectError;
pub use consumer::client::{TopicConsumer, metadata, open, reading};
pub(crate) use consumer::client::{is_missing, listed};
pub(crate) use consumer::follower::{FollowedRecord, TopicFollower};
pub(crate) use consumer::topic_reader::{OffsetRange, Record, TopicReader, ago};
pub(crate) use error_policy::{Refusal, Verdict, decide};
pub(crate) use health::{Health, Traffic};
pub(crate) use inspect::acl_probe::{AclAnswer, may_create, may_read, may_transact};
pub(crate) use inspect::cluster::{Cluster, InspectError, Topic, TopicState, inspect};
pub(crate) use inspect::write_probe::WriteAccess;
pub(crate) use producer::copier::Copier;
pub(crate) use producer::idempotent::{
    Batching, DEFAULT_BATCH_SIZE, Producer, SendError, too_large,
};
pub(crate) use producer::record::{RecordHeaders, own_header};
pub(crate) use producer::reports::{Delivered, Reports};
pub(crate) use producer::topic_limits::{TopicFacts, Topics};
pub(crate) use producer::transactional::{
    CALL_PATIENCE, TIMEOUT, TransactionError, TransactionErrorKind,
};
pub(crate) use receipts::error::ReceiptsError;
pub(crate) use receipts::open_transactions::Goals;
pub(crate) use receipts::receipt::Receipt;
pub(crate) use receipts::store::Receipts;
pub(crate) use receipts::topic_setup::LARGEST_RECEIPT;
