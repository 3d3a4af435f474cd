//! Rows that Kafka can never take: parked with the reason while the others go on.

use serde_json::Value;
use sqlx::Row;

use crate::support::{
    Consumer, Relay, Services, World, create_topic, eventually, get, metrics, refused, stage,
};

const MISSING: &str = "SELECT count(*) FROM outbox";

/// The output of `doorbell dead` as JSON.
#[track_caller]
fn dead(world: &World, arguments: &[&str]) -> Value {
    let output = world.doorbell(&[&["dead", "--json"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn each_cause_is_parked_with_its_reason_topic_and_sizes_while_the_rest_goes_on() {
    let mut world = World::new("causes");
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "100000")]);
    let brokers = &world.services.kafka_brokers;
    // librdkafka waits so long for a topic that is missing and not created.
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[kafka]\nbrokers = '{brokers}'\n[kafka.properties]\n\"allow.auto.create.topics\" = false\n\
         \"topic.metadata.propagation.max.ms\" = 500\n[[outbox]]\nsweep = '1h'\ntopic = '{}'\n",
        world.topic
    );
    std::fs::write(config.path(), text).expect("room");
    let path = config.path().to_str().expect("a path");
    let relay = Relay::leading(&world, &["--config", path]);
    let absent = format!("{}.absent", world.topic);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic, headers) VALUES \
         ('good', 'é', 'first', NULL, NULL), ('client', 'é', repeat('x', 2000000), NULL, '{{\"a\": 1}}'), \
         ('broker', NULL, repeat('y', 300000), NULL, NULL), ('illegal', 'k', 'z', 'no topic!', NULL), \
         ('absent', 'k', NULL, '{absent}', NULL), ('headers', 'k', 'h', NULL, '[1]'), ('good', 'é', 'last', NULL, NULL)"
    ));
    world.await_number(MISSING, 0);
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: Vec<_> = consumer.drain().iter().map(|r| r.text()).collect();
    assert_eq!(texts, ["first", "last"]);
    let rows = world.rows(
        "SELECT type, code, reason, routed_to, payload_size, key_size, headers_size, attempts, row_id, outbox \
         FROM doorbell.dead ORDER BY row_id",
    );
    let topic = world.topic.as_str();
    let expected = [
        (
            "client",
            "MessageSizeTooLarge",
            "larger than the producer's",
            topic,
            (2_000_000, 2, 8),
        ),
        (
            "broker",
            "MessageSizeTooLarge",
            "too large",
            topic,
            (300_000, 0, 0),
        ),
        ("illegal", "InvalidTopic", "' '", "no topic!", (1, 1, 0)),
        ("absent", "UnknownTopic", "topic", &absent, (0, 1, 0)),
        (
            "headers",
            "InvalidHeaders",
            "not a JSON object",
            topic,
            (1, 1, 3),
        ),
    ];
    assert_eq!(rows.len(), expected.len());
    for ((row, expected), id) in rows.iter().zip(expected).zip(2_i64..) {
        let (kind, code, words, routed, sizes) = expected;
        let text = |column: &str| -> String { row.get(column) };
        assert_eq!(text("type"), kind);
        assert!(text("code").starts_with(code), "{kind}: {}", text("code"));
        assert!(text("reason").contains(words), "{kind}: {}", text("reason"));
        assert_eq!(text("routed_to"), routed);
        let size = |column: &str| -> i64 { row.get(column) };
        assert_eq!(
            (size("payload_size"), size("key_size"), size("headers_size")),
            sizes,
            "{kind}"
        );
        assert_eq!(row.get::<i64, _>("attempts"), 1);
        assert_eq!(size("row_id"), id);
        assert_eq!(text("outbox"), "public.outbox");
    }
    assert!(relay.stop().success());
}

#[test]
fn ten_thousand_bad_rows_among_good_ones_hold_none_of_them_up() {
    let (mut world, relay, mut consumer) = stage("tenthousand");
    world.sql(
        "INSERT INTO outbox (type, payload, headers) \
         SELECT 't', n::text, CASE WHEN n % 2 = 0 THEN '[]'::jsonb END FROM generate_series(1, 20000) n",
    );
    assert_eq!(consumer.await_records(10_000).len(), 10_000);
    world.await_empty();
    assert_eq!(
        world
            .number("SELECT count(DISTINCT payload) FROM doorbell.dead WHERE payload::int % 2 = 0"),
        10_000
    );
    assert_eq!(consumer.drain().len(), 10_000, "each good one once");
    assert!(relay.stop().success());
}

#[test]
fn refused_rows_are_logged_once_with_a_count_and_bounded_in_memory() {
    let mut world = World::new("counted");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    let mut user = world.connect();
    world.sql_on(
        &mut user,
        "BEGIN; LOCK TABLE doorbell.dead IN SHARE ROW EXCLUSIVE MODE",
    );
    world.sql(
        "INSERT INTO outbox (type, payload, headers) SELECT 't', n::text, '[]' FROM generate_series(1, 70000) n",
    );
    let fetched = |relay: &Relay| -> usize {
        let metrics = metrics(relay);
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("doorbell_rows_fetched_total{outbox=\"outbox\"} "));
        line.expect("a number").parse().expect("a number")
    };
    // No more are fetched while so many wait for their move.
    eventually("50,000 rows are refused", || {
        (fetched(&relay) >= 50_000).then_some(())
    });
    assert!(fetched(&relay) < 60_000);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 70_000);
    let log = relay.log();
    let told = log
        .iter()
        .filter(|line| line.contains("ERROR") && line.contains("Kafka cannot take this row"));
    assert!(told.count() <= 2, "one at once, and a count each minute");
    assert!(relay.stop().success());
}

#[test]
fn a_move_that_fails_leaves_the_row_and_is_made_up_for() {
    let (mut world, relay, mut consumer) = stage("nomove");
    world.sql("ALTER TABLE doorbell.dead RENAME TO away");
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('t', 'bad', '[]'), ('t', 'good', NULL)");
    relay.await_log("refused rows cannot be parked");
    relay.await_log("run `doorbell migrate`");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'after')");
    consumer.await_records(2);
    world.await_number("SELECT count(*) FROM outbox WHERE payload <> 'bad'", 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    world.sql("ALTER TABLE doorbell.away RENAME TO dead");
    world.await_empty();
    relay.await_log("refused rows can be parked again");
    relay.assert_logged("refused rows cannot be parked", 1);
    relay.assert_logged("Kafka cannot take this row", 1);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
    assert_eq!(consumer.drain().len(), 2);
    assert!(relay.stop().success());
}

#[test]
fn a_bad_row_that_a_user_holds_locked_is_parked_when_it_is_free() {
    let (mut world, relay, mut consumer) = stage("deadlocked");
    assert!(relay.stop().success());
    let mut user = world.connect();
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('t', 'held', '[]'), ('t', 'bad', '[]'), ('t', 'good', NULL)");
    world.sql_on(
        &mut user,
        "BEGIN; SELECT FROM outbox WHERE payload = 'held' FOR UPDATE",
    );
    let relay = Relay::leading(&world, &[]);
    world.await_number("SELECT count(*) FROM outbox WHERE payload <> 'held'", 0);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 2);
    assert_eq!(consumer.await_records(1)[0].text(), "good");
    assert!(relay.stop().success());
}

#[test]
fn the_policy_stop_refuses_to_go_past_the_row_and_keeps_the_order() {
    let mut world = World::new("poisonstop");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('t', 'before', NULL), ('t', 'bad', '[]'), ('t', 'behind', NULL); \
        UPDATE outbox SET key = 'k'");
    for _ in 0..2 {
        let mut relay = Relay::spawn(&world, &["--poison", "stop"]);
        assert_eq!(relay.wait().code(), Some(1));
        let line = "doorbell: row 2 cannot be sent: its headers are not a JSON object; nothing behind it is fetched";
        relay.assert_logged(line, 1);
    }
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.drain().len(), 1, "what is before the row, once");
    assert_eq!(consumer.received[0].text(), "before");
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 2);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    world.sql("UPDATE outbox SET headers = NULL");
    let relay = Relay::leading(&world, &["--poison", "stop"]);
    world.await_empty();
    let texts: Vec<_> = consumer.drain().iter().map(|r| r.text()).collect();
    assert_eq!(texts, ["before", "bad", "behind"]);
    assert!(relay.stop().success());
}

#[test]
fn the_policy_stop_of_one_outbox_leaves_the_others_running() {
    let mut world = World::empty("poisonothers", Services::shared().clone());
    let topics = ["orders", "bills"].map(|table| world.topic.replace("outbox", table));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[outbox]]\ntable = 'orders'\ntopic = '{}'\npoison = 'stop'\n[[outbox]]\ntable = 'bills'\ntopic = '{}'\n",
        topics[0], topics[1]
    );
    std::fs::write(file.path(), text).expect("a file");
    let config = ["--config", file.path().to_str().expect("a path")];
    world.migrate(&config);
    for topic in &topics {
        create_topic(&world, topic, 1, &[]);
    }
    let listen = ["--listen", "127.0.0.1:0"];
    let relay = Relay::spawn(&world, &[&config[..], &listen].concat());
    relay.await_log_times("leading", 2);
    world.sql("INSERT INTO orders (type, headers) VALUES ('t', '[]')");
    relay.await_log("this outbox has stopped");
    world.sql("INSERT INTO bills (type, payload) VALUES ('t', 'bill')");
    world.await_number("SELECT count(*) FROM bills", 0);
    assert_eq!(Consumer::new(&world, &topics[1]).drain().len(), 1);
    let answer = get(&relay, "/readyz");
    assert_eq!(answer.code, 503);
    assert!(
        answer.body.contains("row 1 cannot be sent"),
        "{}",
        answer.body
    );
    assert_eq!(relay.stop().code(), Some(1));
    assert_eq!(world.number("SELECT count(*) FROM orders"), 1);
}

#[test]
fn a_row_that_is_sent_back_comes_after_those_of_its_key_that_went_on() {
    let (mut world, relay, mut consumer) = stage("sentback");
    world.sql(
        "INSERT INTO outbox (type, key, payload, headers) VALUES ('t', 'k', 'before', NULL), ('t', 'k', 'bad', '[]'), \
         ('t', 'k', 'behind 1', NULL), ('t', 'k', 'bad too', '[]'), ('t', 'k', 'behind 2', NULL)",
    );
    world.await_empty();
    consumer.await_records(3);
    world.sql("UPDATE doorbell.dead SET headers = NULL");
    assert_eq!(dead(&world, &["retry", "--all"])["retried"], 2);
    consumer.await_records(5);
    world.sql("INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'later')");
    let texts: Vec<_> = consumer.await_records(6).iter().map(|r| r.text()).collect();
    let order = ["before", "behind 1", "behind 2", "bad", "bad too", "later"];
    assert_eq!(texts, order);
    assert!(relay.stop().success());
}

#[test]
fn dead_letters_are_listed_shown_retried_and_dropped() {
    let (mut world, relay, mut consumer) = stage("letters");
    world.sql(
        "INSERT INTO outbox (type, key, payload, headers, created_at) \
         SELECT 't', 'é' || n, 'p' || n, '[]', '2024-01-01' FROM generate_series(1, 5) n; \
         INSERT INTO outbox (type, payload, topic) VALUES ('t', 'p6', 'no topic!')",
    );
    world.await_number("SELECT count(*) FROM doorbell.dead", 6);
    let ids = |list: &Value| -> Vec<i64> {
        let list = list.as_array().expect("a list").iter();
        list.map(|letter| letter["id"].as_i64().expect("an id"))
            .collect()
    };
    let all = ids(&dead(&world, &["list"]));
    assert_eq!(all.len(), 6);
    let first = all[0].to_string();
    assert_eq!(
        ids(&dead(&world, &["list", "--limit", "2", "--after", &first])),
        all[1..3]
    );
    let illegal = dead(&world, &["list", "--reason", "invalidtopic"]);
    assert_eq!(illegal[0]["topic"], "no topic!");
    let illegal = ids(&illegal);
    assert_eq!(illegal.len(), 1);
    let shown = dead(&world, &["show", &first]);
    assert_eq!(shown["payload"], "p1");
    assert_eq!(shown["key"], "é1");
    assert_eq!(shown["headers"], "[]");
    assert_eq!(shown["row_id"], 1);
    assert_eq!(shown["code"], "InvalidHeaders");
    assert_eq!(shown["attempts"], 1);
    let status: Value =
        serde_json::from_slice(&world.doorbell(&["status", "--json"]).stdout).expect("JSON");
    assert_eq!(status[0]["dead"], 6);

    // A mistake is reported in one line, and changes nothing.
    for command in ["retry", "show"] {
        refused(
            &world.doorbell(&["dead", command, "999"]),
            1,
            &["no dead letter 999"],
        );
    }
    refused(
        &world.doorbell(&["dead", "retry", &first, "999"]),
        1,
        &["no dead letter 999"],
    );
    refused(
        &world.doorbell(&["dead", "drop", "999", "--yes"]),
        1,
        &["no dead letter 999"],
    );
    refused(
        &world.doorbell(&["dead", "drop", "--all"]),
        2,
        &["6 dead letters", "--yes"],
    );
    assert_eq!(ids(&dead(&world, &["list"])), all);

    // A letter that is still bad is refused again, and counted.
    assert_eq!(dead(&world, &["retry", &first])["retried"], 1);
    let again =
        "SELECT count(*) FROM doorbell.dead WHERE payload = 'p1' AND row_id = 1 AND attempts = 2";
    world.await_number(again, 1);
    world.await_empty();
    assert_eq!(ids(&dead(&world, &["list"])).len(), 6);

    // A letter that is good now is delivered as the original event.
    world.sql("UPDATE doorbell.dead SET headers = NULL WHERE payload = 'p2'");
    let second = all[1].to_string();
    assert_eq!(dead(&world, &["retry", &second])["retried"], 1);
    let received = consumer.await_records(1)[0].clone();
    assert_eq!(received.text(), "p2");
    assert_eq!(received.seq(), 2);
    assert_eq!(received.key.as_deref(), Some("é2".as_bytes()));
    assert_eq!(received.timestamp, Some(1_704_067_200_000));
    world.await_empty();

    assert_eq!(
        dead(&world, &["drop", "--reason", "InvalidTopic", "--yes"])["dropped"],
        1
    );
    world.sql("UPDATE doorbell.dead SET headers = NULL");
    assert_eq!(dead(&world, &["retry", "--all"])["retried"], 4);
    consumer.await_records(5);
    world.await_empty();
    assert_eq!(ids(&dead(&world, &["list"])), [0_i64; 0]);
    assert_eq!(consumer.drain().len(), 5);
    assert!(relay.stop().success());
}

#[test]
fn a_retry_under_an_id_that_was_taken_again_changes_nothing() {
    let (mut world, relay, _) = stage("taken");
    world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
    world.await_number("SELECT count(*) FROM doorbell.dead", 1);
    assert!(relay.stop().success());
    world.sql("INSERT INTO outbox (id, type) VALUES (1, 'other')");
    refused(
        &world.doorbell(&["dead", "retry", "--all"]),
        1,
        &["has the id of a dead letter"],
    );
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    assert_eq!(dead(&world, &["list"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn contents_of_every_type_come_back_as_they_were() {
    let mut world = World::empty("types", Services::shared().clone());
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE TYPE kind AS ENUM ('a', 'b'); \
         CREATE TABLE one (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type kind NOT NULL, payload bytea, \
         created_at timestamp NOT NULL DEFAULT now(), key bytea, headers json); \
         CREATE TABLE two (id bigint PRIMARY KEY, type varchar(9) NOT NULL, payload jsonb, created_at timestamptz, key uuid, headers jsonb); \
         CREATE TABLE three (id bigint PRIMARY KEY, type text NOT NULL, payload json, created_at timestamptz NOT NULL, key int, topic text, headers json)",
    );
    for (table, insert) in [
        (
            "one",
            r#"(type, payload, key, headers, created_at) VALUES ('b', '\x00ff', '\x', '[1,  2]', '2024-01-01 00:00:00.123456')"#,
        ),
        (
            "two",
            r#"VALUES (7, 'x', '{"b": 1.50, "a": "ü"}', '2024-01-01', '0f0e0d0c-0b0a-0908-0706-050403020100', '[null]')"#,
        ),
        (
            "three",
            r#"VALUES (-7, '', '{"a":1,  "a":2}', '2024-01-01', 42, NULL, '["x"  ]')"#,
        ),
    ] {
        world.migrate(&["--table", table]);
        let relay = Relay::leading(&world, &["--table", table, "--topic", &world.topic]);
        let content = format!("SELECT t::text FROM {table} t");
        let mut writer = world.connect();
        world.sql_on(&mut writer, &format!("BEGIN; INSERT INTO {table} {insert}"));
        let before = world.text_on(&mut writer, &content);
        world.sql_on(&mut writer, "COMMIT");
        world.await_number(
            &format!("SELECT count(*) FROM doorbell.dead WHERE outbox = 'public.{table}'"),
            1,
        );
        assert!(relay.stop().success());
        assert_eq!(
            dead(&world, &["retry", "--all", "--table", table])["retried"],
            1
        );
        assert_eq!(
            world.rows(&content)[0].get::<String, _>(0),
            before,
            "{table}"
        );
    }
}
