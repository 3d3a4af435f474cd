//! PostgreSQL or Kafka unreachable, at the start and under load.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Consumer, Instance, Load, Proxy, Relay, World, create_topic, doorbell, eventually,
};

const REFUSED: &str = "Kafka cannot take this row";
const LOST: &str = "a session with PostgreSQL was lost";

/// Stops the load, waits until the table is empty, and compares. Returns how many rows arrived more
/// than once.
#[track_caller]
fn settle(world: &mut World, relay: &Relay, load: Load) -> usize {
    let written = load.stop();
    world.await_empty();
    assert_eq!(relay.count_log(REFUSED), 0);
    let mut consumer = Consumer::new(world, &world.topic);
    written.check(consumer.drain())
}

/// Returns the lines of the log that have the text, without their times: a line that was logged
/// once is once in this list.
#[track_caller]
fn assert_told_once(relay: &Relay, text: &str) {
    assert_eq!(relay.count_log(text), 1, "{:#?}", relay.log());
}

#[test]
fn kafka_that_is_away_at_the_start_is_waited_for() {
    let mut kafka = Instance::start("away", &["kafka"]);
    let mut world = World::on("away", kafka.services());
    create_topic(&world, &world.topic, 3, &[]);
    kafka.kill("kafka");
    let relay = Relay::spawn(&world, &[]);
    relay.await_log("does not answer");
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', g::text FROM generate_series(1, 100) g",
    );
    kafka.again();
    relay.await_log("leading");
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 100);
    assert_told_once(&relay, "does not answer");
}

#[test]
fn kafka_killed_under_load_loses_nothing_and_keeps_the_order() {
    let mut kafka = Instance::start("killed", &["kafka"]);
    let mut world = World::on("killed", kafka.services());
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let load = Load::start(&world);
    load.await_rows(1_000);
    kafka.kill("kafka");
    relay.await_log("Kafka is unreachable");
    load.await_rows(1_000);
    kafka.again();
    relay.await_log("Kafka answers again");
    load.await_rows(1_000);
    settle(&mut world, &relay, load);
    assert_told_once(&relay, "Kafka is unreachable");
    relay.assert_logged("leading", 1);
    assert!(relay.stop().success());
}

#[test]
fn postgres_restarted_under_load_is_found_again() {
    let mut postgres = Instance::start("restart", &["postgres"]);
    let mut world = World::on("restart", postgres.services());
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let load = Load::start(&world);
    for (terms, end) in [Instance::stop, Instance::kill].into_iter().enumerate() {
        load.await_rows(500);
        end(&postgres, "postgres");
        relay.await_log_times("unreachable", terms + 1);
        postgres.again();
        relay.await_log_times("leading", terms + 2);
    }
    load.await_rows(500);
    world.reconnect();
    settle(&mut world, &relay, load);
    relay.assert_logged(LOST, 2);
    assert!(relay.stop().success());
}

/// Terminates one session of the relay.
fn terminate(world: &mut World, relay: &Relay, purpose: &str) {
    let ended = world.number(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'doorbell % {purpose} {}'",
        relay.pid()
    ));
    assert_eq!(ended, 1, "{purpose}");
}

#[test]
fn each_session_of_the_relay_may_be_terminated_under_load() {
    let mut world = World::new("terminate");
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let load = Load::start(&world);
    for (terms, purpose) in ["bell", "reader", "leader"].into_iter().enumerate() {
        load.await_rows(500);
        terminate(&mut world, &relay, purpose);
        relay.await_log_times("leading", terms + 2);
    }
    load.await_rows(500);
    settle(&mut world, &relay, load);
    relay.assert_logged(LOST, 3);
    assert!(relay.stop().success());
}

#[test]
fn connections_that_are_cut_or_stalled_under_load_lose_nothing() {
    let kafka = Instance::start("network", &["kafka"]);
    let mut world = World::on("network", kafka.services());
    create_topic(&world, &world.topic, 3, &[]);
    let (_, server) = world.database_url.split_once('@').expect("a URL");
    let (server, database) = server.split_once('/').expect("a database");
    let to_postgres = Proxy::start("127.0.0.1:0", server);
    let to_kafka = Proxy::start(
        kafka.variable("KAFKA_PROXIES"),
        kafka.variable("KAFKA_PROXIED"),
    );
    let url = format!("postgres://postgres@{}/{database}", to_postgres.address());
    let brokers = to_kafka.address().to_string();
    let flags = ["--database-url", &url, "--kafka-brokers", &brokers];
    let relay = Relay::leading(&world, &flags);
    let load = Load::start(&world);
    for proxy in [&to_postgres, &to_kafka] {
        load.await_rows(500);
        proxy.cut();
        load.await_rows(500);
        proxy.stall();
        load.await_rows(500);
        proxy.pass();
    }
    relay.await_log_times("leading", 2);
    relay.assert_logged(LOST, 1);
    settle(&mut world, &relay, load);
    assert!(relay.stop().success());
}

#[test]
fn rows_committed_while_nobody_listens_are_found() {
    let mut world = World::new("deaf");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    for round in 0..5 {
        terminate(&mut world, &relay, "bell");
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('x', '{round}')"
        ));
        let text = round.to_string();
        eventually("the row arrives", || {
            consumer.poll(Duration::ZERO);
            let last = consumer.received.last();
            last.is_some_and(|record| record.text() == text)
                .then_some(())
        });
        relay.await_log_times("leading", round + 2);
    }
    world.await_empty();
    let ids: BTreeSet<_> = consumer.drain().iter().map(|r| r.header("id")).collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn deletes_that_fail_for_a_while_leave_no_row_and_make_no_double() {
    let mut world = World::new("undeletable");
    create_topic(&world, &world.topic, 3, &[]);
    world.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
         CREATE TRIGGER no BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let relay = Relay::leading(&world, &[]);
    let load = Load::start(&world);
    load.await_rows(1_000);
    relay.await_log("cannot be deleted");
    let mut consumer = Consumer::new(&world, &world.topic);
    // Kafka has all of them, though none can be deleted.
    consumer.await_records(1_000);
    world.sql("DROP TRIGGER no ON outbox");
    relay.await_log("deletes work again");
    assert_eq!(settle(&mut world, &relay, load), 0);
    assert_told_once(&relay, "cannot be deleted");
}

#[test]
fn postgres_that_is_away_at_the_start_is_waited_for() {
    let mut postgres = Instance::start("late", &["postgres"]);
    let mut world = World::on("late", postgres.services());
    create_topic(&world, &world.topic, 1, &[]);
    postgres.stop("postgres");
    let relay = Relay::spawn(&world, &[]);
    relay.await_log("unreachable");
    postgres.again();
    relay.await_log("leading");
    world.reconnect();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'late')");
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.await_records(1)[0].text(), "late");
    relay.assert_logged("Connection refused", 1);
}

#[test]
fn a_start_timeout_ends_with_one_line() {
    // Closed again at once, so that this port does not answer.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("an address").to_string();
    drop(closed);
    let world = World::new("nothing");
    let nowhere = format!("postgres://stranger@{address}/nothing");
    for (variable, value) in [("DATABASE_URL", &nowhere), ("KAFKA_BROKERS", &address)] {
        let output = doorbell(&world, &["run", "--start-timeout", "1s"])
            .env(variable, value)
            .output()
            .expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{variable}");
        let log = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = log
            .lines()
            .filter(|line| line.starts_with("doorbell: "))
            .collect();
        assert_eq!(last.len(), 1, "{log}");
        assert!(last[0].contains(&address), "{log}");
    }
}

#[test]
fn a_table_that_goes_away_for_a_while_is_waited_for() {
    let mut world = World::new("gone");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    world.sql("BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', '1'); ALTER TABLE outbox RENAME TO away; COMMIT");
    relay.await_log("does not exist");
    world.sql("ALTER TABLE away RENAME TO outbox");
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 1);
}

#[test]
fn without_its_trigger_the_sweep_delivers_and_says_so() {
    let mut world = World::new("untriggered");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--sweep", "300ms"]);
    world.sql("ALTER TABLE outbox DISABLE TRIGGER doorbell_ring");
    let mut rows = 0;
    // While it is awake, as for a moment after each sweep, it also finds rows without a
    // notification.
    eventually("the sweep finds a row", || {
        world.await_asleep();
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '1')");
        rows += 1;
        world.await_empty();
        (relay.count_log("the sweep found rows without a notification") > 0).then_some(())
    });
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), rows);
}

#[test]
fn a_stop_does_not_wait_for_a_statement_that_is_not_answered() {
    let mut world = World::new("unanswered");
    let mut relay = Relay::leading(&world, &["--stop-timeout", "1s"]);
    world.await_asleep();
    let mut other = world.connect();
    let lock = "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE";
    world.sql_on(&mut other, lock);
    world.sql("SELECT pg_notify('doorbell:' || 'outbox'::regclass::oid, '')");
    world.await_number(
        "SELECT count(*) FROM pg_locks WHERE relation = 'outbox'::regclass AND NOT granted",
        1,
    );
    let begun = Instant::now();
    relay.signal(Signal::TERM);
    assert!(relay.wait().success());
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    relay.assert_logged("PostgreSQL did not answer in time", 1);
    drop(other);
}
