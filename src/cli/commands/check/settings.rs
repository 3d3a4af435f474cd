//! Findings about the settings of a topic.

use std::time::Duration;

use super::finding::{Code, Finding};
use crate::kafka::{Cluster, Topic, WriteAccess};
use crate::numbers::{self, counted, counted_verb};

/// What the waiting rows of an outbox need of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) outbox: String,
    /// Rows of the sample without a key; `None` if the table has no column for keys.
    pub(super) keyless: Option<i64>,
    /// Bytes of the largest row of the sample.
    pub(super) largest: i64,
    /// Age of the oldest row of the sample.
    pub(super) oldest: Option<Duration>,
    /// Age of the oldest dead letter of the outbox.
    pub(super) oldest_letter: Option<Duration>,
}

/// Compares the size limits of topic and relay, and the rows between them.
pub(super) fn sizes(cluster: &Cluster, it: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    let ours = cluster.message_max_bytes;
    let Some(limit) = it.settings.max_message_bytes else {
        return found;
    };
    let raise = format!(
        "kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config max.message.bytes={}",
        it.name,
        ours.max(limit)
    );
    if limit < ours {
        found.push(Finding::warning(
            Code::TopicTooSmall,
            format!("topic {} accepts records of up to {limit} bytes (max.message.bytes), and the relay sends up to {ours} (message.max.bytes)", it.name),
            "rows between the two are rejected by the broker and become dead letters, or follow the `poison` policy",
            format!("{raise}\nor lower \"message.max.bytes\" under [kafka.properties]"),
        ));
    }
    if limit > ours {
        found.push(Finding::note(
            Code::TopicLarger,
            format!("topic {} accepts records of up to {limit} bytes, and the relay sends only up to {ours} (message.max.bytes)", it.name),
            "rows between the two are rejected by the relay itself and become dead letters, or follow the `poison` policy",
            format!("[kafka.properties]\n\"message.max.bytes\" = \"{limit}\""),
        ));
    }
    let least = limit.min(ours);
    if usize::try_from(wanted.largest).unwrap_or_default() > least {
        found.push(Finding::warning(
            Code::RowTooLarge,
            format!(
                "a row of {} waits for topic {}, whose limit is {least}",
                counted(wanted.largest, "byte"),
                it.name
            ),
            "it may fit when compressed; otherwise it becomes a dead letter",
            "raise max.message.bytes of the topic and \"message.max.bytes\" under [kafka.properties], or \"compression.type\" = \"zstd\"",
        ));
    }
    found
}

/// Reports rows that are older than the topic keeps records: it judges by `created_at`.
fn retention(it: &Topic, wanted: &Wanted) -> Option<Finding> {
    let most = it.settings.retention.filter(|_| !it.settings.broker_time)?;
    let over = |age: Option<Duration>| age.filter(|age| *age > most);
    let (what, age) = match over(wanted.oldest) {
        Some(age) => ("rows wait", age),
        None => ("dead letters are kept", over(wanted.oldest_letter)?),
    };
    let shown = |time: Duration| numbers::age(time.as_secs_f64());
    Some(Finding::warning(
        Code::TopicRetention,
        format!(
            "topic {} keeps records for {} (retention.ms), and {what} that were created {} ago",
            it.name,
            shown(most),
            shown(age)
        ),
        "the age of a record counts from created_at: these are deleted soon after they arrive, perhaps before they are read",
        format!(
            "before they are sent: kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config retention.ms=...; \
            or timestamp = \"sent\" in [[outbox]]",
            it.name
        ),
    ))
}

/// Reports on replicas, and how many of them a record must have.
pub(super) fn copies(it: &Topic) -> Vec<Finding> {
    let mut found = Vec::new();
    let (copies, in_sync) = it.replicas;
    if copies == 1 {
        found.push(Finding::warning(
            Code::TopicCopies,
            format!("topic {} has only one replica", it.name),
            "if the disk of that broker is lost, so are its events, whose rows Doorbell has deleted",
            "use kafka-reassign-partitions.sh for three replicas, or create the topic again with --replication-factor 3",
        ));
    }
    let Some(least) = it.settings.min_insync else {
        return found;
    };
    let set = |number: usize| {
        format!(
            "kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config min.insync.replicas={number}",
            it.name
        )
    };
    if least > copies && copies > 0 {
        let what = format!(
            "min.insync.replicas of topic {} is {least}, and it has {}",
            it.name,
            counted(copies, "replica")
        );
        let remedy = set(copies.saturating_sub(1).max(1));
        found.push(match it.writing {
            WriteAccess::Possible => Finding::warning(
                Code::TopicMinInsync,
                what,
                "these brokers are content with the replicas that exist; earlier ones reject every record",
                remedy,
            ),
            _ => Finding::error(
                Code::TopicMinInsync,
                what,
                "the relay writes with acks=all, so no record can ever be written",
                remedy,
            ),
        });
    } else if copies > 1 && least == 1 {
        found.push(Finding::warning(
            Code::TopicMinInsync,
            format!("min.insync.replicas of topic {} is 1", it.name),
            "a record is then acknowledged with one replica, which may be lost with its broker after Doorbell deleted the row",
            set(2),
        ));
    } else if least > in_sync {
        found.push(Finding::error(
            Code::TopicMinInsync,
            format!(
                "{} in sync in a partition of topic {}, and min.insync.replicas is {least}",
                counted_verb(in_sync, "replica", "are"),
                it.name
            ),
            "the brokers reject records until enough replicas are in sync; rows wait in the table",
            "restore the missing brokers",
        ));
    } else if copies > 1 && least == copies {
        found.push(Finding::note(
            Code::TopicMinInsync,
            format!(
                "min.insync.replicas of topic {} equals its number of replicas",
                it.name
            ),
            "the restart of one broker stops the delivery until it is back",
            set(copies - 1),
        ));
    }
    found
}

/// Reports settings that make the broker reject some rows, or change them.
pub(super) fn contents(it: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let mut found: Vec<Finding> = retention(it, wanted).into_iter().collect();
    if it.settings.is_compacted() {
        let what = match wanted.keyless {
            Some(0) => format!("topic {} is compacted", it.name),
            Some(rows) => format!(
                "topic {} is compacted, and {} for it without a key",
                it.name,
                counted_verb(rows, "row", "wait")
            ),
            None => format!(
                "topic {} is compacted, and the table has no column for keys",
                it.name
            ),
        };
        let sure = wanted.keyless != Some(0);
        let finding = if sure { Finding::error } else { Finding::note };
        found.push(finding(
            Code::TopicCompacted,
            what,
            "the broker rejects records without a key there: they become dead letters, or follow the `poison` policy; of each key only the last event is kept",
            format!("give every row a key, or: kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config cleanup.policy=delete", it.name),
        ));
    }
    if it.settings.broker_time {
        found.push(Finding::note(
            Code::TopicTimes,
            format!("topic {} sets timestamps to the broker's time (message.timestamp.type=LogAppendTime)", it.name),
            "created_at is then not the record's timestamp",
            format!("kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config message.timestamp.type=CreateTime", it.name),
        ));
    } else if let (Some(most), Some(oldest)) = (it.settings.oldest, wanted.oldest)
        && oldest > most
    {
        found.push(Finding::error(
            Code::TopicTimes,
            format!("topic {} accepts only records of the last {}, and older rows wait for it", it.name, humantime::format_duration(most)),
            "the broker rejects older timestamps: these rows become dead letters, or follow the `poison` policy",
            format!("kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --delete-config message.timestamp.before.max.ms", it.name),
        ));
    }
    found
}
