//! Why a relay cannot go on.

use crate::kafka::{ClientConfigError, ReceiptsError};
use crate::postgres::Error;

/// The error that ended a relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// PostgreSQL refused, or was unreachable for longer than the start timeout.
    #[error(transparent)]
    Postgres(#[from] Error),
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ClientConfigError),
    /// The table's name now stands for another table, or for none.
    #[error("the table was dropped or replaced")]
    TableChanged,
    /// What is configured does not fit the table.
    #[error("{0}")]
    Route(String),
    /// Kafka was unreachable for longer than the start timeout.
    #[error(
        "Kafka at {0}; check kafka.brokers, and that the broker's advertised.listeners can be reached from here"
    )]
    KafkaAway(String),
    /// Kafka refused the login or the certificates, or the relay refused Kafka's certificate.
    #[error("{0}")]
    KafkaRefused(String),
    /// Kafka can never take a row, and the policy is to stop.
    #[error(
        "row {id} cannot be sent: {reason}; nothing behind it is fetched, since {policy}: correct or delete the row, or set the policy to park"
    )]
    Poison {
        /// The row's id.
        id: i64,
        /// Kafka's reason.
        reason: String,
        /// Why no other row is sent.
        policy: String,
    },
    /// The relay was to drain the outbox, and another relay leads.
    #[error(
        "another relay leads the outbox {0}: let it drain the table by itself, or stop it first; `doorbell status` says where it runs"
    )]
    Led(String),
    /// The relay was to drain the outbox, which is paused.
    #[error(
        "the outbox {0} is paused: nothing can leave it before `doorbell resume --table '{0}'`"
    )]
    Paused(String),
    /// The relay was to drain the outbox, and was stopped before.
    #[error(
        "stopped before the outbox {0} was drained: what was in flight is settled, the other rows are still in the table"
    )]
    NotDrained(String),
    /// The receipts of the exactly-once mode cannot be used.
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
        /// The broker's reason.
        reason: String,
    },
    /// The brokers are too old.
    #[error(
        "Kafka has no transactions: {0}; upgrade the brokers, or relay with delivery = \"at-least-once\""
    )]
    NoTransactions(String),
    /// The brokers allow no transaction of a minute.
    #[error(
        "Kafka allows no transaction of 60 s, which the mode exactly-once asks for: set transaction.max.timeout.ms of the brokers to 60000 or more, or relay with delivery = \"at-least-once\""
    )]
    ShortTransactions,
    /// A task of the relay panicked.
    #[error("a task of the relay failed: {0}; this is a defect of Doorbell")]
    Defect(String),
    /// Rows in flight were not settled within the stop timeout.
    #[error(
        "rows in flight that were not settled in time: {0}; left in the table, to be sent again"
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
                    | ReceiptsError::Unusable { .. }
                    | ReceiptsError::Forbidden { .. }
            ),
            Self::Config(_)
            | Self::KafkaRefused(_)
            | Self::Receipts { .. }
            | Self::Forbidden { .. }
            | Self::NoTransactions(_)
            | Self::ShortTransactions
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
