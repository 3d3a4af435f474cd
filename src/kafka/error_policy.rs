//! Decides what to do about a record that failed: one pure function.

use rdkafka::types::RDKafkaErrorCode as Code;

/// The brokers do not know the topic, and cannot make it now.
const MISSING: [Code; 6] = [
    Code::UnknownTopic,
    Code::UnknownTopicOrPartition,
    Code::UnknownTopicId,
    Code::InvalidReplicationFactor,
    Code::InvalidPartitions,
    Code::InvalidConfig,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Kafka can never take this row.
    Row,
    /// Kafka cannot take some row of the batch. The row is sent once more, alone, and the outcome
    /// decides.
    Suspect,
    /// The relay purged the record from the producer itself.
    Purged,
    /// No row is at fault. The producer has failed, and a new one sends what is left.
    Producer,
}

/// Judges a failure that the producer reports when it is given a record, or in the delivery report.
/// The producer retries without end whatever a retry can cure, so the failure is final for the
/// record.
///
/// A failure that is not known to be a row's fault is taken as the cluster's: waiting and sending
/// again loses nothing, while rejecting the row might. The last arm holds all such codes, also
/// those that a later version of the library adds. A test asks for a review when the version
/// changes.
pub(crate) fn decide(code: Code) -> Verdict {
    match code {
        // Certain for each row by itself: its topic has an invalid name, the user may not write to
        // it, or the brokers do not know it. A broker that has just started may not know its topics
        // yet: `Refusal::is_missing_topic`.
        Code::InvalidTopic | Code::TopicAuthorizationFailed => Verdict::Row,
        code if MISSING.contains(&code) => Verdict::Row,

        // The broker judged the whole batch: rows that it could take came back with the others.
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::UnknownPartition => Verdict::Suspect,

        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,

        // Everything else: idempotence is lost, another producer fenced this one, the cluster is
        // unreachable or cannot take anything, it refuses this user, or the library has failed.
        _ => Verdict::Producer,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Code of the reason: the same for the same cause.
    pub code: String,
    /// The reason, as a sentence.
    pub reason: String,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self {
            code: format!("{code:?}"),
            reason: match MISSING.contains(&code) {
                true => format!(
                    "{code}: create the topic with kafka-topics.sh --bootstrap-server ... --create --topic ..."
                ),
                false => code.to_string(),
            },
        }
    }
}

impl Refusal {
    /// Whether the brokers do not know the topic, perhaps not yet.
    pub(crate) fn is_missing_topic(&self) -> bool {
        MISSING.iter().any(|code| self.code == format!("{code:?}"))
    }

    /// Whether any row of the topic would be refused.
    pub(crate) fn is_of_topic(&self) -> bool {
        let forbidden = Code::TopicAuthorizationFailed;
        self.is_missing_topic() || self.code == format!("{forbidden:?}")
    }

    /// A refusal that the brokers would give.
    pub(crate) fn foreseen(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code: format!("{code:?}"),
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Verdict::{Producer, Purged, Row, Suspect};
        for (verdict, codes) in [
            (
                Row,
                &[
                    Code::InvalidTopic,
                    Code::TopicAuthorizationFailed,
                    Code::UnknownTopic,
                    Code::UnknownTopicOrPartition,
                    Code::UnknownTopicId,
                    Code::InvalidReplicationFactor,
                ][..],
            ),
            (
                Suspect,
                &[
                    Code::MessageSizeTooLarge,
                    Code::MessageBatchTooLarge,
                    Code::InvalidMessageSize,
                    Code::InvalidMessage,
                    Code::InvalidRecord,
                    Code::InvalidDifferentRecord,
                    Code::InvalidTimestamp,
                    Code::PolicyViolation,
                    Code::UnsupportedForMessageFormat,
                    Code::UnknownPartition,
                ],
            ),
            (Purged, &[Code::PurgeQueue, Code::PurgeInflight]),
            (
                Producer,
                &[
                    Code::Fatal,
                    Code::Fenced,
                    Code::OutOfOrderSequenceNumber,
                    Code::NotEnoughReplicas,
                    Code::ClusterAuthorizationFailed,
                    Code::SaslAuthenticationFailed,
                    Code::MessageTimedOut,
                    Code::LeaderNotAvailable,
                    Code::KafkaStorageError,
                    Code::ThrottlingQuotaExceeded,
                    Code::Unknown,
                    Code::NoError,
                ],
            ),
        ] {
            for code in codes {
                assert_eq!(decide(*code), verdict, "{code:?}");
            }
        }
    }

    /// A new version of the library may add codes that the last arm of the match would take.
    #[test]
    fn the_codes_are_those_of_the_version_that_was_looked_through() {
        let lock = include_str!("../../Cargo.lock");
        assert!(
            lock.contains("name = \"rdkafka-sys\"\nversion = \"4.10.0+2.12.1\""),
            "another version of librdkafka: look through its new codes for `decide`, then correct this line"
        );
    }
}
