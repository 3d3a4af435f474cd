//! What a producer does in a transaction. Every call here blocks; that to begin one for microseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::polled::Record;
use super::producer::{Batching, ConfigError, Producer, SendError, configured};
use super::reports::Reports;
use crate::config::Kafka;
use crate::event::OutboxId;

/// For one call: whoever waits for it looks in between whether it is still wanted.
pub const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// So long a broker keeps a transaction open of which it hears nothing. With less than a minute, a restart of a broker alone ends transactions.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The last abort of a term may take so long: a stop waits for it.
const AT_LAST: Duration = Duration::from_secs(3);

/// What a failure of a transaction's step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Not now: the same call again.
    Again,
    /// This transaction can only be aborted.
    Abort,
    /// Another producer uses the same transactional id now.
    Fenced,
    /// The brokers do not allow it to this user.
    Forbidden,
    /// The brokers do not know transactions.
    TooOld,
    /// The producer is of no more use, and what became of the transaction is not known.
    Lost,
}

/// A step of a transaction failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct TransactionError {
    /// What it means.
    pub trouble: Trouble,
    /// librdkafka's code.
    pub code: Option<Code>,
    /// Its words.
    pub reason: String,
}

impl From<KafkaError> for TransactionError {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let trouble = match (&error, code) {
            (_, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)) => {
                Trouble::Fenced
            }
            (
                _,
                Some(Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed),
            ) => Trouble::Forbidden,
            (_, Some(Code::UnsupportedFeature | Code::UnsupportedVersion)) => Trouble::TooOld,
            (KafkaError::Transaction(inner), _) if inner.is_fatal() => Trouble::Lost,
            (KafkaError::Transaction(inner), _) if inner.txn_requires_abort() => Trouble::Abort,
            (KafkaError::Transaction(inner), _) if inner.is_retriable() => Trouble::Again,
            (KafkaError::Flush(_), _) => Trouble::Again,
            _ => Trouble::Lost,
        };
        let reason = match error {
            KafkaError::Transaction(inner) => inner.string(),
            other => other.to_string(),
        };
        Self {
            trouble,
            code,
            reason,
        }
    }
}

impl Producer {
    /// Builds a producer for transactions; nothing is contacted yet.
    pub fn transactional(
        kafka: &Kafka,
        outbox: OutboxId,
        bounds: (usize, usize),
        batching: Batching,
        reports: Arc<Reports>,
        id: &str,
    ) -> Result<Self, ConfigError> {
        let mut config = configured(kafka, bounds, batching);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TIMEOUT.as_millis().to_string());
        if !kafka.properties.contains_key("socket.timeout.ms") {
            config.set("socket.timeout.ms", "10000");
        }
        Self::of(kafka, outbox, &config, reports)
    }

    /// Becomes the only producer with its transactional id: the transaction of an earlier one is ended, and that one is fenced. Where it could not be done
    /// at once, it goes on by itself: the next call waits for that.
    pub fn init_transactions(&self, wait: Duration) -> Result<(), TransactionError> {
        Ok(self.inner.producer().init_transactions(wait)?)
    }

    /// Begins a transaction: no broker hears of it.
    pub fn begin(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().begin_transaction()?)
    }

    /// Whether the transaction that is open can still be committed. A partition that could not be added to it is told in no report.
    pub fn is_healthy(&self) -> Result<(), TransactionError> {
        // To begin a second one is refused, and says why.
        match self.inner.producer().begin_transaction().err() {
            Some(error) if error.rdkafka_error_code() == Some(Code::State) => Ok(()),
            Some(error) => Err(error.into()),
            None => Err(TransactionError {
                trouble: Trouble::Lost,
                code: None,
                reason: "no transaction was open".into(),
            }),
        }
    }

    /// Sends a record about the transaction itself to the one partition of the receipts. The report will carry `ticket`.
    pub fn send_receipt(
        &self,
        topic: &str,
        key: &str,
        value: &[u8],
        ticket: usize,
    ) -> Result<(), SendError> {
        let record = Record {
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

    /// Commits. All reports must have come. Where the answer does not come in time, the next call goes on waiting for it.
    pub fn commit(&self, wait: Duration) -> Result<(), TransactionError> {
        self.await_empty_queue(wait);
        Ok(self.inner.producer().commit_transaction(wait)?)
    }

    /// Aborts; what was not delivered comes back as purged.
    pub fn abort(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().abort_transaction(CALL_PATIENCE)?)
    }

    /// Aborts where nobody waits any more for what was sent. If no broker answers soon, the next producer with the same id ends the transaction, or its time.
    pub fn abort_at_last(&self) -> Result<(), TransactionError> {
        Ok(self.inner.producer().abort_transaction(AT_LAST)?)
    }

    /// The library's flush sleeps for 100 ms where it finds a report that is taken but not yet let go of, which is a matter of microseconds.
    fn await_empty_queue(&self, wait: Duration) {
        let begun = Instant::now();
        while self.inner.producer().in_flight_count() > 0 && begun.elapsed() < wait {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use uuid::Uuid;

    use super::*;

    fn producer(brokers: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Producer {
        let kafka = Kafka {
            brokers: brokers.bootstrap_servers(),
            properties: BTreeMap::new(),
            token_file: None,
        };
        let outbox = OutboxId(Uuid::nil());
        let batching = Batching::UpTo(1_000);
        let producer =
            Producer::transactional(&kafka, outbox, (10, 1_000), batching, Arc::default(), "x");
        producer.expect("a producer")
    }

    /// What a broker of this kind answers to a producer that wants to begin. No healthy broker does so on request.
    fn answer(
        prepare: impl FnOnce(&MockCluster<'_, rdkafka::producer::DefaultProducerContext>),
    ) -> TransactionError {
        let brokers = MockCluster::new(1).expect("a mock cluster");
        prepare(&brokers);
        let producer = producer(&brokers);
        loop {
            match producer.init_transactions(CALL_PATIENCE) {
                Ok(()) => panic!("it must be refused"),
                Err(error) if error.trouble == Trouble::Again => {}
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
            assert_eq!(error.trouble, Trouble::Again, "{error:?}");
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
        assert_eq!(old.trouble, Trouble::TooOld, "{old:?}");
        let forbidden = answer(|brokers| {
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
            brokers.request_errors(RDKafkaApiKey::InitProducerId, &[error]);
        });
        assert_eq!(forbidden.trouble, Trouble::Forbidden, "{forbidden:?}");
        let fenced = answer(|brokers| {
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
            brokers.request_errors(RDKafkaApiKey::InitProducerId, &[error]);
        });
        assert_eq!(fenced.trouble, Trouble::Fenced, "{fenced:?}");
    }
}
