//! How a row becomes a record: key, value, headers, timestamp, topic, partition.

use std::collections::BTreeMap;
use std::io::Write;

use sqlx::Row;

use crate::support::{Consumer, Received, Relay, World, create_topic, stage};

fn header(name: &str, value: Option<&str>) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), value.map(|text| text.as_bytes().to_vec()))
}

#[test]
fn key_value_headers_and_timestamp_arrive_byte_for_byte() {
    let (mut world, _relay, mut consumer) = stage("bytes");
    world.sql(
        r#"INSERT INTO outbox (type, key, payload, created_at, headers) VALUES ('OrderCreated', 'Zoë 🔑', '  {"b" : 1,  "a":"🔔"} ',
           '2024-02-29 12:34:56.789987+00', '{"n": 1.50, "t": true, "nil": null, "o": {"x": [1]}, "schlüssel": "wört"}')"#,
    );
    let received = consumer.await_records(1)[0].clone();
    assert_eq!(received.key.as_deref(), Some("Zoë 🔑".as_bytes()));
    assert_eq!(received.text(), r#"  {"b" : 1,  "a":"🔔"} "#);
    assert_eq!(received.timestamp, Some(1_709_210_096_789));
    let id = received.header("id").to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!(id.as_bytes()[14], b'8', "version 8");
    assert_eq!(
        received.headers,
        [
            header("id", Some(&id)),
            header("seq", Some("1")),
            header("type", Some("OrderCreated")),
            header("n", Some("1.50")),
            header("nil", None),
            header("o", Some(r#"{"x": [1]}"#)),
            header("schlüssel", Some("wört")),
            header("t", Some("true")),
        ]
    );
    world.await_empty();
}

#[test]
fn null_is_a_tombstone_and_empty_is_a_value() {
    let (mut world, _relay, mut consumer) = stage("tombstone");
    world.sql("INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', NULL), ('t', 'k', ''), ('t', '', 'x'), ('t', NULL, 'y')");
    let mut received = consumer.await_records(4).to_vec();
    received.sort_by_key(Received::seq);
    assert_eq!(received[0].payload, None);
    assert_eq!(received[0].header("type"), "t");
    assert!(received[0].timestamp.is_some());
    assert_eq!(received[1].payload.as_deref(), Some(&b""[..]));
    assert_eq!(received[2].key.as_deref(), Some(&b""[..]));
    assert_eq!(received[3].key, None);
}

#[test]
fn a_megabyte_arrives_identical() {
    let (mut world, _relay, mut consumer) = stage("megabyte");
    world.sql("INSERT INTO outbox (type, payload) SELECT 't', json_build_object('text', repeat('é\"\\', 170000))::text");
    let expected: String =
        world.rows("SELECT json_build_object('text', repeat('é\"\\', 170000))::text")[0].get(0);
    assert!(expected.len() > 1_000_000);
    assert_eq!(consumer.await_records(1)[0].text(), expected);
}

#[test]
fn json_jsonb_and_bytea_payloads_are_sent_as_they_are_printed_or_stored() {
    for (kind, value, expected) in [
        (
            "json",
            r#"'{"b": 1,  "a":2}'"#,
            r#"{"b": 1,  "a":2}"#.as_bytes(),
        ),
        (
            "jsonb",
            r#"'{"b": 1,  "a":2}'"#,
            r#"{"a": 2, "b": 1}"#.as_bytes(),
        ),
        ("bytea", r"'\x00ff'", &[0, 255]),
    ] {
        let mut world = World::new("payload");
        create_topic(&world, &world.topic, 1, &[]);
        world.sql(&format!(
            "ALTER TABLE outbox ALTER payload TYPE {kind} USING NULL"
        ));
        let _relay = Relay::leading(&world, &[]);
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('t', {value})"
        ));
        let mut consumer = Consumer::new(&world, &world.topic);
        assert_eq!(
            consumer.await_records(1)[0].payload.as_deref(),
            Some(expected),
            "{kind}"
        );
    }
}

#[test]
fn fixed_headers_and_bytes_reach_kafka_and_a_profile_leaves_out_the_relays_own() {
    let mut world = World::new("profile");
    create_topic(&world, &world.topic, 1, &[]);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[outbox]]\ntopic = '{}'\nprofile = 'none'\n[outbox.fixed_headers]\nsource = 'shop'\n",
        world.topic
    );
    file.write_all(text.as_bytes()).expect("room");
    let path = file.path().to_str().expect("a path");
    let relay = Relay::leading(&world, &["--config", path]);
    world.sql(
        r#"INSERT INTO outbox (type, payload, headers) VALUES ('t', 'x', '{"__value_schema_id": {"$base64": "AQD/"}, "id": "7", "source": "forged"}')"#,
    );
    let mut consumer = Consumer::new(&world, &world.topic);
    let received = &consumer.await_records(1)[0];
    let bytes = ("__value_schema_id".to_owned(), Some(vec![1, 0, 255]));
    let expected = [
        header("source", Some("shop")),
        bytes,
        header("id", Some("7")),
    ];
    assert_eq!(received.headers, expected);
    world.await_empty();
    assert!(relay.stop().success());

    let verify = world.doorbell(&["verify", "--config", path]);
    let said = String::from_utf8_lossy(&verify.stderr);
    assert_eq!(verify.status.code(), Some(2), "{said}");
    assert!(said.contains("the profile `none`"), "{said}");
}

#[test]
fn headers_that_are_no_object_are_that_rows_fault() {
    let (mut world, relay, mut consumer) = stage("badheaders");
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('t', 'bad', '[1]'), ('t', 'good', '{}')");
    assert_eq!(consumer.await_records(1)[0].text(), "good");
    relay.await_log("its headers are not a JSON object");
    world.await_empty();
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead WHERE payload = 'bad'"),
        1
    );
}

#[test]
fn rows_go_to_their_topic_and_keys_to_the_partition_that_java_picks() {
    let (mut world, _relay, mut consumer) = stage("route");
    let other = format!("{}.other", world.topic);
    create_topic(&world, &other, 6, &[]);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 't', 'key-' || n % 20, n::text, CASE WHEN n % 2 = 0 THEN '{other}' END FROM generate_series(1, 400) n"
    ));
    let here = consumer.await_records(200).to_vec();
    let there = Consumer::new(&world, &other).await_records(200).to_vec();
    assert!(
        here.iter()
            .all(|r| r.text().parse::<i32>().expect("n") % 2 == 1)
    );
    assert!(
        there
            .iter()
            .all(|r| r.text().parse::<i32>().expect("n") % 2 == 0)
    );
    let mut partitions = BTreeMap::new();
    for record in here.iter().chain(&there) {
        let key = record.key.clone().expect("a key");
        let first = *partitions.entry(key).or_insert(record.partition);
        assert_eq!(first, record.partition, "one key, one partition");
    }
    for (key, partition) in &partitions {
        assert_eq!(*partition, java_partition(key, 6), "{key:?}");
    }
}

/// The default partitioner of Java's producer: `toPositive(murmur2(key)) % partitions`.
fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |k: u32| {
        let k = k.wrapping_mul(M);
        (k ^ (k >> 24)).wrapping_mul(M)
    };
    let length = u32::try_from(key.len()).expect("a short key");
    let mut h = 0x9747_b28c_u32 ^ length;
    let words = key.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let k = u32::from_le_bytes(word.try_into().expect("4 bytes"));
        h = h.wrapping_mul(M) ^ mix(k);
    }
    for (index, byte) in tail.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^= h >> 15;
    i32::try_from(h & 0x7fff_ffff).expect("31 bits") % partitions
}

#[test]
fn the_route_fills_in_table_and_type() {
    let mut world = World::new("template");
    let prefix = world.topic.clone();
    let topic = format!("{prefix}.Order-outbox");
    create_topic(&world, &topic, 1, &[]);
    let _relay = Relay::leading(
        &world,
        &["--topic", &format!("{prefix}.{{type}}-{{table}}")],
    );
    world.sql("INSERT INTO outbox (type, payload) VALUES ('Order', 'x'), ('no good', 'stays')");
    assert_eq!(
        Consumer::new(&world, &topic).await_records(1)[0].text(),
        "x"
    );
    // A type that gives no valid topic name is the fault of its row, which is parked.
    world.await_empty();
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead WHERE payload = 'stays'"),
        1
    );
}

#[test]
fn an_update_before_the_fetch_is_sent_once_and_a_deleted_row_not_at_all() {
    let mut world = World::new("changed");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "INSERT INTO outbox (type, payload) VALUES ('t', 'old'), ('t', 'gone'), ('t', 'last')",
    );
    world.sql("UPDATE outbox SET payload = 'new' WHERE payload = 'old'; DELETE FROM outbox WHERE payload = 'gone'");
    let _relay = Relay::leading(&world, &[]);
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: Vec<_> = consumer.drain().iter().map(Received::text).collect();
    assert_eq!(texts, ["new", "last"]);
}

#[test]
fn an_event_keeps_its_id_when_it_is_sent_again_and_a_reset_sequence_makes_new_ones() {
    let (mut world, relay, mut consumer) = stage("identity");
    // The row is inserted again unchanged, as after a crash between acknowledgement and delete.
    world.sql(
        "INSERT INTO outbox (id, type, payload, created_at) VALUES (1, 't', 'a', '2024-01-01')",
    );
    consumer.await_records(1);
    world.await_empty();
    assert!(relay.stop().success());
    let _relay = Relay::leading(&world, &[]);
    world.sql(
        "INSERT INTO outbox (id, type, payload, created_at) VALUES (1, 't', 'a', '2024-01-01')",
    );
    consumer.await_records(2);
    world.await_empty();
    world.sql("TRUNCATE outbox RESTART IDENTITY");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'b')");
    let received = consumer.await_records(3);
    assert_eq!(received[0].header("id"), received[1].header("id"));
    assert_eq!(received[2].seq(), 1);
    assert_ne!(received[0].header("id"), received[2].header("id"));
}

#[test]
fn rows_with_strange_times_are_sent_and_deleted_like_others() {
    let (mut world, relay, mut consumer) = stage("times");
    assert!(relay.stop().success());
    world.sql("ALTER TABLE outbox ALTER created_at DROP NOT NULL");
    let _relay = Relay::leading(&world, &[]);
    world.sql(
        "INSERT INTO outbox (type, payload, created_at) VALUES ('t', 'a', NULL), ('t', 'b', 'infinity'), ('t', 'c', '-infinity'), \
         ('t', 'd', '1900-01-01'), ('t', 'e', '1970-01-01'), ('t', 'f', '294276-12-31')",
    );
    consumer.await_records(6);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 6);
}
