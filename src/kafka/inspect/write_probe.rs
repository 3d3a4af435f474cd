//! Checks whether the relay could write, without writing.
//!
//! The client library does not report ACLs. So a record is sent that is larger than the topic
//! allows. A broker first checks whether the user may write, then whether there are enough
//! replicas, and only then the size. Its answer is therefore either the obstacle, or that the
//! record is too large, which is the good answer. Nothing gets into the topic.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer as _};

use super::diagnostic_client::{DiagnosticClient, Diagnostics, config, open};
use crate::config::Kafka;
use crate::kafka::client::ClientConfigError;

const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(50);
/// The check does not send larger records.
const LARGEST: usize = 32 << 20;
/// More than the overhead of a record.
const BEYOND: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteAccess {
    /// The user may write, and the topic accepts records.
    Possible,
    Forbidden(String),
    /// The user may write, but the topic accepts nothing now.
    Stuck(String),
    /// The attempt was not made, or its outcome does not tell.
    Untold(String),
}

/// Tries to write to a topic. Blocks.
pub(crate) fn writing(
    kafka: &Kafka,
    topic: &str,
    limit: Option<usize>,
) -> Result<WriteAccess, ClientConfigError> {
    let limit = match limit {
        Some(limit) if limit <= LARGEST => limit,
        Some(_) => return Ok(WriteAccess::Untold("its records may be very large".into())),
        None => {
            return Ok(WriteAccess::Untold(
                "the brokers do not report its limits".into(),
            ));
        }
    };
    let size = limit + BEYOND;
    let mut config = config(kafka);
    config
        .set("acks", "all")
        .set("enable.idempotence", "false")
        // The first answer is the one that counts.
        .set("retries", "0")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("linger.ms", "0")
        .set("compression.type", "none")
        .set("message.max.bytes", (size + BEYOND).to_string());
    let producer = open(&config, kafka)?;
    let payload = vec![0; size];
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .key(b"doorbell check".as_slice())
        .payload(&payload);
    if let Err((error, _)) = producer.send(record) {
        return Ok(WriteAccess::Untold(error.to_string()));
    }
    let seen = poll(&producer, |seen| seen.report.is_some());
    Ok(judge(&seen))
}

fn judge(seen: &Diagnostics) -> WriteAccess {
    match seen.report {
        Some(Err(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidMessageSize,
        )) => WriteAccess::Possible,
        Some(Err(code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => {
            WriteAccess::Forbidden(code.to_string())
        }
        Some(Err(Code::MessageTimedOut)) | None => WriteAccess::Stuck(
            (seen.last.clone()).unwrap_or_else(|| "no broker answered in time".into()),
        ),
        Some(Err(code)) => WriteAccess::Stuck(code.to_string()),
        Some(Ok(())) => WriteAccess::Possible,
    }
}

/// Returns why the brokers give no id to an idempotent producer, which the relay uses. `None`: they
/// give one. Blocks.
pub(crate) fn no_identity(kafka: &Kafka) -> Result<Option<String>, ClientConfigError> {
    let mut config = config(kafka);
    config
        .set("enable.idempotence", "true")
        .set("statistics.interval.ms", "100");
    let producer = open(&config, kafka)?;
    let assigned = |seen: &Diagnostics| seen.identity.as_deref() == Some("Assigned");
    let seen = poll(&producer, |seen| seen.fatal.is_some() || assigned(seen));
    if assigned(&seen) {
        return Ok(None);
    }
    let reason = seen.fatal.or(seen.last);
    Ok(Some(
        reason.unwrap_or_else(|| "no answer in time".to_owned()),
    ))
}

fn poll(producer: &DiagnosticClient, done: impl Fn(&Diagnostics) -> bool) -> Diagnostics {
    let begun = Instant::now();
    loop {
        producer.poll(TURN);
        let seen = producer.context().seen();
        if done(&seen) || begun.elapsed() > PATIENCE + TURN {
            return seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_of_a_record_that_is_too_large() {
        let judged = |code| {
            judge(&Diagnostics {
                report: Some(Err(code)),
                ..Diagnostics::default()
            })
        };
        assert_eq!(judged(Code::MessageSizeTooLarge), WriteAccess::Possible);
        assert!(matches!(
            judged(Code::TopicAuthorizationFailed),
            WriteAccess::Forbidden(_)
        ));
        for code in [
            Code::NotEnoughReplicas,
            Code::KafkaStorageError,
            Code::MessageTimedOut,
        ] {
            assert!(matches!(judged(code), WriteAccess::Stuck(_)), "{code:?}");
        }
    }
}
