//! Pause and resume, in the database, so that every relay obeys; and a rate limit, which each relay
//! keeps by itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Consumer, Load, Meter, Relay, World, create_topic, get, refused};

fn command(world: &World, arguments: &[&str]) -> String {
    let output = world.doorbell(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_pause_under_load_settles_outlives_restart_and_takeover_and_ends_at_once() {
    let mut world = World::new("pause");
    create_topic(&world, &world.topic, 3, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let load = Load::start(&world);
    let first = Relay::leading(&world, &[]);
    load.await_rows(300);
    let said = command(
        &world,
        &["pause", "--by", "ann", "--reason", "the broker moves"],
    );
    assert!(said.contains("outbox is paused"), "{said}");
    first.await_log("paused: no row is fetched");
    first.assert_logged("by=\"ann\" reason=\"the broker moves\"", 1);
    let sent = consumer.drain().len();
    // What was in flight is settled: no row of the table was sent.
    let highest = consumer.received.iter().map(|r| r.seq()).max();
    let highest = highest.unwrap_or_default();
    let unsettled = format!("SELECT count(*) FROM outbox WHERE id <= {highest}");
    assert_eq!(world.number(&unsettled), 0);

    let status = command(&world, &["status"]);
    let line = status.lines().find(|line| line.contains("PAUSED"));
    let line = line.unwrap_or_else(|| panic!("{status}"));
    assert!(
        line.contains("by ann: the broker moves; no row is sent"),
        "{line}"
    );
    let status: Value =
        serde_json::from_str(&command(&world, &["status", "--json"])).expect("JSON");
    assert_eq!(status[0]["paused"]["by"], "ann");
    assert_eq!(status[0]["paused"]["reason"], "the broker moves");

    load.await_rows(300);
    assert!(first.stop().success());
    let second = Relay::leading(&world, &[]);
    second.await_log("paused: no row is fetched");
    let third = Relay::spawn(&world, &["--listen", "127.0.0.1:0"]);
    third.await_log("standby");
    second.kill();
    third.await_log("paused: no row is fetched");
    load.await_rows(300);
    assert_eq!(consumer.drain().len(), sent, "nothing flows");

    let again = command(&world, &["pause", "--json"]);
    assert!(again.contains("\"was_paused\":true"), "{again}");
    // Without a reason of its own, a pause of a paused outbox keeps the first one's.
    let again = command(&world, &["pause", "--by", "bob"]);
    assert!(again.contains(": the broker moves"), "{again}");
    third.await_log("by=\"bob\" reason=\"the broker moves\"");
    let again = command(&world, &["pause", "--by", "cy", "--reason", "and stays"]);
    assert!(
        again.contains("was already paused by bob: the broker moves"),
        "{again}"
    );
    third.await_log("by=\"cy\" reason=\"and stays\"");
    let ready = get(&third, "/readyz").body;
    assert!(ready.contains("paused by cy: and stays"), "{ready}");
    // The sweep is an hour away.
    assert!(command(&world, &["resume"]).contains("outbox is resumed"));
    third.await_log("resumed");
    let written = load.stop();
    world.await_empty();
    assert_eq!(written.check(consumer.drain()), 0, "no duplicates");
    assert!(command(&world, &["resume"]).contains("was not paused"));
    assert!(third.stop().success());
}

#[test]
fn a_paused_relay_asks_one_statement_a_sweep_and_its_writers_are_silent() {
    const SWEEPS: usize = 10;
    let mut world = World::new("pauseidle");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &["--sweep", "300ms"]);
    world.await_asleep();
    command(&world, &["pause"]);
    let swept = |relay: &Relay| relay.count_log("swept: paused");
    relay.await_log_times("swept: paused", 1);
    let (before, from) = (meter.statements(&mut world), swept(&relay));
    for _ in 0..100 {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    }
    world.sql("BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', 'last')");
    let silent = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND mode = 'ShareLock' AND granted";
    assert_eq!(world.number(silent), 1, "the writer has the key");
    world.sql("COMMIT");
    relay.await_log_times("swept: paused", from + SWEEPS);
    let asked = meter.statements(&mut world) - before;
    let sweeps = i64::try_from(swept(&relay) - from + 1).expect("a count");
    let list = meter.list(&mut world);
    assert!(asked <= sweeps, "{asked} in {sweeps} sweeps\n{list}");
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 101);

    // A flag that is set by hand, without a ring, takes effect with the sweep.
    world.sql("UPDATE doorbell.outbox SET paused_at = NULL, paused_by = NULL");
    world.await_empty();
    world.await_asleep();
    world.sql("UPDATE doorbell.outbox SET paused_at = now()");
    relay.await_log_times("paused: no row is fetched", 2);
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn a_schema_without_the_flag_is_never_paused_and_what_cannot_be_paused_is_said() {
    let mut world = World::new("pauseold");
    create_topic(&world, &world.topic, 1, &[]);
    refused(
        &world.doorbell(&["pause", "--table", "absent"]),
        1,
        &["absent does not exist", "doorbell migrate"],
    );
    refused(
        &world.doorbell(&["pause", "--reason", "two\nlines"]),
        2,
        &["--reason must be one line"],
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[[outbox]]\ntable = \"orders\"\n").expect("a file");
    let path = file.path().to_str().expect("a path");
    refused(
        &world.doorbell(&["resume", "--config", path, "--table", "outbox"]),
        2,
        &["--table", "not a configured outbox; choose one of orders"],
    );

    world.sql("ALTER TABLE doorbell.outbox DROP COLUMN paused_at, DROP COLUMN paused_by, DROP COLUMN paused_reason");
    refused(
        &world.doorbell(&["pause"]),
        1,
        &["earlier version", "doorbell migrate"],
    );
    let relay = Relay::leading(&world, &["--sweep", "300ms"]);
    relay.await_log("swept rows=");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'x')");
    world.await_empty();
    world.migrate(&[]);
    command(&world, &["pause"]);
    relay.await_log("paused: no row is fetched");
    assert!(relay.stop().success());
}

#[test]
fn a_rate_is_kept_by_fetching_less_and_the_relay_still_sleeps() {
    const ROWS: i64 = 600;
    let mut world = World::new("rate");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(&format!(
        "INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, {ROWS})"
    ));
    let meter = Meter::new(&mut world);
    let begun = Instant::now();
    let relay = meter.leading(&world, &["--max-rate", "200"]);
    world.await_empty();
    let took = begun.elapsed();
    // Three seconds less what is saved up; more on a busy machine.
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    world.await_asleep();
    let asked = meter.statements(&mut world);
    let list = meter.list(&mut world);
    assert!(
        asked < ROWS * 2 / 3,
        "{asked} statements for {ROWS} rows\n{list}"
    );
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'wakes it')");
    world.await_empty();
    world.await_asleep();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 601);
    assert!(relay.stop().success());
    meter.remove(&mut world);
}
