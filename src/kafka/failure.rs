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

/// Judges what the producer says about a record: at once, or in its report. The producer retries without end whatever a retry can cure, so this is final
/// for the record.
///
/// What is not known to be a row's fault is the cluster's: to wait and to send again loses nothing, to convict might. Each code of the library stands
/// in its group; the last arm is for those that a later version adds, and a test asks to look through them when the version changes.
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
        | Code::UnsupportedForMessageFormat
        // A broker that has just started may not know its topics yet.
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId => Verdict::Suspect,

        Code::PurgeQueue | Code::PurgeInflight => Verdict::Purged,

        // Idempotence is lost, or somebody fenced us: this producer can send nothing more.
        Code::Fatal
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::GaplessGuarantee
        | Code::InvalidTransactionalState
        | Code::InvalidTransactionTimeout
        | Code::ConcurrentTransactions
        | Code::TransactionCoordinatorFenced
        | Code::TransactionalIdAuthorizationFailed
        // The cluster is away, or in no state to take anything.
        | Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::UnknownBroker
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::RequestTimedOut
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::InvalidRequiredAcks
        | Code::KafkaStorageError
        | Code::LogDirNotFound
        | Code::ThrottlingQuotaExceeded
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleBrokerEpoch
        | Code::StaleControllerEpoch
        | Code::NotController
        | Code::ReassignmentInProgress
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::ListenerNotFound
        | Code::InconsistentVoterSet
        | Code::InvalidUpdateVersion
        | Code::FeatureUpdateFailed
        | Code::RebootstrapRequired
        // We may not speak to it, or not in this way.
        | Code::Resolve
        | Code::SSL
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::ClusterAuthorizationFailed
        | Code::SecurityDisabled
        | Code::PrincipalDeserializationFailure
        | Code::InvalidPrincipalType
        | Code::UnacceptableCredential
        | Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedCompressionType
        | Code::UnknownProtocol
        // The library or its machine is in trouble.
        | Code::BadMessage
        | Code::BadCompression
        | Code::Fail
        | Code::CriticalSystemResource
        | Code::FileSystem
        | Code::InvalidArgument
        | Code::QueueFull
        | Code::NodeUpdate
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Conflict
        | Code::State
        | Code::NotImplemented
        | Code::Outdated
        | Code::WaitCache
        | Code::Interrupted
        | Code::KeySerialization
        | Code::ValueSerialization
        | Code::KeyDeserialization
        | Code::ValueDeserialization
        | Code::Partial
        | Code::ReadOnly
        | Code::NoEnt
        | Code::Underflow
        | Code::InvalidType
        | Code::Retry
        | Code::Inconsistent
        | Code::NotConfigured
        | Code::Application
        | Code::Noop
        | Code::Unknown
        | Code::InvalidRequest
        | Code::OperationNotAttempted
        // A word to consumers, groups or administrators: none of them should come here.
        | Code::PartitionEOF
        | Code::WaitingForCoordinator
        | Code::UnknownGroup
        | Code::ExistingSubscription
        | Code::AssignPartitions
        | Code::RevokePartitions
        | Code::NoOffset
        | Code::PollExceeded
        | Code::AssignmentLost
        | Code::AutoOffsetReset
        | Code::LogTruncation
        | Code::OffsetOutOfRange
        | Code::OffsetMetadataTooLarge
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::IllegalGeneration
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::UnknownMemberId
        | Code::InvalidSessionTimeout
        | Code::RebalanceInProgress
        | Code::InvalidCommitOffsetSize
        | Code::GroupAuthorizationFailed
        | Code::TopicAlreadyExists
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::NonEmptyGroup
        | Code::GroupIdNotFound
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::TopicDeletionDisabled
        | Code::OffsetNotAvailable
        | Code::MemberIdRequired
        | Code::GroupMaxSizeReached
        | Code::FencedInstanceId
        | Code::ElectionNotNeeded
        | Code::NoReassignmentInProgress
        | Code::GroupSubscribedToTopic
        | Code::UnstableOffsetCommit
        | Code::ResourceNotFound
        | Code::DuplicateResource
        | Code::FencedMemberEpoch
        | Code::UnreleasedInstanceId
        | Code::UnsupportedAssignor
        | Code::StaleMemberEpoch
        | Code::UnknownSubscriptionId
        | Code::TelemetryTooLarge
        // No failures at all: the ends of the list, and success.
        | Code::Begin
        | Code::End
        | Code::EndAll
        | Code::NoError
        | _ => Verdict::Producer,
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
        use Verdict::{Producer, Purged, Row, Suspect};
        for (verdict, codes) in [
            (
                Row,
                &[Code::InvalidTopic, Code::TopicAuthorizationFailed][..],
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
                    Code::UnknownTopic,
                    Code::UnknownTopicOrPartition,
                    Code::UnknownPartition,
                    Code::UnknownTopicId,
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

    /// The library may add codes without breaking a match over them.
    #[test]
    fn the_codes_are_those_of_the_version_that_was_looked_through() {
        let lock = include_str!("../../Cargo.lock");
        assert!(
            lock.contains("name = \"rdkafka-sys\"\nversion = \"4.10.0+2.12.1\""),
            "another version of librdkafka: add its new codes to `decide`, then correct this line"
        );
    }
}
