//! `doorbell replay`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Consumer, Received, Transaction, World, create_topic, delete_records, doorbell, last_words,
    produce, refused,
};

/// An event of a relay, as a record.
fn record(n: i32) -> Received {
    let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
    Received {
        partition: n % 3,
        key: Some(format!("k{}", n % 10).into_bytes()),
        payload: (n % 7 != 0).then(|| n.to_string().into_bytes()),
        timestamp: Some(1_700_000_000_000 + i64::from(n)),
        headers: vec![
            header("id", format!("00000000-0000-8000-8000-{n:012}")),
            header("seq", n.to_string()),
            header("type", if n % 2 == 0 { "Even" } else { "Odd" }.to_owned()),
            ("bytes".to_owned(), Some(vec![0, 255])),
            ("none".to_owned(), None),
        ],
    }
}

/// A world with so many events in its topic, and an empty topic.
fn world(test: &str, events: i32) -> (World, String) {
    let world = World::new(test);
    let to = format!("{}.replay", world.topic);
    create_topic(&world, &world.topic, 3, &[]);
    create_topic(&world, &to, 2, &[]);
    let records: Vec<Received> = (0..events).map(record).collect();
    produce(&world, &world.topic, &records, None);
    (world, to)
}

/// Takes the header off that says where a copy comes from.
fn without_origin(mut copy: Received) -> (i32, Received) {
    let (name, place) = copy.headers.pop().expect("a header");
    assert_eq!(name, "replayed-from");
    let place = String::from_utf8(place.expect("a place")).expect("text");
    let mut parts = place.rsplit('/');
    parts.next().expect("an offset");
    copy.partition = parts
        .next()
        .expect("a partition")
        .parse()
        .expect("a number");
    let n = copy.header("seq").parse().expect("a number");
    (n, copy)
}

#[test]
fn records_are_replayed_as_they_were_into_another_topic_and_into_their_own() {
    let (world, to) = world("replay", 60);
    let replay = |more: &[&str]| {
        let output = world.doorbell(&[&["replay", "--from", &world.topic], more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let said = replay(&["--to", &to]);
    assert!(said.starts_with("replayed 60 records of "), "{said}");
    let mut consumer = Consumer::new(&world, &to);
    for copy in consumer.drain().to_vec() {
        let (n, copy) = without_origin(copy);
        assert_eq!(copy, record(n));
    }
    assert_eq!(consumer.received.len(), 60);
    // What is there already is left out; what is asked for is chosen by key, type and time.
    assert!(replay(&["--to", &to, "--resume"]).contains("60 records were there already"));
    replay(&["--to", &to, "--key", "k3", "--type", "Odd"]);
    replay(&["--to", &to, "--type", "Odd", "--key", "k2"]);
    replay(&["--to", &to, "--since", "1h"]);
    replay(&["--to", &to, "--since", "2023-11-14T22:13:20.058Z"]);
    let more = consumer.drain()[60..].to_vec();
    let more: Vec<i32> = more.into_iter().map(|it| without_origin(it).0).collect();
    let (of_key, young) = more.split_at(6);
    assert_eq!(
        BTreeSet::from_iter(of_key),
        (3..60).step_by(10).collect::<Vec<_>>().iter().collect()
    );
    assert_eq!(BTreeSet::from_iter(young), BTreeSet::from([&58, &59]));

    // Into the topic itself: the copies are not copied again.
    let own = ["--to", &world.topic, "--same-topic"];
    replay(&own);
    replay(&own);
    let all = Consumer::new(&world, &world.topic).drain().len();
    assert_eq!(all, 180);
}

#[test]
fn a_replay_that_is_stopped_or_killed_goes_on_without_a_gap() {
    let (world, to) = world("replaystop", 600);
    let (from, into) = (world.topic.as_str(), to.as_str());
    let arguments = |rate| {
        let places = ["replay", "--from", from, "--to", into];
        [&places[..], &["--rate", rate, "--resume"]].concat()
    };
    let mut consumer = Consumer::new(&world, &to);
    for (turn, signal) in ["-INT", "-KILL"].into_iter().enumerate() {
        let mut replaying = doorbell(&world, &arguments("100"));
        let replaying = replaying.stdout(Stdio::null()).stderr(Stdio::null());
        let mut replaying = replaying.spawn().expect("doorbell");
        consumer.await_records((turn + 1) * 30);
        let kill = Command::new("kill")
            .args([signal, &replaying.id().to_string()])
            .status();
        assert!(kill.expect("kill").success());
        assert!(!replaying.wait().expect("an end").success());
    }
    let output = world.doorbell(&arguments("0"));
    assert!(output.status.success(), "{output:?}");
    let copies = consumer.drain().to_vec();
    let events: BTreeSet<i32> = copies
        .iter()
        .map(|it| without_origin(it.clone()).0)
        .collect();
    assert_eq!(events.len(), 600);
    assert_eq!(copies.len(), 600, "none twice");
}

#[test]
fn what_cannot_be_replayed_is_refused_in_one_line_and_nothing_is_sent() {
    let (world, to) = world("replaybad", 3);
    produce(&world, &world.topic, &[Received::of("foreign")], None);
    let replay =
        |more: &[&str]| world.doorbell(&[&["replay", "--from", &world.topic], more].concat());
    // Its log has begun.
    refused(
        &last_words(replay(&["--to", &to])),
        1,
        &[
            "partition 0, offset 1",
            "no header `id`",
            "nothing was sent",
        ],
    );
    refused(&replay(&["--to", &world.topic]), 2, &["--same-topic"]);
    refused(
        &replay(&["--to", "none"]),
        1,
        &["topic none does not exist"],
    );
    refused(&replay(&["--to", "a/b"]), 2, &["--to"]);
    let compacted = format!("{}.compacted", world.topic);
    create_topic(&world, &compacted, 1, &[("cleanup.policy", "compact")]);
    let resumed = ["--to", &compacted, "--resume"];
    refused(&replay(&resumed), 1, &["is compacted", "without --resume"]);
    // It counts from each start.
    let resumed = ["--to", &to, "--resume", "--since", "1h"];
    refused(&replay(&resumed), 2, &["--since", "--resume"]);
    assert_eq!(Consumer::new(&world, &to).drain().len(), 0);
    let output = replay(&["--to", &to, "--allow-foreign", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["replayed"], 3);
}

#[test]
fn a_replay_has_a_rate_lines_of_progress_and_a_log() {
    let (world, to) = world("replayrate", 250);
    let (from, into) = (world.topic.as_str(), to.as_str());
    let begun = Instant::now();
    let output = world.doorbell(&["replay", "--from", from, "--to", into, "--rate", "100"]);
    assert!(output.status.success(), "{output:?}");
    assert!(begun.elapsed() > Duration::from_millis(2_300));
    let said = String::from_utf8_lossy(&output.stderr);
    for words in ["INFO", "replaying", "records=250", "of about 250 records, "] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let json = ["--rate", "0", "--log", "off", "--json"];
    let output = world.doorbell(&[&["replay", "--from", from, "--to", into], &json[..]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["replayed"], 250);
}

#[test]
fn aborted_transactions_are_left_out_and_an_open_one_is_waited_for() {
    let (world, to) = world("replayaborted", 0);
    let records: Vec<Received> = (0..40).map(record).collect();
    let (aborted, rest) = records.split_at(10);
    let (committed, rest) = rest.split_at(10);
    let (open, last) = rest.split_at(10);
    produce(&world, &world.topic, aborted, Some(false));
    produce(&world, &world.topic, committed, Some(true));
    produce(&world, &world.topic, last, Some(false));
    let open = Transaction::begin(&world, &to, &world.topic, open);
    let replay = ["replay", "--from", &world.topic, "--to", &to];
    let mut replay = doorbell(&world, &replay)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("doorbell");
    // It knows the ends, and waits for what is before them.
    let log = BufReader::new(replay.stderr.take().expect("it is piped"));
    let mut log = log.lines().map(|line| line.expect("a line"));
    assert!(log.any(|line| line.contains("counting the records")));
    open.commit();
    assert!(log.any(|line| line.contains("replaying") && line.contains("records=20")));
    assert!(replay.wait().expect("an end").success());
    let copies = Consumer::new(&world, &to).drain().to_vec();
    let events: BTreeSet<i32> = copies.into_iter().map(|it| without_origin(it).0).collect();
    assert_eq!(events, (10..30).collect());
}

#[test]
fn records_that_are_deleted_while_it_reads_are_named() {
    let (world, to) = world("replaydeleted", 0);
    let records: Vec<Received> = (0..200)
        .map(|n| Received {
            partition: 0,
            payload: Some(vec![b'x'; 50_000]),
            ..record(n)
        })
        .collect();
    produce(&world, &world.topic, &records, None);
    let places = ["replay", "--from", &world.topic, "--to", &to];
    // It reads hardly more than it sends.
    let little = [
        "-X",
        "queued.min.messages=1",
        "-X",
        "fetch.message.max.bytes=1000",
    ];
    let mut replay = doorbell(&world, &[&places[..], &little, &["--rate", "10"]].concat());
    let replay = replay.stdout(Stdio::null()).stderr(Stdio::piped());
    let replay = replay.spawn().expect("doorbell");
    let mut consumer = Consumer::new(&world, &to);
    consumer.await_records(3);
    delete_records(&world, &world.topic, 199);
    let output = replay.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let lost = format!(
        "doorbell: topic {}, partition 0: the records from offset ",
        world.topic
    );
    for words in [&lost, "retention", "begins at offset 199", "--resume"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let before = consumer.drain().len();
    assert!(before < 150, "{before}");
    let output = world.doorbell(&[&places[..], &["--resume"]].concat());
    assert!(output.status.success(), "{output:?}");
    let copies = consumer.drain();
    assert_eq!(copies.len(), before + 1);
    assert_eq!(copies[before].seq(), 199);
}
