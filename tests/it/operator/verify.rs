//! `doorbell verify` on what relays, users and foreign programs leave behind.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{
    Consumer, Received, Relay, World, create_topic, doorbell, produce, refused, stage,
};

fn verify(world: &World, flags: &[&str]) -> Output {
    let topic = ["verify", "--topic", &world.topic];
    world.doorbell(&[&topic, flags].concat())
}

/// Returns the output as JSON, and the exit code.
fn judged(world: &World, flags: &[&str]) -> (Value, i32) {
    let output = verify(world, &[flags, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?} {stderr}"));
    (answer, output.status.code().expect("a code"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Writes a file with these ids.
fn list(ids: impl IntoIterator<Item = i64>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for id in ids {
        writeln!(file, "{id}").expect("written");
    }
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path")
}

/// Rows 1 to 300 of ten keys are in the topic and no longer in the table.
fn three_hundred(test: &str) -> (World, Relay, Consumer) {
    let (mut world, relay, mut consumer) = stage(test);
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'key-' || n % 10, 'x' FROM generate_series(1, 300) n",
    );
    consumer.await_records(300);
    world.await_empty();
    (world, relay, consumer)
}

#[test]
fn a_clean_run_passes_and_rows_in_the_table_are_waiting() {
    let (mut world, relay, _consumer) = three_hundred("verifyclean");
    assert!(relay.stop().success());
    world.sql("BEGIN; INSERT INTO outbox (type) VALUES ('rolled back'); ROLLBACK");
    world.sql("INSERT INTO outbox (type) VALUES ('waits'), ('waits')");
    let all = list((1..=300).chain([302, 303]));
    let (answer, code) = judged(&world, &["--ids", path(&all), "--strict"]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["records"], 300);
    assert_eq!(answer["events"], 300);
    assert_eq!(answer["waiting"], 2);
    assert_eq!(answer["topics"][0]["partitions"], 6);

    // Without the list, the row that was rolled back might as well be lost.
    let (answer, code) = judged(&world, &[]);
    assert_eq!((answer["unaccounted"].as_u64(), code), (Some(1), 0));
    refused(&verify(&world, &["--strict"]), 1, &["1 unaccounted for"]);
    let text = stdout(&verify(&world, &[]));
    assert!(text.contains("unaccounted   1 id:"), "{text}");
    assert!(text.contains("waiting       2 rows"), "{text}");
}

#[test]
fn a_committed_row_that_is_nowhere_is_missing_and_one_that_was_not_committed_is_named() {
    let (mut world, relay, _consumer) = three_hundred("verifymissing");
    assert!(relay.stop().success());
    world.sql("INSERT INTO outbox (type) VALUES ('gone'), ('waits')");
    world.sql("DELETE FROM outbox WHERE id = 301");
    let all = list(2..=302);
    let output = verify(&world, &["--ids", path(&all)]);
    refused(&output, 1, &["found 1 missing"]);
    assert!(
        stdout(&output).contains("missing: seq 301\n"),
        "{}",
        stdout(&output)
    );
    refused(
        &verify(&world, &["--ids", path(&all), "--strict"]),
        1,
        &["1 missing, 1 not in --ids"],
    );

    let mut ids = String::new();
    for id in 1..=300 {
        writeln!(ids, " {id}\r").expect("text");
    }
    let mut child = doorbell(
        &world,
        &["verify", "--topic", &world.topic, "--ids", "-", "--strict"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::null())
    .spawn()
    .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(ids.as_bytes()).expect("written");
    drop(pipe);
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_row_that_is_parked_is_not_missing() {
    let (mut world, _relay, mut consumer) = stage("verifyparked");
    world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[1]'), ('good', NULL)");
    consumer.await_records(1);
    world.await_empty();
    let both = list([1, 2]);
    let (answer, code) = judged(&world, &["--ids", path(&both)]);
    assert_eq!((answer["parked"].as_u64(), code), (Some(1), 0), "{answer}");
    world.sql("DELETE FROM doorbell.dead");
    refused(&verify(&world, &["--ids", path(&both)]), 1, &["1 missing"]);
}

#[test]
fn a_copy_of_a_record_is_a_double_and_names_both() {
    let (world, _relay, consumer) = three_hundred("verifydouble");
    let copy = consumer.received[7].clone();
    produce(&world, &world.topic, std::slice::from_ref(&copy), None);
    let (answer, code) = judged(&world, &[]);
    assert_eq!(code, 1);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["doubled"]["count"], 1);
    assert_eq!(answer["out_of_order"]["count"], 0);
    let first = &answer["doubled"]["first"][0];
    assert_eq!(first["seq"], copy.seq());
    assert_eq!(first["id"], copy.header("id"));
    assert_eq!(first["partition"], copy.partition);
    assert_eq!(first["earlier"]["partition"], copy.partition);
    assert!(first["earlier"]["offset"].as_i64() < first["offset"].as_i64());
    let output = verify(&world, &[]);
    refused(&output, 1, &["found 1 doubled"]);
    let words = format!("doubled: {}/{}/", world.topic, copy.partition);
    assert!(stdout(&output).contains(&words), "{}", stdout(&output));

    let (answer, code) = judged(&world, &["--allow-doubles"]);
    assert_eq!((answer["doubled"]["count"].as_u64(), code), (Some(1), 0));
    // The copy lies behind the range.
    let offset = first["offset"].to_string();
    let (answer, code) = judged(&world, &["--until", &offset]);
    assert_eq!((answer["doubled"]["count"].as_u64(), code), (Some(0), 0));
}

#[test]
fn a_row_that_came_later_with_a_lower_id_is_out_of_order() {
    let (mut world, _relay, mut consumer) = stage("verifyorder");
    world.sql("INSERT INTO outbox (id, type, key) VALUES (5, 't', 'a'), (6, 't', 'b')");
    consumer.await_records(2);
    world.sql("INSERT INTO outbox (id, type, key) VALUES (4, 't', 'a'), (7, 't', 'b')");
    consumer.await_records(4);
    world.await_empty();
    let (answer, code) = judged(&world, &[]);
    assert_eq!(code, 1);
    assert_eq!(answer["out_of_order"]["count"], 1);
    let late = &answer["out_of_order"]["first"][0];
    assert_eq!((&late["seq"], &late["earlier_seq"]), (&4.into(), &5.into()));
    assert_eq!(late["key"], "a");
    refused(&verify(&world, &[]), 1, &["found 1 out of order"]);
    assert_eq!(judged(&world, &["--allow-late"]).1, 0);
}

#[test]
fn a_range_begins_at_an_offset_or_at_a_time() {
    let (mut world, _relay, mut consumer) = stage("verifyrange");
    world.sql("INSERT INTO outbox (type, created_at) SELECT 't', now() - interval '2 hours' FROM generate_series(1, 60)");
    consumer.await_records(60);
    world.sql("INSERT INTO outbox (type, key) SELECT 't', 'k' FROM generate_series(1, 5)");
    consumer.await_records(65);
    world.await_empty();
    let records = |flags: &[&str]| judged(&world, flags).0["records"].as_u64();
    assert_eq!(records(&["--since", "1h"]), Some(5));
    assert_eq!(records(&["--since", "3h"]), Some(65));
    assert_eq!(records(&["--from", "1000"]), Some(0));
    let (below, above) = (
        records(&["--until", "5"]).expect("a number"),
        records(&["--from", "5"]).expect("a number"),
    );
    assert!(below > 0 && above > 0, "{below} and {above}");
    assert_eq!(below + above, 65);
}

#[test]
fn readers_of_committed_records_do_not_see_what_was_aborted() {
    let (world, _relay, consumer) = three_hundred("verifyaborted");
    produce(&world, &world.topic, &consumer.received[..3], Some(false));
    let (answer, code) = judged(&world, &["--committed"]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(answer["records"], 300);
    let (answer, code) = judged(&world, &[]);
    assert_eq!((answer["doubled"]["count"].as_u64(), code), (Some(3), 1));
    produce(&world, &world.topic, &consumer.received[..2], Some(true));
    let (answer, code) = judged(&world, &["--committed"]);
    assert_eq!((answer["doubled"]["count"].as_u64(), code), (Some(2), 1));
}

#[test]
fn records_of_others_are_named_or_skipped() {
    let (mut world, _relay, mut consumer) = stage("verifyforeign");
    let stranger = Received {
        partition: 0,
        key: None,
        payload: Some(b"x".to_vec()),
        timestamp: None,
        headers: vec![("id".to_owned(), Some(b"no UUID".to_vec()))],
    };
    produce(&world, &world.topic, &[stranger], None);
    let at = format!("topic {}, partition 0, offset 0", world.topic);
    refused(
        &verify(&world, &[]),
        2,
        &[&at, "no headers `id` and `seq`", "--allow-foreign"],
    );
    world.sql("INSERT INTO outbox (type) VALUES ('t')");
    consumer.await_records(2);
    let (answer, code) = judged(&world, &["--allow-foreign"]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(
        (&answer["records"], &answer["foreign"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn what_cannot_be_judged_is_said_in_one_line() {
    let world = World::new("verifybad");
    for _ in 0..2 {
        // Asking for a topic does not create it.
        refused(
            &verify(&world, &[]),
            2,
            &[&world.topic, "does not exist", "--topic"],
        );
    }
    create_topic(&world, &world.topic, 1, &[]);
    assert!(verify(&world, &[]).status.success(), "an empty topic");
    let bad = list([1]);
    std::fs::write(bad.path(), "1\n2x\n").expect("written");
    refused(
        &verify(&world, &["--ids", path(&bad)]),
        2,
        &["line 2", "2x", "one number a line"],
    );
    refused(
        &verify(&world, &["--ids", "/nowhere/ids"]),
        2,
        &["/nowhere/ids"],
    );
    refused(
        &world.doorbell(&["verify", "--topic", "a/b"]),
        2,
        &["--topic", "'/'"],
    );
    refused(
        &verify(&world, &["--table", "nothing"]),
        2,
        &["table nothing does not exist"],
    );
    let mut routed = tempfile::NamedTempFile::new().expect("a file");
    routed
        .write_all(b"[[outbox]]\ntopic = \"x.{type}\"\n")
        .expect("written");
    refused(
        &world.doorbell(&["verify", "--config", path(&routed)]),
        2,
        &["x.{type}", "--topic"],
    );
}
