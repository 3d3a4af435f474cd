//! Findings about Kafka, from the answers of the brokers.

use super::finding::{Code, Finding};
use super::settings::{self, Wanted};
use crate::kafka::{Cluster, InspectError, Topic, TopicState, WriteAccess};

pub(super) fn unreachable(error: &InspectError) -> Finding {
    match error {
        InspectError::Unreachable { refused: true, .. } | InspectError::Config(_) => {
            Finding::error(
                Code::KafkaRefused,
                error.to_string(),
                "a broker answers and refuses the client",
                "check security.protocol, sasl.* and ssl.* under [kafka.properties]",
            )
        }
        InspectError::Unreachable { .. } => Finding::error(
            Code::KafkaAway,
            error.to_string(),
            "nothing can be sent: rows wait in the table until a broker is reachable, and none is lost",
            "start the brokers, or correct KAFKA_BROKERS; their advertised.listeners must be reachable from here; a broker that ended by itself logged the reason: \
             one whose disk is full (No space left on device) ends when its last log directory fails",
        ),
    }
}

/// Reports a connection that others on the network may read.
pub(super) fn plaintext(words: &str) -> Finding {
    Finding::warning(
        Code::KafkaPlaintext,
        words,
        "any machine on the way can read and change events, and a password of SASL PLAIN",
        "\"security.protocol\" = \"ssl\" or \"sasl_ssl\" under [kafka.properties], with ssl.ca.location",
    )
}

/// Reports brokers that answer under the configured address and name another for themselves.
pub(super) fn listeners(cluster: &Cluster) -> Option<Finding> {
    (!cluster.unresolved.is_empty()).then(|| {
        Finding::error(
            Code::KafkaListeners,
            format!(
                "brokers name addresses for themselves that cannot be resolved here: {}",
                cluster.unresolved.join(", ")
            ),
            "clients learn where a partition's leader is from the brokers: nothing can be sent to these",
            "set advertised.listeners of these brokers to names that this machine knows, or add the names to its DNS",
        )
    })
}

pub(super) fn identity(cluster: &Cluster) -> Option<Finding> {
    cluster.no_identity.as_ref().map(|reason| {
        Finding::error(
            Code::KafkaIdentity,
            format!("the brokers assign no producer id: {reason}"),
            "the relay sends nothing without one, since a repeated record would be a duplicate",
            "use Kafka 0.11 or newer; before 2.8 the user also needs the ACL IdempotentWrite on the cluster",
        )
    })
}

/// Reports a topic name of the route or of a row that is illegal.
pub(super) fn illegal(wanted: &Wanted, fault: &str) -> Finding {
    Finding::warning(
        Code::TopicName,
        format!(
            "rows wait for the topic {:?}, whose name is illegal: {fault}",
            wanted.name
        ),
        "Kafka rejects such a name: these rows become dead letters, or follow the configured `poison` policy",
        "correct the topic in the rows (UPDATE), or the route (--topic)",
    )
    .of(&wanted.outbox)
}

pub(super) fn by_type(outbox: &str, route: &str) -> Finding {
    Finding::note(
        Code::TopicsByType,
        format!("the topic depends on the row: {route}"),
        "only the topics of waiting rows could be examined",
        "run check again while rows of every kind wait, or with --topic and the name of one topic",
    )
    .of(outbox)
}

pub(super) fn topic(cluster: &Cluster, topic: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let found = match &topic.state {
        TopicState::There => there(cluster, topic, wanted),
        TopicState::Missing => vec![missing(cluster, &topic.name)],
        TopicState::Forbidden => vec![forbidden(&topic.name, "not even Describe is allowed")],
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
            format!("topic {name} does not exist; the brokers will create it at the first record"),
            "it gets the default number of partitions and replicas of the brokers, and partitions cannot be added later without breaking the order per key",
            create,
        ),
        _ => Finding::error(
            Code::TopicMissing,
            format!("topic {name} does not exist"),
            "its rows become dead letters, or follow the `poison` policy, after 30 s of retries",
            create,
        ),
    }
}

fn forbidden(name: &str, word: &str) -> Finding {
    Finding::error(
        Code::TopicForbidden,
        format!("the Kafka user may not write to topic {name}: {word}"),
        "its rows become dead letters, or follow the `poison` policy",
        format!(
            "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation Write --operation Describe --topic {name}"
        ),
    )
}

fn stuck(name: &str, word: &str) -> Finding {
    Finding::error(
        Code::TopicStuck,
        format!("topic {name} accepts nothing now: {word}"),
        "rows for it wait in the table, and all others as soon as the in-flight limit is reached",
        "check the brokers of the topic: the log of one that is down, or whose disk is full or broken, says so",
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
            "rows for these partitions cannot be sent: they wait in the table, and all others as soon as the in-flight limit is reached",
            "restore the broker that has them; one whose disk is full or broken takes that log directory offline and logs it (No space left on device): \
             make room, then restart it",
        ));
    }
    match &it.writing {
        WriteAccess::Possible => {}
        WriteAccess::Forbidden(word) => found.push(forbidden(&it.name, word)),
        WriteAccess::Stuck(_) if !it.leaderless.is_empty() => {}
        WriteAccess::Stuck(word) => found.push(stuck(&it.name, word)),
        WriteAccess::Untold(word) => found.push(Finding::note(
            Code::TopicUntold,
            format!("the Write ACL on topic {} was not tested: {word}", it.name),
            "a missing ACL would show only when the first row is rejected",
            format!("grant the user the ACL DescribeConfigs on topic {}, or send one event: doorbell emit --table '{}' --type test --tombstone", it.name, wanted.outbox),
        )),
    }
    found.extend(settings::sizes(cluster, it, wanted));
    found.extend(settings::copies(it));
    found.extend(settings::contents(it, wanted));
    found
}
