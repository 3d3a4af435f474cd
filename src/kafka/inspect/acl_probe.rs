//! Checks ACLs that the mode exactly-once needs without using them: the broker checks the ACL of
//! each request, and then refuses the request for another reason.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::diagnostic_client::{config, open};
use crate::config::Kafka;
use crate::kafka::admin::Admin;
use crate::kafka::client::ClientConfigError;
use crate::kafka::consumer::client::{isolated, passes};

const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(100);
/// No broker allows a transaction to take so long (transaction.max.timeout.ms is 15 minutes) unless
/// it is configured to. Then the producer that uses the id is fenced, as docs/check.md says.
const NEVER: &str = "2147483647";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AclAnswer {
    Given,
    Denied(String),
    Untold(String),
}

impl AclAnswer {
    /// Interprets a broker's answer. `good` lists the codes that only an authorized user gets.
    fn of(code: Option<Code>, good: &[Code], words: &impl ToString) -> Self {
        match code {
            Some(code) if good.contains(&code) => Self::Given,
            Some(
                Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => Self::Denied(words.to_string()),
            _ => Self::Untold(words.to_string()),
        }
    }
}

/// Checks whether this user may use a transactional id. The producer asks for a time-out that no
/// broker allows. The broker checks the ACL first, and a producer that uses the id now is not
/// disturbed. Blocks.
pub(crate) fn may_transact(kafka: &Kafka, id: &str) -> Result<AclAnswer, ClientConfigError> {
    let mut config = config(kafka);
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", NEVER);
    let producer = open(&config, kafka)?;
    // A token that is needed is requested here.
    producer.poll(Duration::ZERO);
    Ok(match producer.init_transactions(PATIENCE) {
        Ok(()) => AclAnswer::Given,
        Err(error) => {
            let words = match &error {
                KafkaError::Transaction(inner) => inner.string(),
                other => other.to_string(),
            };
            let code = error.rdkafka_error_code();
            AclAnswer::of(code, &[Code::InvalidTransactionTimeout], &words)
        }
    })
}

/// Checks whether this user may create a topic: the brokers only validate the request.
pub(crate) async fn may_create(kafka: &Kafka, topic: &str) -> Result<AclAnswer, ClientConfigError> {
    let admin = Admin::with(&mut config(kafka), kafka)?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1));
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .validate_only(true);
    Ok(match admin.get().create_topics(&[new], &options).await {
        Ok(answer) => match answer.into_iter().next() {
            Some(Err((_, code))) => AclAnswer::of(Some(code), &[Code::TopicAlreadyExists], &code),
            Some(Ok(_)) => AclAnswer::Given,
            None => AclAnswer::Untold("no answer".into()),
        },
        Err(error) => AclAnswer::of(error.rdkafka_error_code(), &[], &error),
    })
}

/// Checks whether this user may read the first partition of a topic: it reads from the end, where
/// there is nothing. Blocks.
pub(crate) fn may_read(kafka: &Kafka, topic: &str) -> Result<AclAnswer, ClientConfigError> {
    let consumer = isolated(kafka, "read_uncommitted")?;
    let mut list = TopicPartitionList::new();
    let assigned = list
        .add_partition_offset(topic, 0, Offset::End)
        .and_then(|()| consumer.assign(&list));
    if let Err(error) = assigned {
        return Ok(AclAnswer::Untold(error.to_string()));
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match consumer.poll(TURN) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(AclAnswer::Given),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(code) if passes(code) => {}
                code => return Ok(AclAnswer::of(code, &[], &error)),
            },
        }
    }
    Ok(AclAnswer::Untold("no broker answered in time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_brokers_say_is_told_apart() {
        let of = |code| AclAnswer::of(Some(code), &[Code::InvalidTransactionTimeout], &"words");
        assert_eq!(of(Code::InvalidTransactionTimeout), AclAnswer::Given);
        for code in [
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ] {
            assert_eq!(of(code), AclAnswer::Denied("words".into()));
        }
        for code in [Code::OperationTimedOut, Code::CoordinatorNotAvailable] {
            assert_eq!(of(code), AclAnswer::Untold("words".into()));
        }
    }
}
