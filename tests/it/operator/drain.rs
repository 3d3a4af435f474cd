//! `doorbell drain`: to the end of the table, and why it may not reach it.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Consumer, Load, Relay, World, create_topic, doorbell, refused};

/// Flags that drain into the world's topic; nothing depends on the sweep.
fn arguments<'a>(route: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["drain", "--sweep", "1h", "--topic", route], flags].concat()
}

fn begin(world: &World, flags: &[&str]) -> Child {
    let route = world.topic.clone();
    doorbell(world, &arguments(&route, flags))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

#[test]
fn a_backlog_is_drained_and_said_in_lines_and_as_json() {
    const ROWS: usize = 600;
    let mut world = World::new("drain");
    create_topic(&world, &world.topic, 3, &[]);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload) SELECT 'x', 'k', g::text FROM generate_series(1, {ROWS}) g"
    ));
    world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
    // drain does not wait for a silent open transaction: its row is not visible.
    let mut writer = world.connect();
    world.sql_on(
        &mut writer,
        "BEGIN; INSERT INTO outbox (type) VALUES ('open')",
    );
    let drain = begin(&world, &["--json", "--max-rate", "150"]);
    let output = drain.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("of about 601 rows"), "{stderr}");
    assert!(!stderr.contains('\x1b'), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let outbox = &summary["outboxes"][0];
    for (key, count) in [
        ("published", 600),
        ("deleted", 600),
        ("parked", 1),
        ("left", 0),
    ] {
        assert_eq!(outbox[key], count, "{summary}");
    }
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.drain().len(), ROWS);
    world.sql_on(&mut writer, "COMMIT");

    let again = begin(&world, &[]).wait_with_output().expect("an end");
    let stdout = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success());
    assert!(
        stdout.contains("public.outbox: drained, 1 row sent in "),
        "{stdout}"
    );
    world.await_empty();
}

#[test]
fn a_drain_ends_though_writers_go_on_and_loses_and_doubles_nothing() {
    let mut world = World::new("drainload");
    create_topic(&world, &world.topic, 3, &[]);
    let load = Load::start(&world);
    load.await_rows(1_000);
    let highest = world.number("SELECT max(id) FROM outbox");
    for _ in 0..3 {
        let output = begin(&world, &[]).wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let older = format!("SELECT count(*) FROM outbox WHERE id <= {highest}");
        assert_eq!(world.number(&older), 0);
    }
    let written = load.stop();
    assert!(begin(&world, &[]).wait().expect("an end").success());
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(written.check(consumer.drain()), 0, "no duplicates");
}

#[test]
fn a_drain_refuses_where_another_leads_or_the_outbox_is_paused_and_fails_when_it_is_stopped() {
    let mut world = World::new("drainrefused");
    create_topic(&world, &world.topic, 1, &[]);
    let route = world.topic.clone();
    let drain = arguments(&route, &["--log", "error"]);
    let relay = Relay::leading(&world, &[]);
    refused_at_the_end(&world, &drain, &["another relay leads", "doorbell status"]);
    assert!(relay.stop().success());
    assert!(world.doorbell(&["pause"]).status.success());
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 500)");
    refused_at_the_end(&world, &drain, &["is paused", "doorbell resume"]);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 500);
    assert!(world.doorbell(&["resume"]).status.success());

    let child = begin(&world, &["--max-rate", "20"]);
    world.await_number("SELECT count(*) FROM outbox WHERE id = 1", 0);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stopped before the outbox"), "{stderr}");
    let left = usize::try_from(world.number("SELECT count(*) FROM outbox")).expect("a count");
    let sent = Consumer::new(&world, &world.topic).drain().len();
    assert_eq!(left + sent, 500, "what was sent is settled");
    refused(
        &world.doorbell(&["drain", "--max-rate", "0"]),
        2,
        &["--max-rate"],
    );
}

/// Apart from its progress, it prints one line.
#[track_caller]
fn refused_at_the_end(world: &World, arguments: &[&str], words: &[&str]) {
    let output = world.doorbell(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let line = stderr.lines().find(|line| line.starts_with("doorbell: "));
    let line = line.unwrap_or_else(|| panic!("{stderr}"));
    for word in words {
        assert!(line.contains(word), "{word} in {line}");
    }
}

#[test]
fn rows_that_wait_behind_a_refused_one_are_left_and_said() {
    let mut world = World::new("drainheld");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "INSERT INTO outbox (type, key, payload, headers) VALUES ('x', 'a', 'bad', '[]'), ('x', 'a', 'waits', NULL), ('x', 'b', 'goes', NULL)",
    );
    let drain = begin(&world, &["--poison", "hold-key"]);
    let output = drain.wait_with_output().expect("an end");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("drained, 1 row sent"), "{stdout}");
    assert!(stdout.contains("2 rows left"), "{stdout}");
    let received = Consumer::new(&world, &world.topic).drain().to_vec();
    assert_eq!(received[0].text(), "goes");
}

#[test]
fn an_empty_table_is_drained_also_while_no_broker_is_reachable() {
    let world = World::new("drainnothing");
    let drain = begin(&world, &["--kafka-brokers", "127.0.0.1:1"]);
    let output = drain.wait_with_output().expect("an end");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("drained, 0 rows sent"), "{stdout}");
}
