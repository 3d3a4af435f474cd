//! `doorbell check` and the brokers: each finding is caused on purpose.

use std::io::Write;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tempfile::NamedTempFile;

use crate::support::{Checkup, Consumer, Instance, World, create_topic, eventually};

/// A configuration file with properties for Kafka.
fn properties(world: &World, lines: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    let route = world.topic.replace("outbox", "{table}");
    write!(
        file,
        "[kafka.properties]\n{lines}\n[[outbox]]\ntopic = \"{route}\"\n"
    )
    .expect("written");
    file
}

fn check_with(world: &World, lines: &str) -> Checkup {
    let file = properties(world, lines);
    Checkup::of(world, &["--config", file.path().to_str().expect("a path")])
}

#[test]
fn a_topic_that_is_not_there_is_named_and_not_made() {
    let mut world = World::new("topicmissing");
    world.sql("INSERT INTO outbox (type, topic) VALUES ('t', 'no topic!')");
    for _ in 0..2 {
        let checkup = Checkup::of(&world, &[]);
        // These brokers create topics.
        checkup.finds(
            "warning",
            "topic-missing",
            &[&world.topic, "will create it"],
        );
        checkup.finds("warning", "topic-name", &["\"no topic!\"", "' '"]);
    }
    let checkup = Checkup::of(&world, &["--topic", "{table}.{type}"]);
    checkup.finds("note", "topics-by-type", &["{table}.{type}"]);
}

#[test]
fn the_settings_of_a_topic_are_held_against_what_the_relay_sends() {
    let mut world = World::new("topicsettings");
    let named = |purpose: &str| format!("{}.{purpose}", world.name());
    let small = named("small");
    let (large, huge, few, compacted, old, stamped) = (
        named("large"),
        named("huge"),
        named("few"),
        named("compacted"),
        named("old"),
        named("stamped"),
    );
    for (topic, settings) in [
        (&small, &[("max.message.bytes", "10000")][..]),
        (&large, &[("max.message.bytes", "2000000")]),
        (&huge, &[("max.message.bytes", "100000000")]),
        (&few, &[("min.insync.replicas", "2")]),
        (&compacted, &[("cleanup.policy", "compact")]),
        (&old, &[("message.timestamp.before.max.ms", "60000")]),
        (&stamped, &[("message.timestamp.type", "LogAppendTime")]),
    ] {
        create_topic(&world, topic, 1, settings);
        world.sql(&format!(
            "INSERT INTO outbox (type, topic, payload, created_at) VALUES ('t', '{topic}', repeat('x', 20000), now() - interval '1 hour')"
        ));
    }
    let checkup = Checkup::of(&world, &[]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("warning", "topic-too-small", &[&small, "10000", "1048588"]);
    checkup.finds("warning", "row-too-large", &["20000 bytes", &small]);
    checkup.finds("note", "topic-larger", &[&large, "2000000"]);
    checkup.finds("note", "topic-untold", &[&huge]);
    checkup.finds("warning", "topic-copies", &[&large]);
    // The brokers of the tests accept it all the same: check tried it.
    checkup.finds("warning", "topic-min-insync", &[&few, "1 replica"]);
    checkup.lacks(&["topic-stuck", "topic-forbidden"]);
    checkup.finds(
        "error",
        "topic-compacted",
        &[&compacted, "1 row waits for it without a key"],
    );
    checkup.finds("error", "topic-times", &[&old, "1m"]);
    checkup.finds("note", "topic-times", &[&stamped, "LogAppendTime"]);
    for topic in [&small, &large, &few, &compacted, &old, &stamped] {
        let left = Consumer::new(&world, topic).drain().len();
        assert_eq!(left, 0, "{topic}: a check writes no record");
    }
}

#[test]
fn brokers_that_are_away_or_refuse_are_told_apart() {
    let world = World::new("kafkaaway");
    let checkup = Checkup::of(&world, &["--kafka-brokers", "127.0.0.1:1"]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("error", "kafka-away", &["127.0.0.1:1", "refused"]);
    // The database is checked all the same.
    checkup.finds("note", "no-leader", &[]);
    let checkup = check_with(&world, "\"security.protocol\" = \"ssl\"");
    checkup.finds("error", "kafka-refused", &["SSL"]);
}

#[test]
fn brokers_that_give_no_identity_or_no_right_are_named() {
    let world = World::new("kafkarights");
    let mock = MockCluster::new(3).expect("brokers");
    mock.create_topic(&world.topic, 2, 3).expect("a topic");
    mock.apiversion(RDKafkaApiKey::InitProducerId, None, None)
        .expect("an older broker");
    mock.partition_leader(&world.topic, 1, None)
        .expect("a partition without a leader");
    let brokers = mock.bootstrap_servers();
    let checkup = Checkup::of(&world, &["--kafka-brokers", &brokers]);
    checkup.finds("error", "kafka-identity", &["dempotent"]);
    checkup.finds("error", "topic-leaderless", &["1 ("]);
    let flags = ["--kafka-brokers", &brokers, "--delivery", "exactly-once"];
    let checkup = Checkup::of(&world, &flags);
    checkup.finds("note", "transactions-untold", &["doorbell."]);
    mock.topic_error(
        &world.topic,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    )
    .expect("a topic whose disk is broken");
    let checkup = Checkup::of(&world, &["--kafka-brokers", &brokers]);
    checkup.finds("error", "topic-stuck", &[&world.topic]);
    mock.topic_error(
        &world.topic,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    )
    .expect("a topic that may not be described");
    let checkup = Checkup::of(&world, &["--kafka-brokers", &brokers]);
    checkup.finds("error", "topic-forbidden", &[&world.topic]);
}

#[test]
fn copies_that_are_not_in_sync_are_counted() {
    let cluster = Instance::start("checkcopies", &["kafka3"]);
    let world = World::on("checkcopies", cluster.services());
    create_topic(&world, &world.topic, 1, &[("min.insync.replicas", "3")]);
    let checkup = Checkup::of(&world, &[]);
    checkup.lacks(&["topic-copies", "topic-stuck", "topic-untold"]);
    checkup.finds("note", "topic-min-insync", &["its number of replicas"]);
    let loose = format!("{}.loose", world.name());
    create_topic(&world, &loose, 1, &[("min.insync.replicas", "1")]);
    let checkup = Checkup::of(&world, &["--topic", &loose]);
    checkup.finds("warning", "topic-min-insync", &[&loose, "is 1"]);
    cluster.kill("kafka3-3");
    // The other brokers first report that they cannot reach it, and then that it is not in sync.
    let missed = |it: &Checkup| {
        it.all("topic-min-insync")
            .iter()
            .any(|it| it["severity"] == "error")
    };
    let checkup = eventually("the broker is missed", || {
        Some(Checkup::of(&world, &[])).filter(|it| missed(it) && !it.all("topic-stuck").is_empty())
    });
    checkup.finds("error", "topic-min-insync", &["2 replicas", "is 3"]);
    // The message of the broker that refused the trial write.
    checkup.finds("error", "topic-stuck", &[&world.topic, "replicas"]);
}
