//! A partition without a leader: rows for it wait, and what becomes of the others.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::support::{Consumer, Instance, Relay, World, create_topic_over};

const ROWS: usize = 9_000;

/// Rows of a thousand keys, a third of them for each of three partitions.
fn insert(world: &mut World, text: &str) {
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload) SELECT '{text}', (n % 1000)::text, n::text FROM generate_series(1, {ROWS}) n"
    ));
}

/// Checks that each key came in order, and each row once.
#[track_caller]
fn check(consumer: &mut Consumer, rows: usize) {
    let received = consumer.drain();
    assert_eq!(received.len(), rows, "each once");
    let mut last = HashMap::new();
    for record in received {
        let before = last.insert(record.key.clone(), record.seq());
        assert!(before < Some(record.seq()), "{record:?} after {before:?}");
    }
}

#[test]
#[ignore = "it takes a minute or more of both processors"]
fn a_partition_without_a_leader_leaves_the_others_their_speed() {
    let mut nodes = Instance::start("leaderless", &["kafka3"]);
    let mut world = World::on("leaderless", nodes.services());
    create_topic_over(&world, &world.topic, &[1, 2, 3]);
    let relay = Relay::leading(&world, &["--in-flight-rows", "5000"]);
    insert(&mut world, "before");
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let of_third = consumer.drain().iter().filter(|it| it.partition == 2);
    let keys: BTreeSet<String> = of_third
        .map(|it| String::from_utf8_lossy(it.key.as_deref().unwrap_or_default()).into_owned())
        .collect();
    let keys: Vec<String> = keys.into_iter().collect();
    nodes.kill("kafka3-3");
    let begun = Instant::now();
    insert(&mut world, "during");
    // Those that wait are fewer than in_flight_rows.
    let others = format!(
        "SELECT count(*) FROM outbox WHERE key <> ALL ('{{{}}}')",
        keys.join(",")
    );
    world.await_number(&others, 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(world.number("SELECT count(*) FROM outbox") > 2_000);
    nodes.bring_back("kafka3-3");
    world.await_empty();
    check(&mut consumer, 2 * ROWS);
    assert!(relay.stop().success());
}
