//! Findings about Kafka, from what the brokers answered.

use std::time::Duration;

use super::finding::{Code, Finding};
use super::settings;
use crate::kafka::{Cluster, SurveyError, Topic, TopicState, Writing};

/// What the waiting rows of all outboxes ask of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// The configured table.
    pub(super) outbox: String,
    /// Rows of the sample without a key; `None`: the table has no column for keys.
    pub(super) keyless: Option<i64>,
    /// Bytes of the largest row of the sample.
    pub(super) largest: i64,
    /// Age of the oldest row of the sample.
    pub(super) oldest: Option<Duration>,
}

pub(super) fn unreachable(error: &SurveyError) -> Finding {
    match error {
        SurveyError::Away { refused: true, .. } | SurveyError::Config(_) => Finding::error(
            Code::KafkaRefused,
            error.to_string(),
            "a broker is there and does not let us in",
            "check security.protocol, sasl.* and ssl.* under [kafka.properties]",
        ),
        SurveyError::Away { .. } => Finding::error(
            Code::KafkaAway,
            error.to_string(),
            "nothing can be sent: rows wait in the table until a broker answers, and none is lost",
            "start the brokers, or correct KAFKA_BROKERS; their advertised.listeners must be reachable from here. A broker that ended by itself says why at the end \
             of its log: one whose disk is full (No space left on device) ends when its last log directory fails",
        ),
    }
}

pub(super) fn identity(cluster: &Cluster) -> Option<Finding> {
    cluster.no_identity.as_ref().map(|reason| {
        Finding::error(
            Code::KafkaIdentity,
            format!("the brokers give no identity to an idempotent producer: {reason}"),
            "the relay sends nothing without one, since a repeated record would be a double",
            "Kafka 0.11 or newer; before 2.8 the user also needs the right IdempotentWrite on the cluster",
        )
    })
}

/// A topic that the route or a row asks for, and that cannot be one.
pub(super) fn illegal(wanted: &Wanted, fault: &str) -> Finding {
    Finding::warning(
        Code::TopicName,
        format!(
            "rows wait for the topic {:?}, which cannot be one: {fault}",
            wanted.name
        ),
        "Kafka refuses such a name: these rows become dead letters, or what `poison` says",
        "correct the topic in the rows (UPDATE), or the route (--topic)",
    )
    .of(&wanted.outbox)
}

pub(super) fn by_type(outbox: &str, route: &str) -> Finding {
    Finding::note(
        Code::TopicsByType,
        format!("the topic depends on the event's type: {route}"),
        "only the topics of rows that wait now could be looked at",
        "run check again while rows of every type wait, or with --topic and the name of one topic",
    )
    .of(outbox)
}

/// Everything about one topic.
pub(super) fn topic(cluster: &Cluster, topic: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let found = match &topic.state {
        TopicState::There => there(cluster, topic, wanted),
        TopicState::Missing => vec![missing(cluster, &topic.name)],
        TopicState::Forbidden => vec![forbidden(&topic.name, "it may not even describe it")],
        TopicState::Unknown(word) => vec![stuck(&topic.name, word)],
    };
    found.into_iter().map(|it| it.of(&wanted.outbox)).collect()
}

fn missing(cluster: &Cluster, name: &str) -> Finding {
    let create = format!(
        "kafka-topics.sh --bootstrap-server ... --create --topic {name} --partitions 6 --replication-factor {}",
        cluster.brokers.clamp(1, 3)
    );
    match cluster.makes_topics {
        Some(true) => Finding::warning(
            Code::TopicMissing,
            format!("topic {name} does not exist; the brokers will make it at the first record"),
            "it gets the number of partitions and copies that the brokers give by default, and partitions cannot be added later without breaking the order per key",
            create,
        ),
        _ => Finding::error(
            Code::TopicMissing,
            format!("topic {name} does not exist"),
            "its rows become dead letters, or what `poison` says, after 30 s of asking for it",
            create,
        ),
    }
}

fn forbidden(name: &str, word: &str) -> Finding {
    Finding::error(
        Code::TopicForbidden,
        format!("our user may not write to topic {name}: {word}"),
        "its rows become dead letters, or what `poison` says",
        format!(
            "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation Write --operation Describe --topic {name}"
        ),
    )
}

fn stuck(name: &str, word: &str) -> Finding {
    Finding::error(
        Code::TopicStuck,
        format!("topic {name} takes nothing now: {word}"),
        "rows for it wait in the table, and those behind them as soon as the window is full",
        "look at the brokers of the topic: one that is down, or whose disk is full or broken, says so in its log",
    )
}

fn there(cluster: &Cluster, it: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    if !it.leaderless.is_empty() {
        let list: Vec<_> = it
            .leaderless
            .iter()
            .map(|(id, word)| format!("{id} ({word})"))
            .collect();
        found.push(Finding::error(
            Code::TopicLeaderless,
            format!("partitions of topic {} have no leader: {}", it.name, list.join(", ")),
            "what belongs there cannot be sent: rows wait in the table, and those behind them as soon as the window is full",
            "bring back the broker that has them. One whose disk is full or broken takes that log directory offline, and its log says so (No space left on device): \
             make room, then restart it",
        ));
    }
    match &it.writing {
        Writing::Possible => {}
        Writing::Forbidden(word) => found.push(forbidden(&it.name, word)),
        Writing::Stuck(_) if !it.leaderless.is_empty() => {}
        Writing::Stuck(word) => found.push(stuck(&it.name, word)),
        Writing::Untold(word) => found.push(Finding::note(
            Code::TopicUntold,
            format!("whether we may write to topic {} was not tried: {word}", it.name),
            "a missing right would show only when the first row is refused",
            format!("give our user the right DescribeConfigs on topic {}, or send one event: doorbell emit", it.name),
        )),
    }
    found.extend(settings::sizes(cluster, it, wanted));
    found.extend(settings::copies(it));
    found.extend(settings::contents(it, wanted));
    found
}
