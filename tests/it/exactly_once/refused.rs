//! Rows that Kafka refuses, and what their transactions do to the other rows.

use super::{flags, leading, prepared, receipts, seen};
use crate::support::{Consumer, Relay, World, create_topic, delete_topic};

const DEAD: &str = "SELECT count(*) FROM doorbell.dead WHERE code LIKE 'UnknownTopic%'";

/// A relay whose producer creates no topics.
fn without_new_topics(world: &World, outbox: &str) -> (tempfile::NamedTempFile, Relay) {
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"allow.auto.create.topics\" = false\n\
         \"topic.metadata.propagation.max.ms\" = 500\n[[outbox]]\nsweep = '1h'\ntopic = '{}'\ndelivery = 'exactly-once'\nreceipts = '{}'\n{outbox}",
        world.services.kafka_brokers,
        world.topic,
        receipts(world)
    );
    std::fs::write(config.path(), text).expect("room");
    let path = config.path().to_str().expect("a path").to_owned();
    let relay = Relay::leading(world, &["--config", &path]);
    (config, relay)
}

#[test]
fn a_row_for_a_missing_topic_is_parked_and_the_others_go_on() {
    let mut world = prepared("oncemissing");
    let (_config, relay) = without_new_topics(&world, "");
    let insert = format!(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 'x', 'k', g::text, CASE WHEN g % 25 = 7 THEN '{}.absent' END \
         FROM generate_series(1, 50) g",
        world.topic
    );
    for round in 1..=2 {
        world.sql(&insert);
        world.await_empty();
        assert_eq!(world.number(DEAD), round * 2);
    }
    assert_eq!(seen(&world).values().sum::<usize>(), 96);
    // A topic that is deleted while the relay uses it.
    let gone = format!("{}.gone", world.topic);
    create_topic(&world, &gone, 1, &[]);
    let insert = insert.replace(".absent", ".gone");
    world.sql(&insert);
    world.await_empty();
    delete_topic(&world, &gone);
    world.sql(&insert);
    world.await_empty();
    assert_eq!(world.number(DEAD), 6);
    assert_eq!(seen(&world).values().sum::<usize>(), 192);
    assert_eq!(relay.count_log("producer failed"), 0);
    assert!(relay.stop().success());
}

#[test]
fn rows_beside_one_that_is_refused_while_they_are_handed_over_are_sent() {
    let mut world = prepared("oncebeside");
    let small = world.topic.replace("outbox", "small");
    create_topic(&world, &small, 1, &[("max.message.bytes", "10000")]);
    // The brokers are asked about each of these topics, so the refusal comes before the last row.
    let topics: Vec<_> = (0..8).map(|n| format!("{small}.{n}")).collect();
    for topic in &topics {
        create_topic(&world, topic, 1, &[]);
    }
    let rows = format!(
        "INSERT INTO outbox (type, key, topic, payload) VALUES ('x', 'large', '{small}', repeat('x', 20000)); \
         INSERT INTO outbox (type, key, topic, payload) SELECT 'x', 'k' || g, '{small}.' || g % 8, g::text \
         FROM generate_series(1, 24) g"
    );
    world.sql(&rows);
    let relay = leading(&world, &["--poison", "hold-key"]);
    world.await_number("SELECT count(*) FROM outbox", 1);
    world.sql(&rows);
    world.await_number("SELECT count(*) FROM outbox", 2);
    for topic in &topics {
        assert_eq!(Consumer::committed(&world, topic).drain().len(), 6);
    }
    relay.await_log("it stays in the table");
    assert_eq!(relay.count_log("producer failed"), 0);
    assert!(relay.stop().success());
}

#[test]
fn the_brokers_are_asked_about_a_topic_once_a_transaction_and_not_for_each_key() {
    let mut world = prepared("onceasked");
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 'x', g::text, g::text FROM generate_series(1, 20000) g",
    );
    let relay = leading(&world, &["--poison", "hold-key"]);
    world.await_empty();
    assert_eq!(seen(&world).len(), 20_000);
    let asked = relay.count_log("asked a broker about a topic");
    assert!((1..20).contains(&asked), "{asked}");
    assert!(relay.stop().success());
}

#[test]
fn a_row_for_a_topic_of_receipts_is_refused_and_the_others_go_on() {
    let mut world = prepared("onceforbidden");
    let topic = receipts(&world);
    let insert = format!(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 'x', (SELECT id::text FROM doorbell.outbox), 'bad', t \
         FROM unnest(ARRAY['{topic}', 'doorbell.receipts.other']) t; \
         INSERT INTO outbox (type, payload) SELECT 'x', g::text FROM generate_series(1, 10) g"
    );
    for round in 1..=2 {
        world.sql(&insert);
        let relay = Relay::leading(&world, &flags(&topic, &[]));
        world.await_empty();
        let dead = "SELECT count(*) FROM doorbell.dead WHERE code = 'InvalidTopic' AND reason LIKE '%for receipts%'";
        assert_eq!(world.number(dead), round * 2);
        assert!(relay.stop().success());
    }
    assert_eq!(seen(&world).values().sum::<usize>(), 20);
}
