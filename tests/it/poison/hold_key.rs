//! The policy `hold-key`: later rows of the key of a refused row wait in the table, all others are
//! sent, and the order is kept.

use std::collections::BTreeMap;

use crate::support::{
    Consumer, Meter, Received, Relay, World, configure_topic, create_topic, eventually,
};

const HOLD: &[&str] = &["--poison", "hold-key"];
const REFUSED: &str = "Kafka cannot take this row: it stays in the table";

/// A relay whose producer creates no topics.
fn configured(world: &World, outbox: &str) -> (tempfile::NamedTempFile, Relay) {
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"allow.auto.create.topics\" = false\n\
         \"topic.metadata.propagation.max.ms\" = 500\n[[outbox]]\nsweep = '1h'\ntopic = '{}'\n{outbox}",
        world.services.kafka_brokers, world.topic
    );
    std::fs::write(config.path(), text).expect("room");
    let relay = Relay::leading(
        world,
        &["--config", config.path().to_str().expect("a path")],
    );
    (config, relay)
}

/// What arrived for each key, in order of arrival.
fn by_key(received: &[Received]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for it in received {
        let key = it.key.as_deref().unwrap_or_default();
        let key = String::from_utf8_lossy(key).into_owned();
        let text: String = it.text().chars().take(9).collect();
        keys.entry(key).or_default().push(text);
    }
    keys
}

#[test]
fn each_cause_holds_its_key_until_it_is_cured_and_no_other() {
    let mut world = World::new("holdcauses");
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "100000")]);
    let absent = format!("{}.absent", world.topic);
    let (_config, relay) = configured(&world, "poison = 'hold-key'\n");
    let before = "INSERT INTO outbox (type, key, payload) SELECT 't', k, 'first' FROM unnest(ARRAY['client', 'broker', 'illegal', 'headers', 'free']) k";
    world.sql(before);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic, headers) VALUES \
         ('t', 'client', repeat('x', 2000000), NULL, NULL), ('t', 'broker', repeat('y', 300000), NULL, NULL), \
         ('t', 'illegal', 'z', 'no topic!', NULL), ('t', 'absent', 'a', '{absent}', NULL), ('t', 'headers', 'h', NULL, '[1]'), \
         ('t', NULL, 'alone', NULL, '[1]')"
    ));
    // Some arrive with the refused rows, some when these are known.
    let behind = "INSERT INTO outbox (type, key, payload) SELECT 't', k, 'behind ' || n FROM generate_series(1, 3) n, \
         unnest(ARRAY['client', 'broker', 'illegal', 'absent', 'headers', 'free', NULL]) k";
    world.sql(behind);
    // Two reasons have two rows each.
    relay.await_log_times(REFUSED, 4);
    relay.await_log_times("one more refused row", 2);
    world.sql(&behind.replace("1, 3", "4, 5"));
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(5 + 5 + 5);
    world.await_number("SELECT count(*) FROM outbox", 6 + 5 * 5);
    world.await_asleep();
    relay.assert_logged("one more refused row", 2);
    let keys = by_key(&consumer.received);
    for held in ["client", "broker", "illegal", "headers"] {
        assert_eq!(keys[held], ["first"], "{held}");
    }
    assert!(!keys.contains_key("absent"));
    let waited = ["behind 1", "behind 2", "behind 3", "behind 4", "behind 5"];
    assert_eq!(keys["free"][1..], waited);
    assert_eq!(keys[""], waited);

    // A row that is corrected, one that is deleted, a limit that is raised, a topic that is
    // created.
    world.sql("UPDATE outbox SET headers = NULL WHERE headers IS NOT NULL; UPDATE outbox SET payload = 'less' WHERE key = 'client' AND length(payload) > 9");
    world.sql("DELETE FROM outbox WHERE key = 'illegal' AND topic IS NOT NULL");
    configure_topic(&world, &world.topic, "max.message.bytes", "400000");
    create_topic(&world, &absent, 1, &[]);
    world.await_empty();
    let keys = by_key(consumer.drain());
    for (key, own) in [
        ("client", Some("less")),
        ("broker", Some("yyyyyyyyy")),
        ("headers", Some("h")),
        ("illegal", None),
        ("absent", None),
    ] {
        let first = (key != "absent").then_some("first");
        let expected: Vec<&str> = first.into_iter().chain(own).chain(waited).collect();
        assert_eq!(keys[key], expected, "{key}");
    }
    assert_eq!(keys[""].last().map(String::as_str), Some("alone"));
    assert_eq!(Consumer::new(&world, &absent).drain().len(), 1);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
}

#[test]
fn a_held_row_costs_one_statement_a_try_and_the_relay_sleeps() {
    let mut world = World::new("holdidle");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, HOLD);
    world.sql("INSERT INTO outbox (type, key, payload, headers) VALUES ('t', 'k', 'bad', '[]'), ('t', 'k', 'behind', NULL)");
    relay.await_log(REFUSED);
    let tried = |relay: &Relay| relay.count_log("trying refused rows again rows=1");
    relay.await_log_times("trying refused rows again rows=1", 1);
    world.await_asleep();
    let (before, from) = (meter.statements(&mut world), tried(&relay));
    relay.await_log_times("trying refused rows again rows=1", from + 2);
    world.await_asleep();
    let tries = i64::try_from(tried(&relay) - from).expect("a count");
    let asked = meter.statements(&mut world) - before;
    // A minute may pass meanwhile, in which each session is probed.
    assert!(
        asked <= tries + 4,
        "{asked} statements for {tries} tries\n{}",
        meter.list(&mut world)
    );
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 2);
    world.sql("DELETE FROM outbox WHERE payload = 'bad'");
    world.await_empty();
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn whoever_takes_over_or_starts_again_holds_the_key_as_well() {
    let mut world = World::new("holdagain");
    create_topic(&world, &world.topic, 1, &[]);
    let first = Relay::leading(&world, HOLD);
    let second = Relay::spawn(&world, HOLD);
    second.await_log("standby");
    let insert = |world: &mut World, numbers: &str| {
        world.sql(&format!(
            "INSERT INTO outbox (type, key, payload) SELECT 't', k, k || n FROM generate_series({numbers}) n, unnest(ARRAY['k', 'l']) k"
        ));
    };
    world.sql("INSERT INTO outbox (type, key, payload, headers) VALUES ('t', 'k', 'bad', '[]')");
    insert(&mut world, "1, 2");
    first.await_log(REFUSED);
    first.kill();
    second.await_log(REFUSED);
    insert(&mut world, "3, 4");
    world.await_number("SELECT count(*) FROM outbox", 5);
    assert!(second.stop().success());
    let third = Relay::leading(&world, HOLD);
    third.await_log(REFUSED);
    insert(&mut world, "5, 6");
    world.await_number("SELECT count(*) FROM outbox", 7);
    // The term ends and a new one begins inside the process, as after the loss of a session.
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % reader %'");
    third.await_log_times("leading", 2);
    world.sql("UPDATE outbox SET headers = NULL, payload = 'good'");
    world.sql("UPDATE outbox SET payload = 'k' || (id - 1) WHERE id > 1");
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let keys = by_key(consumer.drain());
    assert_eq!(keys["k"].len(), 7);
    assert_eq!(keys["k"][0], "good");
    let order: Vec<i64> = consumer
        .received
        .iter()
        .filter(|it| it.key.as_deref() == Some(b"k"))
        .map(Received::seq)
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!(third.stop().success());
}

#[test]
fn ten_thousand_held_rows_among_good_ones_hold_none_of_them_up_and_go_in_the_end() {
    let mut world = World::new("holdmany");
    create_topic(&world, &world.topic, 6, &[]);
    let relay = Relay::leading(&world, HOLD);
    let mut consumer = Consumer::new(&world, &world.topic);
    // Every second row is bad: each of their keys has two, and a good one behind them.
    world.sql(
        "INSERT INTO outbox (type, key, payload, headers) SELECT 't', CASE WHEN n % 2 = 0 THEN 'bad ' || n / 4 ELSE 'good ' || n END, n::text, \
         CASE WHEN n % 2 = 0 THEN '[]'::jsonb END FROM generate_series(1, 20000) n; \
         INSERT INTO outbox (type, key, payload) SELECT 't', 'bad ' || n, 'behind' FROM generate_series(1, 4999) n",
    );
    consumer.await_records(10_000);
    world.await_number("SELECT count(*) FROM outbox", 10_000 + 4_999);
    assert!(consumer.drain().iter().all(|it| {
        it.key
            .as_deref()
            .is_some_and(|key| key.starts_with(b"good"))
    }));
    world.sql("UPDATE outbox SET headers = NULL WHERE headers IS NOT NULL");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 24_999, "each once");
    let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
    for it in &consumer.received {
        let before = last.insert(it.key.as_deref().unwrap_or_default(), it.seq());
        assert!(before.is_none_or(|before| before < it.seq()), "{it:?}");
    }
    assert!(relay.stop().success());
}

#[test]
fn a_topic_may_have_a_policy_of_its_own() {
    let mut world = World::new("holdtopics");
    let [held, stopped] = ["held", "stopped"].map(|name| format!("{}.{name}", world.topic));
    for topic in [&world.topic, &held, &stopped] {
        create_topic(&world, topic, 1, &[]);
    }
    let policies = format!("[outbox.poison_topics]\n{held} = 'hold-key'\n'{stopped}' = 'stop'\n");
    let (config, mut relay) = configured(&world, &policies);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic, headers) VALUES ('t', 'k', 'parked', NULL, '[]'), ('t', 'k', 'goes', NULL, NULL), \
         ('t', 'k', 'held', '{held}', '[]'), ('t', 'k', 'waits', '{held}', NULL), ('t', 'k', 'waits', NULL, NULL), ('t', 'l', 'goes', '{held}', NULL)"
    ));
    world.await_number("SELECT count(*) FROM outbox", 3);
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead WHERE payload = 'parked'"),
        1
    );
    assert_eq!(
        world.number("SELECT count(*) FROM outbox WHERE payload = 'waits'"),
        2
    );
    for topic in [&world.topic, &held] {
        let mut consumer = Consumer::new(&world, topic);
        assert_eq!(
            consumer
                .drain()
                .iter()
                .map(Received::text)
                .collect::<Vec<_>>(),
            ["goes"]
        );
    }
    world.sql(&format!("INSERT INTO outbox (type, payload, topic, headers) VALUES ('t', 'stops', '{stopped}', '[]')"));
    assert_eq!(relay.wait().code(), Some(1));
    relay.assert_logged("doorbell: row 7 cannot be sent", 1);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 4);
    world.sql("DELETE FROM outbox WHERE headers IS NOT NULL");
    let relay = Relay::leading(
        &world,
        &["--config", config.path().to_str().expect("a path")],
    );
    world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn held_rows_are_listed_with_key_reason_and_next_try() {
    let mut world = World::new("heldlist");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, HOLD);
    let held = |world: &World, more: &[&str]| {
        let output = world.doorbell(&[&["held"][..], more].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &*String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(held(&world, &["list", "--json"]), (Some(0), "[]\n".into()));
    world.sql(
        "INSERT INTO outbox (id, type, key, headers) SELECT 100 + n, 't', 'k' || n, '[]' FROM generate_series(1, 20) n",
    );
    relay.await_log(REFUSED);
    let rows = eventually("all are held", || {
        let (_, said) = held(&world, &["list", "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&said).expect("JSON");
        (rows.len() == 20).then_some(rows)
    });
    for (row, n) in rows.iter().zip(1..) {
        assert_eq!(row["row"], 100 + n, "{row}");
        assert_eq!(row["key"], format!("k{n}"), "{row}");
        assert_eq!(row["outbox"], "outbox", "{row}");
        let reason = row["reason"].as_str().expect("a text");
        assert!(reason.contains("JSON object"), "{row}");
        assert!(row["next_try_seconds"].as_f64().expect("a number") <= 60.0);
    }
    let (code, said) = held(&world, &["list"]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 21, "{said}");
    assert!(
        lines[0].starts_with("ROW  OUTBOX  KEY  HOLDS    NEXT TRY  "),
        "{said}"
    );
    assert!(
        lines[7].starts_with("107  outbox  k7   its key  in "),
        "{said}"
    );
    let column = lines[0].find("REASON").expect("a head");
    let reason = lines[7].get(column..).expect("a reason");
    let (code, said) = held(&world, &["show", "107"]);
    assert_eq!(code, Some(0), "{said}");
    for line in ["row       107\n", "key       k7\n", "holds     its key\n"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(said.contains(&format!("reason    {reason}\n")), "{said}");
    let (code, said) = held(&world, &["show", "7"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the row 7 keeps no key and no topic waiting"),
        "{said}"
    );
    assert!(relay.stop().success());
    let (code, said) = held(&world, &["list"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no leader of outbox answered within 10 s"),
        "{said}"
    );
}
