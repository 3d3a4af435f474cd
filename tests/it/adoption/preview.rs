//! `doorbell preview`.

use std::process::Output;

use serde_json::Value;

use crate::support::{Consumer, Received, Relay, World, create_topic, refused};

/// Runs it with the route of the test's relays, and returns the objects that it prints.
fn preview(world: &World, flags: &[&str]) -> Vec<Value> {
    let output = run(world, &[flags, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn run(world: &World, flags: &[&str]) -> Output {
    let route = world.topic.replace("outbox", "{table}");
    world.doorbell(&[&["preview", "--topic", &route], flags].concat())
}

/// A record as the preview shows it.
fn shown(record: &Received) -> Value {
    let text = |bytes: &Vec<u8>| match String::from_utf8(bytes.clone()) {
        Ok(text) => text,
        Err(_) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("\\x{}", digits.collect::<String>())
        }
    };
    let headers = record.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name, value.as_ref().map(text)))
        .collect();
    serde_json::json!({
        "row": record.seq(), "key": record.key.as_ref().map(text), "headers": headers,
        "timestamp": record.timestamp, "payload": record.payload.as_ref().map(text),
        "payload_size": record.payload.as_ref().map(Vec::len),
    })
}

#[test]
fn the_preview_shows_the_records_that_the_relay_then_sends_and_changes_nothing() {
    let mut world = World::new("preview");
    let own = format!("{}.own", world.topic);
    create_topic(&world, &world.topic, 3, &[]);
    create_topic(&world, &own, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    assert!(world.doorbell(&["pause"]).status.success());
    relay.await_log("paused");
    world.sql(&format!(
        r#"INSERT INTO outbox (id, type, key, payload, created_at, topic, headers) OVERRIDING SYSTEM VALUE VALUES
           (-9223372036854775808, 'Zoë', 'k🔑', '  {{"a": 1}} ', '2024-02-29 12:34:56.789987+00', NULL, '{{"n": 1.50, "b": {{"$base64": "AP8="}}, "nil": null}}'),
           (1, 't', NULL, NULL, now(), NULL, NULL), (2, 't', 'k', '', now(), '{own}', 'null'),
           (3, 't', '', 'x', '1970-01-01 00:00:00+00', NULL, '{{"id": "forged", "kept": "é"}}')"#
    ));
    // A role that may only read, in sessions that may only read.
    world.sql(&format!(
        "CREATE ROLE {0} LOGIN PASSWORD 'p'; ALTER ROLE {0} SET default_transaction_read_only = on; \
         GRANT SELECT ON outbox TO {0}; GRANT USAGE ON SCHEMA doorbell TO {0}; GRANT SELECT ON doorbell.outbox TO {0}",
        world.name()
    ));
    let reader = format!("postgres://{0}:p@{1}/{0}", world.name(), world.host_port());
    let before = world.texts("SELECT (outbox.*, xmin, xmax)::text FROM outbox ORDER BY id");
    let all = preview(&world, &["--database-url", &reader]);
    assert_eq!(preview(&world, &["-n", "2"]), all[..2]);
    let after = world.texts("SELECT (outbox.*, xmin, xmax)::text FROM outbox ORDER BY id");
    assert_eq!(after, before);
    world.sql(&format!("DROP OWNED BY {0}; DROP ROLE {0}", world.name()));

    let rules: Vec<&str> = all
        .iter()
        .filter_map(|it| it["partition"].as_str())
        .collect();
    assert_eq!(rules, ["by the key", "any", "by the key", "by the key"]);
    let note = all[3]["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("1 of its own headers"), "{note}");
    assert_eq!(all[0]["notes"], serde_json::json!([]));
    let hidden = run(&world, &["--hide-payloads"]);
    let text = String::from_utf8(run(&world, &[]).stdout).expect("text");
    assert!(
        text.contains(r#"{"a": 1}"#) && text.contains("a tombstone"),
        "{text}"
    );
    assert!(!String::from_utf8_lossy(&hidden.stdout).contains(r#"{"a": 1}"#));

    assert!(world.doorbell(&["resume"]).status.success());
    let mut sent = Vec::new();
    for (topic, count) in [(&world.topic.clone(), 3), (&own, 1)] {
        for record in Consumer::new(&world, topic).await_records(count) {
            sent.push((topic.clone(), shown(record)));
        }
    }
    sent.sort_by_key(|(_, record)| record["row"].as_i64());
    for (row, (topic, record)) in all.iter().zip(&sent) {
        assert_eq!(row["topic"].as_str(), Some(topic.as_str()));
        for name in ["row", "key", "headers", "payload", "payload_size"] {
            assert_eq!(row[name], record[name], "{name} of {row}");
        }
        // The last one's time cannot be Kafka's: the record has the time of its sending.
        if row["row"] != 3 {
            assert_eq!(row["timestamp"], record["timestamp"]);
        }
    }
    assert_eq!((all.len(), sent.len()), (4, 4));
    assert_eq!(all[3]["timestamp"], Value::Null);
    world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn a_row_that_would_be_refused_is_shown_with_the_reason_that_the_relay_then_has() {
    let mut world = World::new("previewrefused");
    let compacted = format!("{}.compacted", world.topic);
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "60000")]);
    create_topic(&world, &compacted, 1, &[("cleanup.policy", "compact")]);
    let missing = format!("{}.missing", world.topic);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, topic, payload, headers) VALUES ('t', NULL, 'a/b', 'x', NULL), \
         ('t', NULL, '{compacted}', 'x', NULL), ('t', 'k', '__consumer_offsets', 'x', NULL), ('t', NULL, NULL, 'x', '[1]'), \
         ('t', NULL, NULL, repeat('x', 200000), NULL), ('t', NULL, NULL, repeat('x', 9000000), NULL), \
         ('t', NULL, 'elsewhere', 'x', NULL), ('t', NULL, NULL, repeat('x', 70000), NULL), ('t', NULL, '{missing}', 'x', NULL)"
    ));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let route = &world.topic;
    std::fs::write(
        file.path(),
        format!(
            "[kafka.properties]\n\"message.max.bytes\" = \"100000\"\n\"compression.type\" = \"lz4\"\n\
             [[outbox]]\ntable = \"outbox\"\ntopic = \"{route}\"\ntopics = [\"{route}*\"]\n"
        ),
    )
    .expect("written");
    let config = ["--config", file.path().to_str().expect("a path")];
    let rows = preview(&world, &config);
    assert_eq!(rows.len(), 9);
    let notes = |row: usize| {
        rows[row]["notes"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(notes(7).contains("max.message.bytes"), "{}", rows[7]);
    assert!(notes(8).contains("do not know its topic"), "{}", rows[8]);

    let text = String::from_utf8(run(&world, &config).stdout).expect("text");
    assert!(text.contains("note: the brokers do not know"), "{text}");

    // The brokers may make the missing topic now.
    world.will_delete(&missing);
    let relay = Relay::leading(&world, &config);
    world.await_number("SELECT count(*) FROM doorbell.dead", 7);
    let dead = world.texts(
        "SELECT json_build_object('row', row_id, 'code', code, 'reason', reason)::text FROM doorbell.dead ORDER BY row_id",
    );
    for (row, letter) in rows.iter().zip(&dead) {
        let letter: Value = serde_json::from_str(letter).expect("JSON");
        assert_eq!(row["row"], letter["row"]);
        for name in ["code", "reason"] {
            assert_eq!(row["refused"][name], letter[name], "{row}");
        }
    }
    assert!(relay.stop().success());
}

#[test]
fn rows_that_the_server_cannot_send_are_named_and_the_others_shown() {
    let mut world = World::encoded("previewbyte", "WIN1252");
    create_topic(&world, &world.topic, 1, &[]);
    let bad = "convert_from('\\x81'::bytea, 'WIN1252')";
    world.sql(&format!(
        "INSERT INTO outbox (type, payload) SELECT 't', CASE WHEN n IN (1, 5, 6, 12) THEN {bad} ELSE n::text END FROM generate_series(1, 12) n"
    ));
    let rows = preview(&world, &["-n", "100"]);
    let ids: Vec<i64> = rows.iter().filter_map(|it| it["row"].as_i64()).collect();
    assert!(ids.into_iter().eq(1..=12), "{rows:?}");
    let unreadable = rows
        .iter()
        .filter(|it| it["refused"]["code"] == "Unreadable");
    let unreadable: Vec<_> = unreadable.filter_map(|it| it["row"].as_i64()).collect();
    assert_eq!(unreadable, [1, 5, 6, 12]);
}

#[test]
fn what_cannot_be_previewed_is_one_line_and_without_a_broker_the_rest_is_shown() {
    let mut world = World::new("previewbad");
    let output = run(&world, &["--json"]);
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no row waits"));
    refused(&run(&world, &["--table", "absent"]), 2, &["absent"]);
    refused(&run(&world, &["-n", "0"]), 2, &["'0'", "preview --help"]);
    let nowhere = ["--database-url", "postgres://u@127.0.0.1:1/x"];
    refused(&run(&world, &nowhere), 2, &["unreachable"]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x'), ('t', 'y')");
    let alone = run(&world, &["--kafka-brokers", "127.0.0.1:1"]);
    assert!(alone.status.success(), "{alone:?}");
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains("no broker answers"), "{said}");
    assert_eq!(String::from_utf8_lossy(&alone.stdout).lines().count(), 4);
}
