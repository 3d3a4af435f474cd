//! Findings about the settings of a topic.

use super::finding::{Code, Finding};
use super::topics::Wanted;
use crate::kafka::{Cluster, Topic, Writing};

/// Limits of topic and relay, and the rows between them.
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
            format!("topic {} takes records of up to {limit} bytes (max.message.bytes), and the relay sends up to {ours} (message.max.bytes)", it.name),
            "rows between the two are refused by the broker and become dead letters, or what `poison` says",
            format!("{raise}\nor lower \"message.max.bytes\" under [kafka.properties]"),
        ));
    }
    if limit > ours {
        found.push(Finding::note(
            Code::TopicLarger,
            format!("topic {} takes records of up to {limit} bytes, and the relay sends up to {ours} only (message.max.bytes)", it.name),
            "rows between the two are refused by the relay itself and become dead letters, or what `poison` says",
            format!("[kafka.properties]\n\"message.max.bytes\" = \"{limit}\""),
        ));
    }
    let least = limit.min(ours);
    if usize::try_from(wanted.largest).unwrap_or_default() > least {
        found.push(Finding::warning(
            Code::RowTooLarge,
            format!("a row of {} bytes waits for topic {}, which gets at most {least}", wanted.largest, it.name),
            "compressed it may fit; else it becomes a dead letter",
            "raise max.message.bytes of the topic and \"message.max.bytes\" under [kafka.properties], or \"compression.type\" = \"zstd\"",
        ));
    }
    found
}

/// Copies, and how many of them a record must have.
pub(super) fn copies(it: &Topic) -> Vec<Finding> {
    let mut found = Vec::new();
    let (copies, in_sync) = it.replicas;
    if copies == 1 {
        found.push(Finding::warning(
            Code::TopicCopies,
            format!("topic {} has one copy only", it.name),
            "with the disk of one broker its events are lost, and Doorbell has deleted the rows",
            "kafka-reassign-partitions.sh to three copies, or make the topic anew with --replication-factor 3",
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
            "min.insync.replicas of topic {} is {least}, and it has {copies} copies",
            it.name
        );
        let remedy = set(copies.saturating_sub(1).max(1));
        found.push(match it.writing {
            Writing::Possible => Finding::warning(
                Code::TopicMinInsync,
                what,
                "these brokers count with the copies that there are; earlier ones refuse every record",
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
            "a record then counts as written with one copy, which may be lost with its broker while Doorbell has deleted the row",
            set(2),
        ));
    } else if least > in_sync {
        found.push(Finding::error(
            Code::TopicMinInsync,
            format!("{in_sync} copies of a partition of topic {} are in sync, and min.insync.replicas is {least}", it.name),
            "the brokers refuse what is written until enough copies are back; rows wait in the table",
            "bring the missing brokers back",
        ));
    } else if copies > 1 && least == copies {
        found.push(Finding::note(
            Code::TopicMinInsync,
            format!(
                "min.insync.replicas of topic {} is the number of its copies",
                it.name
            ),
            "one broker that is restarted stops the delivery until it is back",
            set(copies - 1),
        ));
    }
    found
}

/// Settings that make the broker refuse some rows, or change them.
pub(super) fn contents(it: &Topic, wanted: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    if it.settings.is_compacted() {
        let what = match wanted.keyless {
            Some(0) => format!("topic {} is compacted", it.name),
            Some(rows) => format!(
                "topic {} is compacted, and {rows} rows without a key wait for it",
                it.name
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
            "the broker refuses records without a key there: they become dead letters, or what `poison` says; and of each key only the last event is kept",
            format!("give every row a key, or: kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config cleanup.policy=delete", it.name),
        ));
    }
    if it.settings.broker_time {
        found.push(Finding::note(
            Code::TopicTimes,
            format!("topic {} stamps records with the broker's time (message.timestamp.type=LogAppendTime)", it.name),
            "created_at is then not the record's timestamp",
            format!("kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --add-config message.timestamp.type=CreateTime", it.name),
        ));
    } else if let (Some(most), Some(oldest)) = (it.settings.oldest, wanted.oldest)
        && oldest > most
    {
        found.push(Finding::error(
            Code::TopicTimes,
            format!("topic {} takes records of the last {} only, and older rows wait for it", it.name, humantime::format_duration(most)),
            "the broker refuses older timestamps: these rows become dead letters, or what `poison` says",
            format!("kafka-configs.sh --bootstrap-server ... --alter --entity-type topics --entity-name {} --delete-config message.timestamp.before.max.ms", it.name),
        ));
    }
    found
}
