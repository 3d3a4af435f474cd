//! Locks of the outbox that a user took by hand: what `status` says, and what happens to the rows.

use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::support::{Checkup, Consumer, Relay, World, create_topic, eventually, get, refused};

/// The classes of the leader's lock and of the wake lock: "door" and "bell".
const LEADER: u32 = 0x646f_6f72;
const BELL: u32 = 0x6265_6c6c;
/// That of `sql/strict_order.sql`: "ordr".
const ORDER: u32 = 0x6f72_6472;

/// Calls a lock function of PostgreSQL with the outbox's key of a class.
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

/// A session with the name `by hand`, and its server process.
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
    relay.await_log("held by a session that is not a relay");
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
fn a_role_that_may_only_connect_is_no_relay_whatever_it_calls_itself() {
    let mut world = World::new("forged");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(include_str!("../../../sql/strict_order.sql"));
    world.sql("SELECT doorbell.keep_order('outbox')");
    let role = format!("{}_any", world.name());
    world.sql(&format!("CREATE ROLE {role} LOGIN"));
    let mut session = world.connect_to(&world.url_as(&role));
    let oid = world.number("SELECT 'outbox'::regclass::oid::bigint");
    world.sql_on(
        &mut session,
        &format!(
            "SET application_name = 'doorbell 0.2.0 leader 4242'; SELECT pg_advisory_lock({LEADER}, {oid}), pg_advisory_lock({BELL}, {oid}); \
             SELECT pg_advisory_lock({ORDER}, n) FROM generate_series(0, 9) n"
        ),
    );
    let relay = Relay::spawn(&world, &["--listen", "127.0.0.1:0"]);
    relay.await_log("held by a session that is not a relay");
    relay.assert_logged(&format!("user={role:?}"), 1);
    let answer = get(&relay, "/readyz");
    assert_eq!(answer.code, 503, "{answer:?}");
    assert!(answer.body.contains(&format!("role {role}")), "{answer:?}");
    let status = json(&world);
    for holder in [&status["leader"], &status["bell"]["held_by"]] {
        assert_eq!(holder["is_doorbell"], false, "{holder}");
        assert_eq!(holder["user"], role.as_str());
    }
    let held = || (!Checkup::of(&world, &[]).all("order-stranger").is_empty()).then_some(());
    eventually("the locks are held for more than a moment", held);
    let checkup = Checkup::of(&world, &[]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("error", "leader-stranger", &[&role]);
    checkup.finds("warning", "bell-stranger", &[&role]);
    checkup.finds("warning", "order-stranger", &[&role]);
    assert_eq!(checkup.all("order-stranger").len(), 1);
    assert!(text(&world, "order").contains(&role));
    world.sql_on(&mut session, "SELECT pg_advisory_unlock_all()");
    relay.await_log("leading");
    eventually("the relay may be told from others", || {
        (json(&world)["leader"]["is_doorbell"] == true).then_some(())
    });
    assert!(relay.stop().success());
    drop(session);
    world.sql(&format!("DROP ROLE {role}"));
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
    // Before the relay starts, so that it finds the lock taken.
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

#[test]
fn a_command_names_the_session_that_keeps_it_from_the_table() {
    let mut world = World::new("tablelocked");
    let (mut session, pid) = stranger(&world);
    // Else it waits 10 s.
    let name = world.name().to_owned();
    world.sql(&format!("ALTER DATABASE {name} SET lock_timeout = '200ms'"));
    world.sql_on(
        &mut session,
        "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    let process = format!("server process {pid}");
    let status = ["table outbox is locked by \"by hand\"", &process];
    refused(&world.doorbell(&["status"]), 1, &status);
    let emit = [
        "lock timeout",
        "public.outbox is held by",
        &process,
        "'by hand'",
    ];
    // Another lock of that kind, for which nothing of ours waits.
    let mut other = world.connect();
    world.sql_on(
        &mut other,
        "CREATE TABLE cars (); BEGIN; LOCK TABLE cars IN ACCESS EXCLUSIVE MODE",
    );
    let output = world.doorbell(&["emit", "--type", "t", "x"]);
    refused(&output, 1, &emit);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("cars"), "{error}");
    world.sql_on(&mut other, "COMMIT");
    refused(&world.doorbell(&["verify"]), 2, &emit);
    world.sql_on(&mut session, &format!("PREPARE TRANSACTION '{name}'"));
    let emit = ["is held by a prepared transaction", "ROLLBACK PREPARED"];
    refused(&world.doorbell(&["emit", "--type", "t", "x"]), 1, &emit);
    world.sql_on(&mut session, &format!("ROLLBACK PREPARED '{name}'"));
    assert!(world.doorbell(&["status"]).status.success());
}

#[test]
fn a_relay_names_the_session_that_locks_its_table_and_sends_nothing_again() {
    let stages = [false, true].map(|is_once| {
        let mut world = World::new(if is_once {
            "relaylockedonce"
        } else {
            "relaylocked"
        });
        create_topic(&world, &world.topic, 1, &[]);
        let receipts = world.topic.replace("outbox", "receipts");
        world.will_delete(&receipts);
        let mut flags = vec!["--sweep", "1s", "--listen", "127.0.0.1:0"];
        if is_once {
            flags.extend(["--delivery", "exactly-once", "--receipts", &receipts]);
        }
        world.sql("INSERT INTO outbox (type) SELECT 't' FROM generate_series(1, 2001)");
        let (mut session, pid) = stranger(&world);
        world.sql_on(&mut session, "BEGIN; SELECT FROM outbox FOR UPDATE");
        let relay = Relay::leading(&world, &flags);
        relay.await_log("locked by another session");
        world.sql_on(&mut session, "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE");
        (world, session, pid, relay)
    });
    for (mut world, mut session, pid, relay) in stages {
        relay.await_log("another session holds the table locked");
        relay.assert_logged(&format!("server process {pid}, "), 1);
        let answer = get(&relay, "/readyz");
        let process = format!("the table is locked by server process {pid}, ");
        assert_eq!(answer.code, 503, "{answer:?}");
        assert!(answer.body.contains(&process), "{answer:?}");
        world.sql_on(&mut session, "ROLLBACK");
        world.await_empty();
        eventually("it is ready again", || {
            (get(&relay, "/readyz").code == 200).then_some(())
        });
        assert_eq!(
            Consumer::committed(&world, &world.topic).drain().len(),
            2_001
        );
        relay.assert_logged("starting over", 0);
        assert!(relay.stop().success());
    }
}
