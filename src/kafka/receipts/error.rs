//! Why receipts cannot be used.

use crate::kafka::client::ClientConfigError;

/// Why receipts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptsError {
    /// The brokers do not answer now.
    #[error("the receipts in topic {topic} are unreachable: {reason}")]
    Unreachable { topic: String, reason: String },
    /// The configuration for Kafka cannot be used.
    #[error(transparent)]
    Config(#[from] ClientConfigError),
    /// The topic is not what it must be.
    #[error("topic {topic} cannot hold receipts: {problem}; {remedy}")]
    Unusable {
        topic: String,
        problem: String,
        remedy: String,
    },
    /// An ACL is missing.
    #[error(
        "Kafka denies this user {right} on topic {topic}, which receipts need; grant it: kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:... --operation {right} --topic {topic}"
    )]
    Forbidden {
        brokers: String,
        topic: String,
        /// The operation, by Kafka's name.
        right: &'static str,
    },
    /// The relay stops, so the receipts are no longer needed.
    #[error("reading the receipts was cancelled")]
    Cancelled,
}
