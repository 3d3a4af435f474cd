//! `doorbell tail`.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Relay, World, create_topic, doorbell, refused};

fn tail(world: &World, flags: &[&str]) -> Output {
    world.doorbell(&[&["tail", "--topic", &world.topic], flags].concat())
}

/// What a run that succeeds prints, as an object a line.
#[track_caller]
fn objects(world: &World, flags: &[&str]) -> Vec<Value> {
    let output = tail(world, &[flags, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    let object = |line: &str| serde_json::from_str(line).expect("JSON");
    text.lines().map(object).collect()
}

#[test]
fn records_are_shown_as_they_arrive_and_the_events_of_a_key_are_found_wherever_they_are() {
    let mut world = World::new("tail");
    create_topic(&world, &world.topic, 2, &[]);
    let relay = Relay::leading(&world, &[]);
    world.sql(
        "INSERT INTO outbox (type, key, payload, headers) VALUES ('a', 'k1', 'p1', NULL), ('b', 'k1', 'p2', '{\"h\": \"v\"}'), \
         ('b', 'k2', 'p3', NULL), ('c', 'k1', 'bad', '[]')",
    );
    world.await_empty();
    // From the beginning, of a key and a type; payloads only where they are asked for.
    let found = objects(
        &world,
        &[
            "--since", "1h", "--limit", "1", "--key", "k1", "--type", "b",
        ],
    );
    assert_eq!(found[0]["key"], "k1");
    assert_eq!(found[0]["seq"], 2);
    let header = serde_json::json!(["h", "v"]);
    assert!(
        found[0]["headers"]
            .as_array()
            .expect("a list")
            .contains(&header)
    );
    assert!(found[0]["age_seconds"].as_f64().expect("an age") >= 0.0);
    assert_eq!(found[0].get("payload"), None);
    let found = objects(
        &world,
        &[
            "--since",
            "1h",
            "--limit",
            "1",
            "--type",
            "b",
            "--key",
            "k2",
            "--payloads",
        ],
    );
    assert_eq!(found[0]["payload"], "p3");
    // As they arrive, as text.
    let mut following = doorbell(&world, &["tail", "--topic", &world.topic, "--limit", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let stderr = following.stderr.take().expect("a pipe");
    let mut said = String::new();
    let read = BufReader::new(stderr).read_line(&mut said);
    read.expect("a line");
    assert!(said.contains("waiting for records of"), "{said}");
    world.sql("INSERT INTO outbox (type, key, payload) VALUES ('late', 'k3', 'p4')");
    let output = following.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("key k3") && text.contains("type=late") && text.contains(" ago"),
        "{text}"
    );
    assert!(!text.contains("p4"), "{text}");
    assert!(relay.stop().success());

    let relay = Relay::leading(&world, &["--poison", "hold-key"]);
    world
        .sql("INSERT INTO outbox (type, key, headers) VALUES ('d', 'k1', '[]'), ('e', 'k1', NULL)");
    relay.await_log("later rows of its key wait behind it");
    let pending = objects(&world, &["--pending", "k1"]);
    let ids = |kind: &str, id: &str| {
        let list = pending[0][kind].as_array().expect("a list");
        list.iter()
            .filter_map(|it| it[id].as_i64())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("waiting", "id"), [6, 7], "{pending:?}");
    assert_eq!(ids("held", "row"), [6], "{pending:?}");
    assert_eq!(ids("dead", "row_id"), [4], "{pending:?}");
    assert_eq!(ids("sent", "seq"), [1, 2], "{pending:?}");
    let text = tail(&world, &["--pending", "k1"]).stdout;
    let text = String::from_utf8(text).expect("text");
    for line in [
        "waits  row 7  type e",
        "held   row 6 keeps",
        "dead   letter 1, row 4",
        "  row 2\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let nothing = tail(&world, &["--pending", "nothing"]).stdout;
    assert!(String::from_utf8_lossy(&nothing).contains("nothing of this key"));
    refused(
        &tail(&world, &["--pending", "k1", "--key", "k"]),
        2,
        &["--pending", "--key"],
    );
    refused(
        &tail(&world, &["--since", "soon"]),
        2,
        &["must be a duration"],
    );
    let missing = format!("{}.missing", world.topic);
    let output = world.doorbell(&["tail", "--topic", &missing]);
    refused(&output, 1, &[&missing, "does not exist"]);
}
