//! `doorbell compare` on records of two relays.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Consumer, Received, Relay, World, create_topic, produce, refused};

/// An event as a relay might send it.
fn record(n: usize) -> Received {
    let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
    let key = n % 5;
    Received {
        partition: (key % 2) as i32,
        key: (key > 0).then(|| format!("k{key}").into_bytes()),
        payload: (!n.is_multiple_of(7))
            .then(|| format!(r#"{{"n": {n}, "x": [1, null]}}"#).into_bytes()),
        timestamp: Some(1_700_000_000_000 + n as i64),
        headers: vec![
            header("id", format!("00000000-0000-8000-8000-{n:012}")),
            header("eventType", format!("T{}", n % 3)),
            ("none".to_owned(), None),
        ],
    }
}

/// A world with an old and a new topic that have these records.
fn world(test: &str, old: &[Received], new: &[Received]) -> (World, String, String) {
    let world = World::new(test);
    let (from, to) = (
        format!("{}.old", world.topic),
        format!("{}.new", world.topic),
    );
    for (topic, records) in [(&from, old), (&to, new)] {
        create_topic(&world, topic, 2, &[]);
        produce(&world, topic, records, None);
    }
    (world, from, to)
}

fn compare(world: &World, (old, new): (&str, &str), flags: &[&str]) -> Output {
    world.doorbell(&[&["compare", old, "--with", new], flags].concat())
}

fn found(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_same_records_in_other_places_and_json_written_otherwise_speak_against_nothing() {
    let old: Vec<Received> = (0..200).map(record).collect();
    // Keys of their own order, other offsets, and three values that are written otherwise.
    let mut new = old.clone();
    new.sort_by_key(|it| it.key.clone());
    for n in [3, 70, 90] {
        new[n].payload = new[n].payload.as_ref().map(|it| {
            let text = String::from_utf8_lossy(it).replace(": ", ":  ");
            text.into_bytes()
        });
    }
    new.insert(
        0,
        Received {
            headers: Vec::new(),
            ..record(7)
        },
    );
    let (world, from, to) = world("compareequal", &old, &new);
    let topics = (from.as_str(), to.as_str());
    let output = compare(&world, topics, &["--allow-foreign", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answer = found(&output);
    let same = new.iter().filter(|it| {
        it.payload
            .as_ref()
            .is_some_and(|it| it.contains(&b':') && String::from_utf8_lossy(it).contains(":  "))
    });
    let same = same.count();
    assert!(same > 0);
    for (name, count) in [
        ("old", 200),
        ("new", 200),
        ("pairs", 200),
        ("doubled_in_old", 0),
    ] {
        assert_eq!(answer[name], count, "{answer}");
    }
    assert_eq!(answer["same_json"]["count"], same);
    assert_eq!(answer["can_switch"], true);
    assert_eq!(answer["topics"][format!("{from} → {to}")], 200);
    refused(
        &compare(&world, topics, &["--bytes", "--allow-foreign"]),
        1,
        &["one cannot switch yet: ", "same JSON"],
    );
    refused(&compare(&world, topics, &[]), 1, &["1 without an id"]);
    let text = compare(&world, topics, &["--allow-foreign"]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.ends_with("one can switch: nothing speaks against it\n"),
        "{text}"
    );
}

#[test]
fn each_kind_of_difference_is_counted_and_named_and_speaks_against_switching() {
    let old: Vec<Received> = (0..100).map(record).collect();
    let mut new = old.clone();
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    new[10].payload = Some(b"{}".to_vec());
    new[14].payload = Some(Vec::new());
    new[20].key = Some(b"other".to_vec());
    new[30].headers[1] = header("eventType", "other");
    new[31].headers.remove(1);
    new[32].headers.push(header("seq", "32"));
    new[33].headers.push(header("eventType", "T0"));
    new[36].partition = 1 - new[36].partition;
    // Two events of one key change places.
    new.swap(41, 46);
    let doubled = new[50].clone();
    new.push(doubled);
    new.push(record(1_000));
    new.retain(|it| it.header("id") != record(60).header("id"));
    let mut old = old;
    old.push(record(5));
    let (world, from, to) = world("comparediffers", &old, &new);
    let topics = (from.as_str(), to.as_str());
    let output = compare(&world, topics, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let answer = found(&output);
    for (name, count) in [
        ("missing", 1),
        ("extra", 1),
        ("doubled", 1),
        ("other_key", 1),
        ("other_headers", 4),
        ("other_value", 2),
        ("same_json", 0),
        ("out_of_order", 1),
        ("other_partition", 1),
    ] {
        assert_eq!(answer[name]["count"], count, "{name} in {answer}");
        if count > 0 {
            let topic = if name == "missing" { &from } else { &to };
            assert_eq!(answer[name]["first"][0]["topic"], topic.as_str(), "{name}");
        }
    }
    assert_eq!(
        (&answer["pairs"], &answer["doubled_in_old"]),
        (&json!(99), &json!(1))
    );
    assert_eq!(
        answer["headers"],
        json!({
            "eventType": { "only_old": 1, "only_new": 0, "other_value": 2 },
            "seq": { "only_old": 0, "only_new": 1, "other_value": 0 },
        })
    );
    // The first offset of a partition is that of the first record that went there.
    let in_partition = |n: usize| {
        old[..n]
            .iter()
            .filter(|it| it.partition == old[n].partition)
            .count()
    };
    let missing = &answer["missing"]["first"][0];
    assert_eq!(missing["offset"], in_partition(60), "{missing}");
    let against = answer["against"].as_str().expect("reasons");
    for reason in [
        "1 missing",
        "1 extra",
        "1 doubled",
        "1 other key",
        "1 out of order",
        "1 partition",
    ] {
        assert!(against.contains(reason), "{against}");
    }
    let text = compare(
        &world,
        topics,
        &["--ignore-header", "event*", "--ignore-header", "seq"],
    );
    refused(
        &text,
        1,
        &[
            "1 missing, 1 extra, 1 doubled, 1 other key, 2 other value, 1 out of order, 1 partition;",
        ],
    );
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains(&format!("other value: {to}/")), "{text}");
    assert!(!text.contains("other headers: "), "{text}");
}

#[test]
fn records_are_paired_by_another_header_and_judged_within_a_time() {
    let renamed = |mut record: Received| {
        record.headers[0].0 = "ce_id".into();
        record
    };
    let old: Vec<Received> = (0..20).map(record).map(renamed).collect();
    let (world, from, to) = world("compareby", &old, &old[..15]);
    let topics = (from.as_str(), to.as_str());
    refused(
        &compare(&world, topics, &[]),
        2,
        &["no record has the header \"id\"", "--by"],
    );
    let by = ["--by", "ce_id"];
    refused(&compare(&world, topics, &by), 1, &["5 missing"]);
    // They are from the year 2023: within the last hour there is none.
    let recent = [&by[..], &["--since", "1h"]].concat();
    refused(
        &compare(&world, topics, &recent),
        2,
        &["nothing to compare"],
    );
    // What is missing is too young.
    let young = [&by[..], &["--settle", "100years", "--json"]].concat();
    let output = compare(&world, topics, &young);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(found(&output)["at_the_edge"], 5);
}

#[test]
fn what_cannot_be_compared_is_one_line() {
    let (world, from, to) = world("comparebad", &[], &[]);
    refused(
        &compare(&world, (&from, &to), &[]),
        2,
        &["nothing to compare"],
    );
    refused(&compare(&world, (&from, &from), &[]), 2, &["named twice"]);
    refused(
        &compare(&world, (&from, "none"), &[]),
        2,
        &["topic none does not exist"],
    );
    refused(&compare(&world, (&from, "a/b"), &[]), 2, &["a/b"]);
    refused(&world.doorbell(&["compare", &from]), 2, &["--with"]);
    let nowhere = ["--kafka-brokers", "127.0.0.1:1"];
    refused(
        &compare(&world, (&from, &to), &nowhere),
        2,
        &["127.0.0.1:1"],
    );
}

#[test]
fn a_shadow_run_beside_the_relay_that_runs_today_pairs_every_event() {
    let mut world = World::new("shadow");
    let shadow = world.topic.replace("outbox", "shadow");
    // The other relay's table, and a copy of each row for the one that may replace it.
    world.sql(
        "CREATE TABLE shadow (LIKE outbox INCLUDING ALL); \
         CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO shadow (type, key, payload, headers) SELECT type, key, payload, headers FROM new_rows; RETURN NULL; END $$; \
         CREATE TRIGGER copy AFTER INSERT ON outbox REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION copy()",
    );
    world.migrate(&["--table", "shadow"]);
    for topic in [&world.topic.clone(), &shadow] {
        create_topic(&world, topic, 4, &[]);
    }
    let route = world.topic.replace("outbox", "{table}");
    let config = |table: &str| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text =
            format!("[[outbox]]\ntable = \"{table}\"\ntopic = \"{route}\"\nprofile = \"none\"\n");
        std::fs::write(file.path(), text).expect("written");
        file
    };
    let files = ["outbox", "shadow"].map(config);
    let relays = files
        .each_ref()
        .map(|file| Relay::leading(&world, &["--config", file.path().to_str().expect("a path")]));
    for _ in 0..20 {
        world.sql(
            r#"INSERT INTO outbox (type, key, payload, headers) SELECT 't', CASE WHEN n % 9 > 0 THEN 'k' || n % 9 END,
               CASE WHEN n % 7 > 0 THEN '{"n": ' || n || '}' END, jsonb_build_object('id', gen_random_uuid(), 'eventType', 'T' || n % 3)
               FROM generate_series(1, 1000) n"#,
        );
    }
    for topic in [&world.topic.clone(), &shadow] {
        Consumer::new(&world, topic).await_records(20_000);
    }
    let topics = (world.topic.clone(), shadow);
    let output = compare(
        &world,
        (&topics.0, &topics.1),
        &["--settle", "0s", "--json"],
    );
    let answer = found(&output);
    assert_eq!(output.status.code(), Some(0), "{answer}");
    assert_eq!(
        (&answer["pairs"], &answer["at_the_edge"]),
        (&json!(20_000), &json!(0))
    );
    for relay in relays {
        assert!(relay.stop().success());
    }
}
