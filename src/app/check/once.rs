//! Findings about what the mode exactly-once needs of the brokers.

use super::finding::{Code, Finding};
use crate::kafka::{Cluster, Grant, Topic, TopicState, Writing};

/// What an outbox in that mode uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transacting {
    /// The configured table.
    pub(super) outbox: String,
    /// The topic of its receipts.
    pub(super) receipts: String,
    /// The transactional id; `None`: it has the outbox's identity, which could not be read.
    pub(super) id: Option<String>,
}

const WHY_FORBIDDEN: &str =
    "the relay does not begin without it: rows wait in the table, and none is lost";

/// Whether the id may be used.
pub(super) fn transactions(it: &Transacting, grant: &Grant) -> Option<Finding> {
    let id = it.id.as_deref().unwrap_or_default();
    let found = match grant {
        Grant::Given => return None,
        Grant::Denied(word) => Finding::error(
            Code::TransactionsForbidden,
            format!("our user may not use the transactional id {id}: {word}"),
            WHY_FORBIDDEN,
            format!(
                "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation Write --operation Describe --transactional-id {id}"
            ),
        ),
        Grant::Untold(word) => Finding::note(
            Code::TransactionsUntold,
            format!("whether we may use the transactional id {id} is not known: {word}"),
            "a missing right would show when the relay begins",
            "run check again when the brokers answer: the coordinator of transactions may have been on its way to another one",
        ),
    };
    Some(found.of(&it.outbox))
}

/// Whether the topic of the receipts can be made, if it is not there; else whether it is what it must be.
pub(super) fn receipts(
    it: &Transacting,
    cluster: &Cluster,
    topic: &Topic,
    create: &Grant,
    read: &Grant,
) -> Vec<Finding> {
    let forbidden = |right: &str, word: &str| {
        Finding::error(
            Code::ReceiptsForbidden,
            format!(
                "our user lacks the right {right} on the topic of the receipts, {}: {word}",
                topic.name
            ),
            WHY_FORBIDDEN,
            format!(
                "kafka-acls.sh --bootstrap-server ... --add --allow-principal User:... --operation {right} --topic {}",
                topic.name
            ),
        )
    };
    let mut found = Vec::new();
    match &topic.state {
        TopicState::There => found.extend(fit(topic, cluster)),
        TopicState::Missing => {
            if let Grant::Denied(word) = create {
                found.push(forbidden("Create", word));
            }
        }
        TopicState::Forbidden => found.push(forbidden("Describe", "it may not even describe it")),
        TopicState::Unknown(word) => found.push(stuck(topic, word)),
    }
    if topic.state == TopicState::There {
        if topic.settings.cleanup.is_none() {
            found.push(forbidden("DescribeConfigs", "its settings are not told"));
        }
        match &topic.writing {
            Writing::Forbidden(word) => found.push(forbidden("Write", word)),
            Writing::Stuck(word) => found.push(stuck(topic, word)),
            Writing::Possible | Writing::Untold(_) => {}
        }
        if let Grant::Denied(word) = read {
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
            "the topic of the receipts, {}, takes nothing now: {word}",
            topic.name
        ),
        "without receipts no transaction is committed: rows wait in the table",
        "look at the brokers of the topic",
    )
}

fn fit(topic: &Topic, cluster: &Cluster) -> Vec<Finding> {
    let name = &topic.name;
    let mut found = Vec::new();
    if topic.partitions != 1 {
        found.push(Finding::error(
            Code::ReceiptsUnfit,
            format!(
                "the topic of the receipts, {name}, has {} partitions",
                topic.partitions
            ),
            "the last receipt is the last of one partition: the relay refuses another topic",
            "set `receipts` to a topic with one partition, or to one that does not exist",
        ));
    }
    let policy = topic.settings.cleanup.as_deref();
    if let Some(policy) = policy.filter(|policy| *policy != "compact") {
        found.push(Finding::error(
            Code::ReceiptsUnfit,
            format!("the cleanup.policy of the topic of the receipts, {name}, is {policy}"),
            "receipts would be forgotten by their age: the relay refuses the topic",
            format!(
                "kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=compact"
            ),
        ));
    }
    if topic.replicas.0 == 1 && cluster.brokers > 1 {
        found.push(Finding::warning(
            Code::TopicCopies,
            format!("the topic of the receipts, {name}, has one copy only"),
            "with the disk of one broker the receipts are lost, and the relay stops until somebody decides",
            "kafka-reassign-partitions.sh to three copies",
        ));
    }
    found
}
