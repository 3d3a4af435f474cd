//! Whether the relay could write, tried without writing.
//!
//! The client library does not tell rights. So a record is sent that is larger than the topic takes: a broker first looks whether we may write,
//! then whether there are enough replicas, and only then at the size. What it says is therefore either what stands in the relay's way, or
//! that the record is too large, which is the good answer. Nothing gets into the topic.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, BaseRecord};
use serde::Serialize;

use super::ear::{Ear, Heard};
use super::producer::{ConfigError, explain};
use super::survey::{Topic, TopicState, config};
use crate::config::Kafka;

/// For the brokers' word.
const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(50);
/// Larger records are not sent for a check.
const LARGEST: usize = 32 << 20;
/// What a record costs beyond its limit is well below.
const BEYOND: usize = 1_024;

/// What came of the attempt to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writing {
    /// We may, and the topic takes records.
    Possible,
    /// We may not.
    Forbidden(String),
    /// We may, but the topic takes nothing now.
    Stuck(String),
    /// It was not tried, or the answer says nothing.
    Untold(String),
}

/// Tries to write to a topic. Blocks.
pub(super) fn writing(kafka: &Kafka, topic: &Topic) -> Result<Writing, ConfigError> {
    if topic.state != TopicState::There {
        return Ok(Writing::Untold("the topic is not there".into()));
    }
    let limit = match topic.settings.max_message_bytes {
        Some(limit) if limit <= LARGEST => limit,
        Some(_) => return Ok(Writing::Untold("its records may be very large".into())),
        None => return Ok(Writing::Untold("the brokers do not say its limits".into())),
    };
    let size = limit + BEYOND;
    let ear = Ear::of(kafka);
    let mut config = config(kafka);
    config
        .set("acks", "all")
        .set("enable.idempotence", "false")
        // The first answer is the news.
        .set("retries", "0")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("linger.ms", "0")
        .set("compression.type", "none")
        .set("message.max.bytes", (size + BEYOND).to_string());
    let producer: BaseProducer<Ear> = config
        .create_with_context(ear.clone())
        .map_err(|error| ConfigError(explain(kafka, &error)))?;
    let payload = vec![0; size];
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic.name)
        .key(b"doorbell check".as_slice())
        .payload(&payload);
    if let Err((error, _)) = producer.send(record) {
        return Ok(Writing::Untold(error.to_string()));
    }
    let heard = poll(&producer, &ear, |heard| heard.report.is_some());
    Ok(judge(&heard))
}

fn judge(heard: &Heard) -> Writing {
    match heard.report {
        Some(Err(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidMessageSize,
        )) => Writing::Possible,
        Some(Err(code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => {
            Writing::Forbidden(code.to_string())
        }
        Some(Err(Code::MessageTimedOut)) | None => Writing::Stuck(
            (heard.last.clone()).unwrap_or_else(|| "no broker answered in time".into()),
        ),
        Some(Err(code)) => Writing::Stuck(code.to_string()),
        Some(Ok(())) => Writing::Possible,
    }
}

/// Why the brokers give no identity to an idempotent producer, which is what the relay is; `None`: they give one. Blocks.
pub(super) fn no_identity(kafka: &Kafka) -> Result<Option<String>, ConfigError> {
    let ear = Ear::of(kafka);
    let mut config = config(kafka);
    config
        .set("enable.idempotence", "true")
        .set("statistics.interval.ms", "100");
    let producer: BaseProducer<Ear> = config
        .create_with_context(ear.clone())
        .map_err(|error| ConfigError(explain(kafka, &error)))?;
    let assigned = |heard: &Heard| heard.identity.as_deref() == Some("Assigned");
    let heard = poll(&producer, &ear, |heard| {
        heard.fatal.is_some() || assigned(heard)
    });
    if assigned(&heard) {
        return Ok(None);
    }
    let reason = heard.fatal.or(heard.last);
    Ok(Some(
        reason.unwrap_or_else(|| "no answer in time".to_owned()),
    ))
}

fn poll(producer: &BaseProducer<Ear>, ear: &Ear, done: impl Fn(&Heard) -> bool) -> Heard {
    let begun = Instant::now();
    loop {
        producer.poll(TURN);
        let heard = ear.heard();
        if done(&heard) || begun.elapsed() > PATIENCE + TURN {
            return heard;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_of_a_record_that_is_too_large() {
        let judged = |code| {
            judge(&Heard {
                report: Some(Err(code)),
                ..Heard::default()
            })
        };
        assert_eq!(judged(Code::MessageSizeTooLarge), Writing::Possible);
        assert!(matches!(
            judged(Code::TopicAuthorizationFailed),
            Writing::Forbidden(_)
        ));
        for code in [
            Code::NotEnoughReplicas,
            Code::KafkaStorageError,
            Code::MessageTimedOut,
        ] {
            assert!(matches!(judged(code), Writing::Stuck(_)), "{code:?}");
        }
    }
}
