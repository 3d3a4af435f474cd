//! Exactly-once together with the other settings of an outbox: nothing lost, no duplicates, each
//! key in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{check, insert, leading, prepared, receipts, seen, spawn};
use crate::support::{Consumer, Load, Relay, World, create_topic};

/// Returns what a consumer of committed records sees of each key, in order.
fn by_key(world: &World, topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in Consumer::committed(world, topic).drain() {
        let key = record.key.as_deref().unwrap_or_default();
        let key = String::from_utf8_lossy(key).into_owned();
        let text = record.text().chars().take(9).collect();
        keys.entry(key).or_default().push(text);
    }
    keys
}

#[test]
fn a_held_key_waits_in_the_table_and_goes_in_order_when_it_is_cured() {
    let mut world = prepared("oncehold");
    let small = world.topic.replace("outbox", "small");
    create_topic(&world, &small, 1, &[("max.message.bytes", "10000")]);
    let relay = leading(&world, &["--poison", "hold-key"]);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic, headers) VALUES ('t', 'headers', 'bad', NULL, '[]'), \
         ('t', 'illegal', 'bad', 'no topic!', NULL), ('t', 'broker', repeat('x', 20000), '{small}', NULL)"
    ));
    let behind = format!(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 't', k, 'behind ' || n, CASE k WHEN 'broker' THEN '{small}' END \
         FROM generate_series(1, 3) n, unnest(ARRAY['headers', 'illegal', 'broker', 'free']) k"
    );
    world.sql(&behind);
    relay.await_log_times("it stays in the table", 3);
    world.sql(&behind.replace("1, 3", "4, 5"));
    world.await_number("SELECT count(*) FROM outbox", 3 + 3 * 5);
    world.await_asleep();
    let waited = ["behind 1", "behind 2", "behind 3", "behind 4", "behind 5"];
    assert_eq!(by_key(&world, &world.topic)["free"], waited);
    assert_eq!(by_key(&world, &small), BTreeMap::new());

    // The next leader holds the same keys.
    relay.kill();
    let relay = leading(&world, &["--poison", "hold-key"]);
    relay.await_log_times("it stays in the table", 3);
    world.sql("UPDATE outbox SET payload = 'cured', headers = NULL WHERE headers IS NOT NULL OR length(payload) > 10");
    world.sql("DELETE FROM outbox WHERE topic = 'no topic!'");
    world.await_empty();
    let cured = ["cured"].into_iter().chain(waited).collect::<Vec<_>>();
    let keys = by_key(&world, &world.topic);
    assert_eq!(keys["headers"], cured);
    assert_eq!(keys["illegal"], waited);
    assert_eq!(keys["free"], waited);
    assert_eq!(by_key(&world, &small)["broker"], cured);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
}

#[test]
fn a_pause_under_load_and_its_end_double_nothing() {
    let mut world = prepared("oncepause");
    let relay = leading(&world, &[]);
    let load = Load::start(&world);
    load.await_rows(500);
    assert!(world.doorbell(&["pause"]).status.success());
    relay.await_log("paused: no row is fetched");
    // What was in flight is settled: no row that was sent is left.
    let sent = Consumer::committed(&world, &world.topic).drain().len();
    let highest = Consumer::committed(&world, &world.topic)
        .drain()
        .iter()
        .map(|record| record.seq())
        .max();
    let left = format!(
        "SELECT count(*) FROM outbox WHERE id <= {}",
        highest.unwrap_or_default()
    );
    assert_eq!(world.number(&left), 0);
    load.await_rows(300);
    assert_eq!(
        Consumer::committed(&world, &world.topic).drain().len(),
        sent,
        "nothing flows"
    );
    // The next leader is paused as well, and continues with the same receipts.
    relay.kill();
    let relay = spawn(&world, &[]);
    relay.await_log("paused: no row is fetched");
    assert!(world.doorbell(&["resume"]).status.success());
    relay.await_log("resumed");
    load.await_rows(300);
    check(&mut world, load);
    assert!(relay.stop().success());
}

#[test]
fn a_rate_is_kept_over_a_kill_without_doubles() {
    let mut world = prepared("oncerate");
    insert(&mut world, 600);
    let begun = Instant::now();
    let rate = ["--max-rate", "200"];
    let relay = leading(&world, &rate);
    Consumer::committed(&world, &world.topic).await_records(200);
    relay.kill();
    let relay = leading(&world, &rate);
    world.await_empty();
    let took = begun.elapsed();
    // Three seconds less what each of the two has saved up.
    assert!(took > Duration::from_secs(2), "{took:?}");
    let counts = seen(&world);
    assert_eq!(counts.len(), 600);
    assert!(counts.values().all(|times| *times == 1), "{counts:?}");
    for (key, texts) in by_key(&world, &world.topic) {
        let numbers = texts
            .iter()
            .map(|text| text.parse::<u32>().expect("a number"));
        assert!(numbers.is_sorted(), "{key}: {texts:?}");
    }
    assert!(relay.stop().success());
}

#[test]
fn a_row_that_ends_the_process_is_found_and_no_other_is_doubled() {
    let mut world = prepared("oncecrash");
    // A row of a quarter of it is read.
    let large = ["--in-flight-bytes", "2GiB"];
    let relay = leading(&world, &large);
    // Enough for all that is needed, and less than the row.
    let limit = relay.kib("VmPeak:") + (256 << 10);
    assert!(relay.stop().success());
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 7, n::text FROM generate_series(1, 120) n; \
         INSERT INTO outbox (type, payload) SELECT 't', repeat('x', 300000000); \
         INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 7, n::text FROM generate_series(121, 200) n",
    );
    let receipts = receipts(&world);
    let flags = super::flags(&receipts, &large);
    let mut starts = 0;
    let relay = loop {
        starts += 1;
        assert!(starts <= 20, "it is not found");
        let mut relay = Relay::spawn_within(&world, &flags, limit);
        if !relay.ends_or_says("crash-loop search finished") {
            break relay;
        }
    };
    world.await_empty();
    let dead =
        "SELECT count(*) FROM doorbell.dead WHERE code = 'Crash' AND payload_size = 300000000";
    assert_eq!(world.number(dead), 1);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
    let mut texts = BTreeSet::new();
    for (key, numbers) in by_key(&world, &world.topic) {
        let numbers = numbers
            .iter()
            .map(|text| text.parse::<u32>().expect("a number"))
            .collect::<Vec<_>>();
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        for number in numbers {
            assert!(texts.insert(number), "{number} came twice");
        }
    }
    assert_eq!(texts.len(), 200);
    assert!(relay.stop().success());
}
