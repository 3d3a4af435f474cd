//! Transactions of a producer. Every call blocks; beginning a transaction takes microseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::idempotent::{Batching, Producer, SendError, configured};
use super::poll_thread::QueuedRecord;
use super::record::RecordHeaders;
use super::reports::Reports;
use crate::config::Kafka;
use crate::kafka::client::ClientConfigError;

/// Time-out of one call. Between calls the caller checks whether it must stop.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a broker keeps a transaction open without hearing of it. With less than a minute, a
/// mere restart of a broker would abort transactions.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Time-out of the last abort of a term, which a stop waits for.
const AT_LAST: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionErrorKind {
    Retry,
    Abort,
    /// Another producer uses the same transactional id now.
    Fenced,
    Forbidden,
    Unsupported,
    /// The brokers allow no transaction of a minute.
    TooLong,
    /// The producer has failed, and the outcome of the transaction is unknown.
    Unknown,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct TransactionError {
    pub kind: TransactionErrorKind,
    pub code: Option<Code>,
    pub reason: String,
}

impl From<KafkaError> for TransactionError {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        use TransactionErrorKind as Kind;
        let kind = match (&error, code) {
            (_, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)) => {
                Kind::Fenced
            }
            (
                _,
                Some(Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed),
            ) => Kind::Forbidden,
            (_, Some(Code::InvalidTransactionTimeout)) => Kind::TooLong,
            (_, Some(Code::UnsupportedFeature | Code::UnsupportedVersion)) => Kind::Unsupported,
            (KafkaError::Transaction(inner), _) if inner.is_fatal() => Kind::Unknown,
            (KafkaError::Transaction(inner), _) if inner.txn_requires_abort() => Kind::Abort,
            (KafkaError::Transaction(inner), _) if inner.is_retriable() => Kind::Retry,
            (KafkaError::Flush(_), _) => Kind::Retry,
            _ => Kind::Unknown,
        };
        let reason = match error {
            KafkaError::Transaction(inner) => inner.string(),
            other => other.to_string(),
        };
        Self { kind, code, reason }
    }
}

impl Producer {
    /// Builds a producer for transactions. Contacts no broker.
    pub(crate) fn transactional(
        kafka: &Kafka,
        headers: RecordHeaders,
        bounds: (usize, usize),
        batching: Batching,
        reports: Arc<Reports>,
        id: &str,
    ) -> Result<Self, ClientConfigError> {
        let mut config = configured(kafka, bounds, batching);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TIMEOUT.as_millis().to_string());
        if !kafka.properties.contains_key("socket.timeout.ms") {
            config.set("socket.timeout.ms", "10000");
        }
        Self::of(kafka, headers, &config, reports)
    }

    /// Becomes the only producer with its transactional id: aborts the transaction of an earlier
    /// one, and fences it. If that takes longer than `wait`, it continues by itself, and the next
    /// call waits for it.
    pub(crate) fn init_transactions(&self, wait: Duration) -> Result<(), TransactionError> {
        Ok(self.inner.producer().init_transactions(wait)?)
    }

    pub(crate) fn begin(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().begin_transaction()?)
    }

    /// Returns whether the open transaction can still be committed. No report tells that a
    /// partition could not be added to it.
    pub(crate) fn is_healthy(&self) -> Result<(), TransactionError> {
        // Beginning a second transaction is refused, with the reason.
        match self.inner.producer().begin_transaction().err() {
            Some(error) if error.rdkafka_error_code() == Some(Code::State) => Ok(()),
            Some(error) => Err(error.into()),
            None => Err(TransactionError {
                kind: TransactionErrorKind::Unknown,
                code: None,
                reason: "no transaction was open".into(),
            }),
        }
    }

    /// Sends a record about the transaction itself to the one partition of the receipts. Its report
    /// carries `ticket`.
    pub(crate) fn send_receipt(
        &self,
        topic: &str,
        key: &str,
        value: &[u8],
        ticket: usize,
    ) -> Result<(), SendError> {
        let record = QueuedRecord {
            topic,
            partition: Some(0),
            payload: Some(value),
            key: Some(key.as_bytes()),
            timestamp: None,
            headers: None,
            delivery_opaque: ticket,
        };
        self.hand_over(record)
    }

    /// Commits. All reports must have arrived. If the answer does not come in time, the next call
    /// continues to wait for it.
    pub(crate) fn commit(&self, wait: Duration) -> Result<(), TransactionError> {
        self.await_empty_queue(wait);
        Ok(self.inner.producer().commit_transaction(wait)?)
    }

    /// Aborts. Records that were not delivered come back as purged.
    pub(crate) fn abort(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().abort_transaction(CALL_PATIENCE)?)
    }

    /// Aborts when nothing waits any more for what was sent. If no broker answers soon, the next
    /// producer with the same id aborts the transaction, or its time-out does.
    pub(crate) fn abort_at_last(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().abort_transaction(AT_LAST)?)
    }

    /// The library's flush sleeps for 100 ms when it finds a report that was taken but not yet
    /// released, which takes microseconds.
    fn await_empty_queue(&self, wait: Duration) {
        let begun = Instant::now();
        while self.inner.producer().in_flight_count() > 0 && begun.elapsed() < wait {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use uuid::Uuid;

    use super::*;
    use crate::config::Outbox;
    use crate::event::OutboxId;

    fn producer(brokers: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Producer {
        let kafka = Kafka {
            brokers: brokers.bootstrap_servers(),
            ..Kafka::default()
        };
        let headers = RecordHeaders::new(OutboxId(Uuid::nil()), &Outbox::default());
        let batching = Batching::UpTo(1_000);
        let producer =
            Producer::transactional(&kafka, headers, (10, 1_000), batching, Arc::default(), "x");
        producer.expect("a producer")
    }

    /// Returns what a broker of this kind answers to a producer that wants to begin. No healthy
    /// broker does so on request.
    fn answer(
        prepare: impl FnOnce(&MockCluster<'_, rdkafka::producer::DefaultProducerContext>),
    ) -> TransactionError {
        let brokers = MockCluster::new(1).expect("a mock cluster");
        prepare(&brokers);
        let producer = producer(&brokers);
        loop {
            match producer.init_transactions(CALL_PATIENCE) {
                Ok(()) => panic!("it must be refused"),
                Err(error) if error.kind == TransactionErrorKind::Retry => {}
                Err(error) => return error,
            }
        }
    }

    #[test]
    fn a_producer_that_was_shut_out_says_so_when_it_is_given_a_record() {
        let brokers = MockCluster::new(1).expect("a mock cluster");
        brokers.create_topic("t", 1, 1).expect("a topic");
        let producer = producer(&brokers);
        while let Err(error) = producer.init_transactions(CALL_PATIENCE) {
            assert_eq!(error.kind, TransactionErrorKind::Retry, "{error:?}");
        }
        producer.begin().expect("a transaction");
        let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
        brokers.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[fenced]);
        let begun = Instant::now();
        let error = loop {
            match producer.send_receipt("t", "k", b"v", 0) {
                Ok(()) | Err(SendError::QueueFull) => {
                    assert!(begun.elapsed() < CALL_PATIENCE, "it never heard of it");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Fenced(_)), "{error:?}");
    }

    #[test]
    fn brokers_without_transactions_and_users_without_the_right_are_told_apart() {
        let old = answer(|brokers| {
            brokers
                .apiversion(RDKafkaApiKey::InitProducerId, None, None)
                .expect("a broker that is too old");
        });
        assert_eq!(old.kind, TransactionErrorKind::Unsupported, "{old:?}");
        for (code, kind) in [
            (
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                TransactionErrorKind::Forbidden,
            ),
            (
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
                TransactionErrorKind::Fenced,
            ),
            (
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
                TransactionErrorKind::TooLong,
            ),
        ] {
            let error =
                answer(|brokers| brokers.request_errors(RDKafkaApiKey::InitProducerId, &[code]));
            assert_eq!(error.kind, kind, "{error:?}");
        }
    }
}
