//! Rights that the mode exactly-once needs, asked for without using them: each request is one that the broker refuses after it has looked at the right.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::admin::Admin;
use super::ear::Ear;
use super::history::{consumer, passes};
use super::producer::{ConfigError, explain};
use super::survey::config;
use crate::config::Kafka;

/// For the brokers' word.
const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(100);
/// No broker lets a transaction take so long (transaction.max.timeout.ms is 15 minutes), unless it was told to: then whoever uses the id is shut out, as
/// docs/check.md says.
const NEVER: &str = "2147483647";

/// Whether the brokers allow something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// They do.
    Given,
    /// They do not.
    Denied(String),
    /// The answer says nothing.
    Untold(String),
}

impl Grant {
    /// By what the broker said; `good` is what it says to whoever has the right.
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

/// Whether this user may use a transactional id. A producer introduces itself with a time-out that no broker allows: whether it may use the id is looked at
/// before that, and whoever uses the id now is not disturbed. Blocks.
pub fn may_transact(kafka: &Kafka, id: &str) -> Result<Grant, ConfigError> {
    let mut config = config(kafka);
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", NEVER);
    let producer: BaseProducer<Ear> = config
        .create_with_context(Ear::of(kafka))
        .map_err(|error| ConfigError(explain(kafka, &error)))?;
    // Where a token is needed, it is asked for here.
    producer.poll(Duration::ZERO);
    Ok(match producer.init_transactions(PATIENCE) {
        Ok(()) => Grant::Given,
        Err(error) => {
            let words = match &error {
                KafkaError::Transaction(inner) => inner.string(),
                other => other.to_string(),
            };
            let code = error.rdkafka_error_code();
            Grant::of(code, &[Code::InvalidTransactionTimeout], &words)
        }
    })
}

/// Whether this user may create a topic: the brokers are asked to look at the request and not to follow it.
pub async fn may_create(kafka: &Kafka, topic: &str) -> Result<Grant, ConfigError> {
    let admin = Admin::with(&mut config(kafka), kafka)?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1));
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .validate_only(true);
    Ok(match admin.get().create_topics(&[new], &options).await {
        Ok(answer) => match answer.into_iter().next() {
            Some(Err((_, code))) => Grant::of(Some(code), &[Code::TopicAlreadyExists], &code),
            Some(Ok(_)) => Grant::Given,
            None => Grant::Untold("no answer".into()),
        },
        Err(error) => Grant::of(error.rdkafka_error_code(), &[], &error),
    })
}

/// Whether this user may read the first partition of a topic: it is read from its end, where nothing is. Blocks.
pub fn may_read(kafka: &Kafka, topic: &str) -> Result<Grant, ConfigError> {
    let consumer = consumer(kafka, "read_uncommitted")?;
    let mut list = TopicPartitionList::new();
    let assigned = list
        .add_partition_offset(topic, 0, Offset::End)
        .and_then(|()| consumer.assign(&list));
    if let Err(error) = assigned {
        return Ok(Grant::Untold(error.to_string()));
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match consumer.poll(TURN) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(Grant::Given),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(code) if passes(code) => {}
                code => return Ok(Grant::of(code, &[], &error)),
            },
        }
    }
    Ok(Grant::Untold("no broker answered in time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_brokers_say_is_told_apart() {
        let of = |code| Grant::of(Some(code), &[Code::InvalidTransactionTimeout], &"words");
        assert_eq!(of(Code::InvalidTransactionTimeout), Grant::Given);
        for code in [
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ] {
            assert_eq!(of(code), Grant::Denied("words".into()));
        }
        for code in [Code::OperationTimedOut, Code::CoordinatorNotAvailable] {
            assert_eq!(of(code), Grant::Untold("words".into()));
        }
    }
}
