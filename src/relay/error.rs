//! Why a relay cannot go on.

use crate::kafka::{ConfigError, ReceiptsError};
use crate::postgres::Error;

/// Why a relay gave up.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// PostgreSQL refuses, or stayed away longer than it was waited for.
    #[error(transparent)]
    Postgres(#[from] Error),
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The name of the table stands for another table now, or for none.
    #[error("the table was dropped or replaced")]
    TableChanged,
    /// What is configured does not fit the table.
    #[error("{0}")]
    Route(String),
    /// Kafka stayed away longer than it was waited for.
    #[error(
        "Kafka at {0}; check kafka.brokers, and that the broker's advertised.listeners can be reached from here"
    )]
    KafkaAway(String),
    /// Kafka refuses the login or the certificates, or we refuse Kafka's.
    #[error("{0}")]
    KafkaRefused(String),
    /// A row that Kafka can never take, and the policy is to stop.
    #[error(
        "row {id} cannot be sent: {reason}; nothing behind it is fetched, since {policy}: correct or delete the row, or set the policy to park"
    )]
    Poison {
        /// The row's id.
        id: i64,
        /// What Kafka said.
        reason: String,
        /// Why the others do not go on.
        policy: String,
    },
    /// It was to drain, and another relay leads.
    #[error(
        "another relay leads the outbox {0}: let it drain the table by itself, or stop it first; `doorbell status` says where it runs"
    )]
    Led(String),
    /// It was to drain, and somebody paused the outbox.
    #[error("the outbox {0} is paused: nothing can leave it before `doorbell resume`")]
    Paused(String),
    /// It was to drain, and was stopped before.
    #[error(
        "stopped before the outbox {0} was drained: what was in flight is settled, the other rows are still in the table"
    )]
    NotDrained(String),
    /// The receipts of the mode exactly-once cannot be used.
    #[error(transparent)]
    Topic(#[from] ReceiptsError),
    /// The receipts and the database do not belong together.
    #[error(
        "outbox {table} and the receipts in topic {topic} do not belong together: {problem}; nothing is sent. To go on with both as they are, which may send events a second time, run `doorbell receipts accept --table '{table}'`"
    )]
    Receipts {
        /// The outbox.
        table: String,
        /// The topic.
        topic: String,
        /// Which of the two is behind.
        problem: &'static str,
    },
    /// Transactions are not allowed.
    #[error(
        "Kafka does not allow transactions: {reason}; grant the user Write and Describe on the transactional id {id}, and IdempotentWrite where brokers ask for it, or relay with delivery = \"at-least-once\""
    )]
    Forbidden {
        /// The transactional id.
        id: String,
        /// The broker's word.
        reason: String,
    },
    /// The brokers are too old.
    #[error(
        "Kafka has no transactions: {0}; upgrade the brokers, or relay with delivery = \"at-least-once\""
    )]
    NoTransactions(String),
    /// A task of the relay panicked.
    #[error("a task of the relay failed: {0}; this is a defect of Doorbell")]
    Defect(String),
    /// The stop came with rows in flight, and its time ran out.
    #[error(
        "{0} rows in flight were not settled in time; they are still in the table and will be sent again"
    )]
    Unsettled(usize),
}

impl RelayError {
    /// Whether waiting cannot help.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_permanent(),
            Self::Topic(error) => matches!(
                error,
                ReceiptsError::Config(_)
                    | ReceiptsError::Wrong { .. }
                    | ReceiptsError::Forbidden { .. }
            ),
            Self::Config(_)
            | Self::KafkaRefused(_)
            | Self::Receipts { .. }
            | Self::Forbidden { .. }
            | Self::NoTransactions(_)
            | Self::Route(_)
            | Self::Unsettled(_)
            | Self::Led(_)
            | Self::Paused(_)
            | Self::NotDrained(_)
            | Self::Poison { .. }
            | Self::Defect(_) => true,
            Self::KafkaAway(_) | Self::TableChanged => false,
        }
    }
}
