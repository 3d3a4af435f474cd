//! Locks of the outbox that somebody took by hand: what `status` says, and what becomes of the rows.

use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::support::{Consumer, Relay, World, create_topic, eventually};

/// The classes of the leader's lock and of the bell's key: "door" and "bell".
const LEADER: u32 = 0x646f_6f72;
const BELL: u32 = 0x6265_6c6c;

/// Calls a lock function of PostgreSQL on the outbox's key of a class.
fn lock(world: &World, session: &mut PgConnection, function: &str, class: u32) {
    world.sql_on(
        session,
        &format!("SELECT {function}({class}, 'outbox'::regclass::oid::int4)"),
    );
}

fn json(world: &World) -> Value {
    let output = world.doorbell(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Value>(&output.stdout).expect("JSON")[0].clone()
}

/// The lines of the text that begin with this word.
fn text(world: &World, word: &str) -> String {
    let output = world.doorbell(&["status"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter(|line| line.trim().starts_with(word));
    lines.collect::<Vec<_>>().join("\n")
}

/// A session that calls itself `by hand`, and its server process.
fn stranger(world: &World) -> (PgConnection, i64) {
    let mut session = world.connect();
    world.sql_on(&mut session, "SET application_name = 'by hand'");
    let pid = world.text_on(&mut session, "SELECT pg_backend_pid()::text");
    (session, pid.parse().expect("a number"))
}

#[track_caller]
fn assert_is_named(holder: &Value, pid: i64) {
    assert_eq!(holder["pid"], pid, "{holder}");
    assert_eq!(holder["is_doorbell"], false);
    assert_eq!(holder["application"], "by hand");
    assert_eq!(holder["user"], "postgres");
    assert_eq!(holder["address"], "127.0.0.1");
    assert!(
        holder["connected_seconds"]
            .as_f64()
            .is_some_and(|it| it >= 0.0)
    );
}

#[test]
fn a_stranger_with_the_leaders_lock_is_named_and_delivery_goes_on_when_it_ends() {
    let mut world = World::new("strangeleader");
    create_topic(&world, &world.topic, 1, &[]);
    let (mut session, pid) = stranger(&world);
    lock(&world, &mut session, "pg_advisory_lock", LEADER);
    let relay = Relay::spawn(&world, &[]);
    relay.await_log("held by a session that is no relay");
    relay.assert_logged(&format!("pid={pid}"), 1);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
    let status = eventually("the relay waits", || {
        Some(json(&world)).filter(|status| status["standbys"].as_array().map(Vec::len) == Some(1))
    });
    assert_is_named(&status["leader"], pid);
    let line = text(&world, "leader");
    for words in [
        "\"by hand\"",
        "no relay",
        "nothing is delivered",
        "user postgres",
        "from 127.0.0.1",
        &format!("pg_terminate_backend({pid})"),
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }
    world.sql(&format!("SELECT pg_terminate_backend({pid})"));
    relay.await_log("leading");
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 1);
    assert_eq!(json(&world)["leader"]["is_doorbell"], true);
}

#[test]
fn a_stranger_with_the_bells_key_is_named_and_rows_flow() {
    let mut world = World::new("strangebell");
    create_topic(&world, &world.topic, 1, &[]);
    let (mut session, pid) = stranger(&world);
    lock(&world, &mut session, "pg_advisory_lock", BELL);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    for count in 1..=5 {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
        consumer.await_records(count);
    }
    let status = json(&world);
    assert_is_named(&status["bell"]["held_by"], pid);
    assert_eq!(status["bell"]["silent_writers"], 0);
    let line = text(&world, "bell");
    for words in ["\"by hand\"", "no relay", "writers ring", "rows flow"] {
        assert!(line.contains(words), "{words} in {line}");
    }
}

#[test]
fn a_transaction_that_keeps_the_relay_awake_is_named_also_when_it_is_prepared() {
    let world = World::new("silent");
    create_topic(&world, &world.topic, 1, &[]);
    let (mut session, pid) = stranger(&world);
    // Before the relay is there, so that it finds the key taken.
    world.sql_on(
        &mut session,
        "BEGIN; INSERT INTO outbox (type) VALUES ('open')",
    );
    let _relay = Relay::leading(&world, &[]);
    let long_open = |status: &Value| {
        let oldest = &status["bell"]["oldest_silent_writer"];
        oldest["transaction_seconds"]
            .as_f64()
            .is_some_and(|it| it >= 1.0)
    };
    let status = eventually("the transaction is open for a second", || {
        Some(json(&world)).filter(long_open)
    });
    assert_eq!(status["bell"]["silent_writers"], 1);
    assert_is_named(&status["bell"]["oldest_silent_writer"], pid);
    let line = text(&world, "bell");
    for words in [
        "\"by hand\"",
        "silent",
        "cannot sleep",
        "in a transaction for",
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }

    // Names of prepared transactions belong to the whole server.
    let name = format!("it's {}", world.topic);
    let quoted = name.replace('\'', "''");
    world.sql_on(&mut session, &format!("PREPARE TRANSACTION '{quoted}'"));
    let status = eventually("it is prepared for a second", || {
        Some(json(&world)).filter(long_open)
    });
    let oldest = &status["bell"]["oldest_silent_writer"];
    assert_eq!(oldest["prepared"], name);
    assert_eq!(oldest["pid"], Value::Null);
    assert_eq!(oldest["user"], "postgres");
    let line = text(&world, "bell");
    assert!(line.contains("prepared transaction"), "{line}");
    world.sql_on(&mut session, &format!("ROLLBACK PREPARED '{quoted}'"));
    assert_eq!(json(&world)["bell"]["silent_writers"], 0);
}
