//! Findings about what the delivery mode exactly-once needs of the brokers.

use super::finding::{Code, Finding};
use super::settings::copies;
use crate::kafka::{AclAnswer, Cluster, LARGEST_RECEIPT, TIMEOUT, Topic, TopicState, WriteAccess};
use crate::numbers::counted;

/// Topic and id that an outbox in this mode uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transacting {
    pub(super) outbox: String,
    pub(super) receipts: String,
    /// Transactional id; `None` if it contains the outbox's identity, which could not be read.
    pub(super) id: Option<String>,
}

const WHY_FORBIDDEN: &str =
    "the relay does not start without it: rows wait in the table, and none is lost";

/// Reports whether the user may use the id.
pub(super) fn transactions(it: &Transacting, grant: &AclAnswer) -> Option<Finding> {
    let id = it.id.as_deref().unwrap_or_default();
    let found = match grant {
        AclAnswer::Given => return None,
        AclAnswer::Denied(word) => Finding::error(
            Code::TransactionsForbidden,
            format!("the Kafka user may not use the transactional id {id}: {word}"),
            WHY_FORBIDDEN,
            format!(
                "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation Write --operation Describe --transactional-id {id}"
            ),
        ),
        AclAnswer::Untold(word) => Finding::note(
            Code::TransactionsUntold,
            format!("the ACLs on the transactional id {id} could not be tested: {word}"),
            "a missing ACL would show when the relay starts",
            "run check again when the brokers answer: the transaction coordinator may have been moving",
        ),
    };
    Some(found.of(&it.outbox))
}

/// Reports whether the brokers allow a transaction as long as the relay's.
pub(super) fn length(it: &Transacting, cluster: &Cluster) -> Option<Finding> {
    let longest = cluster.longest_transaction.filter(|it| *it < TIMEOUT)?;
    let finding = Finding::error(
        Code::TransactionsShort,
        format!(
            "transaction.max.timeout.ms of the brokers is {}, and the relay asks for {}",
            longest.as_millis(),
            TIMEOUT.as_millis()
        ),
        WHY_FORBIDDEN,
        format!(
            "set transaction.max.timeout.ms of the brokers to {} or more",
            TIMEOUT.as_millis()
        ),
    );
    Some(finding.of(&it.outbox))
}

/// Reports whether the topic of the receipts can be created, or fits if it exists.
pub(super) fn receipts(
    it: &Transacting,
    cluster: &Cluster,
    topic: &Topic,
    create: &AclAnswer,
    read: &AclAnswer,
) -> Vec<Finding> {
    let forbidden = |operation: &str, word: &str| {
        Finding::error(
            Code::ReceiptsForbidden,
            format!(
                "the Kafka user lacks the ACL {operation} on the topic of the receipts, {}: {word}",
                topic.name
            ),
            WHY_FORBIDDEN,
            format!(
                "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation {operation} --topic {}",
                topic.name
            ),
        )
    };
    let mut found = Vec::new();
    match &topic.state {
        TopicState::There => found.extend(fit(topic, cluster)),
        TopicState::Missing => {
            if let AclAnswer::Denied(word) = create {
                found.push(forbidden("Create", word));
            }
        }
        TopicState::Forbidden => found.push(forbidden("Describe", "not even Describe is allowed")),
        TopicState::Unknown(word) => found.push(stuck(topic, word)),
    }
    if topic.state == TopicState::There {
        if topic.settings.cleanup.is_none() {
            found.push(forbidden("DescribeConfigs", "its settings cannot be read"));
        }
        match &topic.writing {
            WriteAccess::Forbidden(word) => found.push(forbidden("Write", word)),
            WriteAccess::Stuck(word) => found.push(stuck(topic, word)),
            WriteAccess::Possible | WriteAccess::Untold(_) => {}
        }
        if let AclAnswer::Denied(word) = read {
            found.push(forbidden("Read", word));
        }
    }
    found
        .into_iter()
        .map(|finding| finding.of(&it.outbox))
        .collect()
}

fn stuck(topic: &Topic, word: &str) -> Finding {
    Finding::error(
        Code::TopicStuck,
        format!(
            "the topic of the receipts, {}, accepts nothing now: {word}",
            topic.name
        ),
        "without receipts no transaction is committed: rows wait in the table",
        "check the brokers of the topic",
    )
}

fn fit(topic: &Topic, cluster: &Cluster) -> Vec<Finding> {
    let name = &topic.name;
    let mut found = Vec::new();
    if topic.partitions != 1 {
        found.push(Finding::error(
            Code::ReceiptsUnfit,
            format!(
                "the topic of the receipts, {name}, has {}",
                counted(topic.partitions, "partition")
            ),
            "the last receipt must be the last record of a single partition: the relay refuses another topic",
            "set `receipts` to a topic with one partition, or to one that does not exist",
        ));
    }
    let policy = topic.settings.cleanup.as_deref();
    if let Some(policy) = policy.filter(|policy| *policy != "compact") {
        found.push(Finding::error(
            Code::ReceiptsUnfit,
            format!("the cleanup.policy of the topic of the receipts, {name}, is {policy}"),
            "receipts would be removed by age: the relay refuses the topic",
            format!(
                "kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=compact"
            ),
        ));
    }
    if let Some(bytes) = topic
        .settings
        .max_message_bytes
        .filter(|bytes| *bytes < LARGEST_RECEIPT)
    {
        found.push(Finding::error(
            Code::ReceiptsUnfit,
            format!("max.message.bytes of the topic of the receipts, {name}, is {bytes}"),
            "a receipt of many rows would not fit: the relay refuses the topic",
            format!(
                "kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {name} --add-config max.message.bytes={LARGEST_RECEIPT}"
            ),
        ));
    }
    if cluster.brokers > 1 {
        found.extend(copies(topic));
    }
    found
}
