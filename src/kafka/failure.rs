//! From a failed record to what is done about it: one pure function.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What a failure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This row can never be taken.
    Row,
    /// Some row of its batch cannot be taken, or its topic is not known now: it is sent once more, alone, and what happens then decides.
    Suspect,
    /// We threw the record out of the producer ourselves.
    Purged,
    /// Nobody's row is at fault: the producer is of no more use, a new one sends what is left.
    Producer,
}

/// Judges a delivery report. The producer retries without end whatever a retry can cure, so what arrives here is final for its record.
///
/// What is not known to be a row's fault is the cluster's: to wait and to send again loses nothing, to convict might.
pub fn decide(code: Code) -> Verdict {
    match code {
        // Sure for each row by itself: the name of its topic, or the right to write to it.
        Code::InvalidTopic | Code::TopicAuthorizationFailed => Verdict::Row,
        // The broker judged the whole batch; the innocent came back with the guilty.
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat => Verdict::Suspect,
        // A broker that has just started may not know its topics yet.
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Verdict::Suspect
        }
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,
        _ => Verdict::Producer,
    }
}

/// A failure as it is written down: librdkafka's name of its code, and its words.
pub fn told(code: Code) -> Refusal {
    Refusal {
        code: format!("{code:?}"),
        reason: code.to_string(),
    }
}

/// Why a row was refused, for whoever looks after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word: the same for the same cause.
    pub code: String,
    /// What is wrong, in words.
    pub reason: String,
}

impl Refusal {
    /// The name of its topic cannot be one.
    pub fn topic(reason: impl Into<String>) -> Self {
        Self {
            code: format!("{:?}", Code::InvalidTopic),
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (code, verdict) in [
            (Code::InvalidTopic, Verdict::Row),
            (Code::TopicAuthorizationFailed, Verdict::Row),
            (Code::MessageSizeTooLarge, Verdict::Suspect),
            (Code::InvalidRecord, Verdict::Suspect),
            (Code::InvalidDifferentRecord, Verdict::Suspect),
            (Code::UnknownTopicOrPartition, Verdict::Suspect),
            (Code::PurgeInflight, Verdict::Purged),
            (Code::Fatal, Verdict::Producer),
            (Code::OutOfOrderSequenceNumber, Verdict::Producer),
            (Code::NotEnoughReplicas, Verdict::Producer),
            (Code::Unknown, Verdict::Producer),
        ] {
            assert_eq!(decide(code), verdict, "{code:?}");
        }
    }
}
