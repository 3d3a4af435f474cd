//! Several copies of a relay, how they end, and several outboxes in one process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Consumer, Instance, Load, Relay, Services, World, create_topic};

#[test]
fn one_copy_leads_and_the_others_take_over() {
    let mut world = World::new("copies");
    create_topic(&world, &world.topic, 3, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let insert = "INSERT INTO outbox (type, key, payload) VALUES ('x', 'k', 'after')";
    let first = Relay::leading(&world, &[]);
    let second = Relay::spawn(&world, &[]);
    second.await_log("standby");
    for _ in 0..10 {
        world.sql(
            "INSERT INTO outbox (type, key, payload) SELECT 'x', 'k', g::text FROM generate_series(1, 100) g",
        );
    }
    let ids: Vec<_> = consumer
        .await_records(1_000)
        .iter()
        .map(|r| r.seq())
        .collect();
    assert_eq!(ids, (1..=1_000).collect::<Vec<_>>());
    world.await_empty();

    let takeover = Instant::now();
    first.kill();
    world.sql(insert);
    assert_eq!(consumer.await_records(1_001)[1_000].text(), "after");
    let took = takeover.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    second.assert_logged("leading", 1);

    let third = Relay::spawn(&world, &[]);
    third.await_log("standby");
    assert!(second.stop().success());
    world.sql(insert);
    assert_eq!(consumer.await_records(1_002)[1_001].text(), "after");
    third.await_log("leading");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 1_002, "each once");
    assert!(third.stop().success());
}

#[test]
fn a_stop_under_load_settles_what_is_in_flight() {
    let mut world = World::new("stop");
    create_topic(&world, &world.topic, 3, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let load = Load::start(&world);
    for _ in 0..3 {
        let relay = Relay::leading(&world, &["--stop-timeout", "20s"]);
        load.await_rows(500);
        let asked = Instant::now();
        assert_eq!(relay.stop().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(20));
        // No row was sent and not deleted: all that Kafka has is gone from the table.
        consumer.drain();
        let again: BTreeSet<_> = consumer.received.iter().map(|r| r.seq()).collect();
        let highest = again.last().copied().unwrap_or_default();
        let left = world.number(&format!(
            "SELECT count(*) FROM outbox WHERE id <= {highest}"
        ));
        assert_eq!(left, 0);
    }
    let written = load.stop();
    let left = world.number("SELECT count(*) FROM outbox");
    let left = usize::try_from(left).expect("a count");
    assert_eq!(consumer.drain().len() + left, written.rows());
    let _last = Relay::leading(&world, &[]);
    world.await_empty();
    assert_eq!(written.check(consumer.drain()), 0, "no duplicates");
}

/// Brings a row into flight while no broker answers: after it was fetched.
fn fly(world: &mut World, relay: &Relay) {
    let reader = format!("doorbell % reader {}", relay.pid());
    world.sql("CREATE TABLE moment AS SELECT clock_timestamp() AS at");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'in flight')");
    world.await_number(
        &format!(
            "SELECT count(*) FROM pg_stat_activity, moment WHERE application_name LIKE '{reader}' AND query_start > at AND state = 'idle'"
        ),
        1,
    );
}

#[test]
fn a_stop_without_kafka_ends_by_its_deadline_or_a_second_signal() {
    let kafka = Instance::start("stop", &["kafka"]);
    let start = |flags: &[&str]| {
        let mut world = World::on("hang", kafka.services());
        create_topic(&world, &world.topic, 1, &[]);
        let relay = Relay::leading(&world, flags);
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'before')");
        world.await_empty();
        (world, relay)
    };
    let (mut patient, mut hanging) = start(&[]);
    let (mut hasty, mut bounded) = start(&["--stop-timeout", "1s"]);
    kafka.kill("kafka");

    fly(&mut patient, &hanging);
    hanging.signal(Signal::TERM);
    hanging.await_log("stopping");
    hanging.signal(Signal::TERM);
    // Within half a second it is the same signal.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(hanging.ended(), None);
    let second = Instant::now();
    hanging.signal(Signal::TERM);
    assert_eq!(hanging.wait().code(), Some(130));
    let took = second.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(patient.number("SELECT count(*) FROM outbox"), 1);

    fly(&mut hasty, &bounded);
    let asked = Instant::now();
    bounded.signal(Signal::TERM);
    assert_eq!(bounded.wait().code(), Some(1));
    let took = asked.elapsed();
    assert!(took > Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    bounded.assert_logged(
        "doorbell: rows in flight that were not settled in time: 1",
        1,
    );
    assert_eq!(hasty.number("SELECT count(*) FROM outbox"), 1);
}

#[test]
fn kills_under_load_lose_nothing() {
    const BOUND: usize = 500;
    const KILLS: usize = 5;
    let mut world = World::new("kills");
    create_topic(&world, &world.topic, 3, &[]);
    let load = Load::start(&world);
    let flags = ["--in-flight-rows", "500"];
    for _ in 0..KILLS {
        let relay = Relay::leading(&world, &flags);
        let moment = Instant::now();
        load.await_rows(50);
        // A random moment in the work of the relay: it depends on how long these rows took.
        load.await_rows(moment.elapsed().subsec_micros() as usize % 500);
        relay.kill();
    }
    let last = Relay::leading(&world, &flags);
    load.await_rows(100);
    let written = load.stop();
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let duplicates = written.check(consumer.drain());
    assert!(duplicates <= BOUND * KILLS, "{duplicates}");
    assert!(last.stop().success());
}

#[test]
fn one_process_relays_several_outboxes() {
    let mut world = World::empty("several", Services::shared().clone());
    let topics = ["orders", "bills"].map(|table| world.topic.replace("outbox", table));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let outbox = |table: &str, topic: &str| {
        format!("[[outbox]]\ntable = \"{table}\"\ntopic = \"{topic}\"\nsweep = \"1h\"\n")
    };
    let text = [outbox("orders", &topics[0]), outbox("bills", &topics[1])].concat();
    std::fs::write(file.path(), text).expect("a file");
    let config = ["--config", file.path().to_str().expect("a path")];
    world.migrate(&config);
    for topic in &topics {
        create_topic(&world, topic, 1, &[]);
    }
    let relay = Relay::spawn(&world, &config);
    relay.await_log_times("leading", 2);
    for _ in 0..10 {
        world.sql("BEGIN; INSERT INTO orders (type, payload) VALUES ('x', 'order'); INSERT INTO bills (type, payload) VALUES ('x', 'bill'); COMMIT");
    }
    for (topic, text) in topics.iter().zip(["order", "bill"]) {
        let mut consumer = Consumer::new(&world, topic);
        let received = consumer.await_records(10);
        assert!(received.iter().all(|record| record.text() == text));
    }
    world.await_number(
        "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM bills)",
        0,
    );
    let other = Relay::spawn(&world, &config);
    other.await_log_times("standby", 2);
    assert!(relay.stop().success());
    other.await_log_times("leading", 2);
}

#[test]
fn fifty_standbys_hold_a_session_each_ask_little_and_fill_no_log() {
    let server = Instance::start("standbys", &["postgres"]);
    let mut world = World::on("standbys", server.services());
    world.sql("ALTER SYSTEM SET log_lock_waits = on");
    world.sql("SELECT pg_reload_conf()");
    let leader = Relay::leading(&world, &["--sweep", "1h"]);
    world.await_asleep();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell %'";
    let of_leader = world.number(sessions);
    // One after the other: fifty that start at once take the processors from other tests.
    let start = |_| {
        let relay = Relay::spawn(&world, &[]);
        relay.await_log("standby");
        relay
    };
    let standbys: Vec<Relay> = (0..50).map(start).collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    world.await_number(waiting, 50);
    assert_eq!(world.number(sessions), of_leader + 50);

    let statements = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let (before, begun) = (world.number(statements), Instant::now());
    // Longer than deadlock_timeout, after which a wait would be logged.
    std::thread::sleep(Duration::from_secs(5));
    let asked = (world.number(statements) - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(asked < 50.0, "{asked} statements a second");
    let log = Path::new(server.variable("POSTGRES_DATA")).join("../log");
    let log = std::fs::read_to_string(log).expect("the server's log");
    assert!(!log.contains("still waiting"), "{log}");

    leader.kill();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '1')");
    world.await_empty();
    standbys.into_iter().for_each(Relay::kill);
}
