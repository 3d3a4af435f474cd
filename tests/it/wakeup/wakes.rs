//! What wakes the relay and what does not, what that costs the database, and what other sessions do
//! meanwhile. The sweep is an hour away.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgListener;

use crate::support::{Consumer, Instance, Meter, Relay, World, create_topic, eventually, get};

/// Listens for every ring of the outbox.
struct Counter {
    listener: PgListener,
    channel: String,
}

impl Counter {
    fn new(world: &mut World) -> Self {
        let oid = world.number("SELECT 'outbox'::regclass::oid::bigint");
        let channel = format!("doorbell:{oid}");
        let listener = world.block_on(async {
            let mut listener = PgListener::connect(&world.database_url)
                .await
                .expect("a session");
            listener.listen(&channel).await.expect("a channel");
            listener
        });
        Self { listener, channel }
    }

    /// Returns the rings so far. The test's own notification ends the list; the relay hears it as
    /// well.
    fn rings(mut self, world: &mut World) -> usize {
        world.sql(&format!("SELECT pg_notify('{}', 'end')", self.channel));
        world.block_on(async move {
            let mut rings = 0;
            while self.listener.recv().await.expect("a ring").payload() != "end" {
                rings += 1;
            }
            rings
        })
    }
}

#[test]
fn statements_that_insert_nothing_ring_once_at_most_and_the_relay_sleeps_again() {
    let mut world = World::new("nothing");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (id, type, payload) VALUES (1000, 'x', 'stays')");
    world.await_empty();
    for nothing in [
        "INSERT INTO outbox (type) SELECT 'x' WHERE false",
        "BEGIN; INSERT INTO outbox (id, type, payload) VALUES (7, 'x', 'once'); \
         INSERT INTO outbox (id, type) VALUES (7, 'x') ON CONFLICT DO NOTHING; DELETE FROM outbox WHERE id = 7; COMMIT",
        "BEGIN; INSERT INTO outbox (type) VALUES ('never'); ROLLBACK",
    ] {
        world.await_asleep();
        let counter = Counter::new(&mut world);
        world.sql(nothing);
        world.await_asleep();
        assert!(counter.rings(&mut world) <= 1, "{nothing}");
    }
    world.await_asleep();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 1);
}

/// For relays whose idle work is measured: sweeps are frequent enough to count by.
const OFTEN: &[&str] = &["--sweep", "300ms", "--listen", "127.0.0.1:0"];

/// Waits for some sweeps; the relay must run no other statements.
#[track_caller]
fn assert_idle(world: &mut World, meter: &Meter, relay: &Relay) {
    const SWEEPS: usize = 10;
    /// The table's identity, the dead letters, ids below the cursor, a fetch.
    const EACH: i64 = 4;
    let swept = |relay: &Relay| relay.count_log("swept rows=");
    // A page is open all the while.
    let mut page = TcpStream::connect(relay.address()).expect("a connection");
    page.write_all(b"GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("a question");
    relay.await_log_times("swept rows=", swept(relay) + 1);
    let before = meter.statements(world);
    let from = swept(relay);
    for sweep in 1..=SWEEPS {
        // A request to the relay does not make it query the database.
        for path in ["/metrics", "/readyz", "/status.json"] {
            assert_ne!(get(relay, path).body, "", "{path}");
        }
        relay.await_log_times("swept rows=", from + sweep);
    }
    let asked = meter.statements(world) - before;
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&shown).contains("\ndata:") {
        let read = page.read(&mut part).expect("the page goes on");
        assert!(read > 0, "the page ended");
        shown.extend(&part[..read]);
    }
    // One sweep may have begun and not ended.
    let sweeps = i64::try_from(swept(relay) - from + 1).expect("a count");
    assert!(
        asked <= sweeps * EACH,
        "{asked} statements in {sweeps} sweeps\n{}",
        meter.list(world)
    );
}

#[test]
fn an_idle_relay_asks_for_nothing_but_its_sweep_also_beside_a_row_that_kafka_refuses() {
    let mut world = World::new("idle");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, OFTEN);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    world.await_empty();
    world.await_asleep();
    assert_idle(&mut world, &meter, &relay);
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('x', 'x', '[]')");
    relay.await_log("Kafka cannot take this row");
    // It is parked, so that nothing is left to fetch.
    world.await_empty();
    world.await_asleep();
    assert_idle(&mut world, &meter, &relay);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn a_relay_asks_for_nothing_but_its_sweep_while_kafka_is_down() {
    let mut kafka = Instance::start("idle", &["kafka"]);
    let mut world = World::on("idledown", kafka.services());
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, OFTEN);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'before')");
    world.await_empty();
    kafka.kill("kafka");
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', 'meanwhile' FROM generate_series(1, 100)",
    );
    relay.await_log("Kafka is unreachable");
    world.await_asleep();
    assert_idle(&mut world, &meter, &relay);
    kafka.again();
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 101);
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn an_awake_relay_is_not_rung_for() {
    const COMMITS: usize = 2_000;
    let mut world = World::new("awake");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    let counter = Counter::new(&mut world);
    for _ in 0..COMMITS {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    }
    let rings = counter.rings(&mut world);
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), COMMITS);
    // The first commits wake the relay. On a busy machine a writer may be stopped for so long that
    // the relay falls asleep.
    assert!(rings * 20 <= COMMITS, "{rings} rings of {COMMITS} commits");
}

#[test]
fn a_lone_writer_costs_a_few_statements_an_event_and_none_between() {
    const EVENTS: i64 = 40;
    let mut world = World::new("lone");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    world.await_empty();
    world.await_asleep();
    let before = meter.statements(&mut world);
    let mut due = Instant::now();
    for _ in 0..EVENTS {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
        // 20 commits a second.
        due += Duration::from_millis(50);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    world.await_empty();
    world.await_asleep();
    let asked = meter.statements(&mut world) - before;
    assert!(asked <= EVENTS * 8, "{asked}\n{}", meter.list(&mut world));
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

/// Waits until the relay has stopped polling, and waits for the wake lock.
fn await_waiting(world: &mut World) {
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%lock_within%' AND state = 'active' \
         AND application_name LIKE 'doorbell % key %'",
        1,
    );
}

#[test]
fn a_silent_transaction_that_stays_open_costs_others_no_latency_and_few_statements() {
    let mut world = World::new("insomnia");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let mut open = world.connect();
    world.sql_on(
        &mut open,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', 'late')",
    );
    // It began before the relay, so it was silent.
    let relay = meter.leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    await_waiting(&mut world);
    let (begun, before) = (Instant::now(), meter.statements(&mut world));
    let waits = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '%lock_within%' AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let first = world.number(waits);
    eventually("the relay has waited some times more", || {
        (world.number(waits) >= first + 5).then_some(())
    });
    let rate = (meter.statements(&mut world) - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(rate <= 3.0, "{rate}\n{}", meter.list(&mut world));

    let mut times: Vec<_> = (1..=20)
        .map(|count| {
            world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
            let committed = Instant::now();
            consumer.await_records(count);
            committed.elapsed()
        })
        .collect();
    times.sort();
    // A median, because a busy machine delays some of them.
    assert!(times[10] < Duration::from_millis(50), "{times:?}");

    world.sql_on(&mut open, "COMMIT");
    let committed = Instant::now();
    assert_eq!(consumer.await_records(21)[20].text(), "late");
    let took = committed.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.await_empty();
    world.await_asleep();
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn a_server_that_stood_still_during_a_look_below_the_cursor_delays_the_next_by_seconds() {
    let mut world = World::new("stoodstill");
    create_topic(&world, &world.topic, 1, &[]);
    // It began before the relay, so the relay waits for the wake lock: its reader is idle but for
    // the looks below the cursor.
    let mut open = world.connect();
    world.sql_on(&mut open, "BEGIN; INSERT INTO outbox (type) VALUES ('x')");
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'first')");
    consumer.await_records(1);
    world.await_empty();
    await_waiting(&mut world);
    let reader = world.number(
        "SELECT pid::bigint FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % reader %'",
    );
    let reader = Pid::from_raw(reader as i32).expect("a process");
    kill_process(reader, Signal::STOP).expect("the reader's server process");
    // There is a look each two seconds.
    std::thread::sleep(Duration::from_secs(5));
    kill_process(reader, Signal::CONT).expect("the reader's server process");
    // The id of the first again: it is in no gap.
    world.sql("INSERT INTO outbox (id, type, payload) VALUES (2, 'x', 'low')");
    let committed = Instant::now();
    consumer.await_records(2);
    let took = committed.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.sql_on(&mut open, "ROLLBACK");
    assert!(relay.stop().success());
}

#[test]
fn rows_below_the_cursor_leave_also_while_the_relay_is_awake() {
    let mut world = World::new("belowawake");
    create_topic(&world, &world.topic, 1, &[]);
    // It began before the relay, so it is silent and keeps the relay awake: first polling, then
    // waiting for the wake lock.
    let mut open = world.connect();
    world.sql_on(&mut open, "BEGIN; INSERT INTO outbox (type) VALUES ('x')");
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'many' FROM generate_series(1, 100)");
    consumer.await_records(100);
    world.await_empty();
    let mut arrives = |world: &mut World, sql: &str, text: &str| {
        world.sql(sql);
        let committed = Instant::now();
        eventually(text, || {
            consumer.poll(Duration::from_millis(1));
            let has = consumer.received.iter().any(|it| it.text() == text);
            has.then_some(())
        });
        let took = committed.elapsed();
        // Two seconds to the next check below the cursor, one until the wait for the wake lock
        // ends; the rest is for a busy machine.
        assert!(took < Duration::from_secs(5), "{text}: {took:?}");
    };
    for id in [50, 0, -1, -2, -9_000_000_000_000_000_000_i64] {
        if id == -1 {
            await_waiting(&mut world);
        }
        let text = format!("by hand {id}");
        let insert = format!("INSERT INTO outbox (id, type, payload) VALUES ({id}, 'x', '{text}')");
        arrives(&mut world, &insert, &text);
    }
    world.sql_on(&mut open, "ROLLBACK");
    for round in 0..3 {
        // These keep the relay awake.
        world.sql(
            "INSERT INTO outbox (type, payload) SELECT 'x', 'load' FROM generate_series(1, 500)",
        );
        let text = format!("new {round}");
        let insert = format!(
            "TRUNCATE outbox RESTART IDENTITY; INSERT INTO outbox (type, payload) VALUES ('x', '{text}')"
        );
        arrives(&mut world, &insert, &text);
    }
    world.await_empty();
}
