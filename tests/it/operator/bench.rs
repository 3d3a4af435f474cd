//! `doorbell bench`: what it prints, what it leaves behind (nothing), and what it says about bad
//! input.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::Row;

use crate::support::{Instance, Services, World, doorbell, eventually, refused};

const SCRATCH: &str =
    "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'doorbell_bench_%'";

/// Schemas other than PostgreSQL's own.
fn schemas(world: &mut World) -> Vec<String> {
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1";
    world.rows(sql).iter().map(|row| row.get(0)).collect()
}

/// Topics of one run.
fn topics(world: &World, scratch: &str) -> Vec<String> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.services.kafka_brokers)
        .create()
        .expect("a client");
    let metadata = client
        .fetch_metadata(None, Duration::from_secs(30))
        .expect("metadata");
    let names = metadata.topics().iter().map(|topic| topic.name());
    names
        .filter(|name| name.starts_with(scratch))
        .map(str::to_owned)
        .collect()
}

/// Command lines of processes that name the run's table.
fn processes(scratch: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("processes");
    let command = |entry: std::io::Result<std::fs::DirEntry>| {
        let line = std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()?;
        line.contains(scratch).then(|| line.replace('\0', " "))
    };
    entries.filter_map(command).collect()
}

#[track_caller]
fn nothing_is_left(world: &mut World, scratch: &str, before: &[String]) {
    assert_eq!(schemas(world), before);
    // A broker takes a moment to forget.
    eventually("its topics are gone", || {
        topics(world, scratch).is_empty().then_some(())
    });
    let none: Vec<String> = Vec::new();
    assert_eq!(processes(scratch), none);
}

/// A run whose relay leads, with the name of its schema.
fn working(world: &mut World) -> (Child, String) {
    let child = doorbell(world, &["bench", "idle", "--idle", "1h"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % leader %'",
        1,
    );
    let scratch: String = world.rows(SCRATCH)[0].get(0);
    (child, scratch)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_quick_run_gives_every_part_and_leaves_nothing() {
    let mut world = World::empty("bench", Services::shared().clone());
    world.sql("CREATE EXTENSION pg_stat_statements");
    let before = schemas(&mut world);
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let page = page.to_str().expect("a path");
    let output = world.doorbell(&["bench", "--quick", "--json", "--html", page]);
    assert!(output.status.success(), "{}", stderr(&output));
    let word = stderr(&output);
    for words in [
        "makes",
        "removed at the end",
        "writes",
        "takes",
        "the schema doorbell, which is not there",
    ] {
        assert!(word.contains(words), "{words:?} in {word}");
    }

    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let runs = |part: &str, list: &str| -> Vec<Value> {
        let found = results[part][list].as_array();
        found
            .unwrap_or_else(|| panic!("no {list} of {part}"))
            .clone()
    };
    let above_zero =
        |value: &Value| assert!(value.as_f64().is_some_and(|figure| figure > 0.0), "{value}");
    // five variants with each of two numbers of clients
    assert_eq!(runs("writers", "summary").len(), 10);
    for one in runs("writers", "summary") {
        above_zero(&one["commits_per_second"]["median"]);
        above_zero(&one["ratio"]["median"]);
        above_zero(&one["commit_ms"]["p99.9"]);
    }
    let asleep: Vec<_> = runs("writers", "runs")
        .into_iter()
        .filter(|run| run["variant"] == "bell_asleep")
        .collect();
    assert!(
        asleep.len() == 2 && asleep.iter().all(|run| run["relay_slept"] == true),
        "{asleep:?}"
    );
    above_zero(&results["writers"]["insert"]["ratio"]["median"]);
    above_zero(&results["writers"]["ramp"]["starts"][0]["steady"]);
    // four sizes, one of them with an old snapshot held as well
    assert_eq!(runs("drain", "summary").len(), 5);
    for one in runs("drain", "runs") {
        assert_eq!(one["rows"], 2_000);
        above_zero(&one["rows_per_second"]);
        above_zero(&one["peak_memory_mib"]);
    }
    above_zero(&results["drain"]["held_over_free"]["median"]);
    for one in runs("latency", "loads") {
        above_zero(&one["to_consumer_ms"]["p50"]);
        let stages: Vec<_> = one["stages_ms"]
            .as_array()
            .expect("stages")
            .iter()
            .map(|stage| stage["stage"].clone())
            .collect();
        assert_eq!(
            stages,
            [
                "commit → wake",
                "wake → fetch",
                "fetch → ack",
                "ack → delete"
            ]
        );
        assert!(
            one["stages_ms"]
                .as_array()
                .expect("stages")
                .iter()
                .all(|stage| stage["count"] == one["to_consumer_ms"]["count"])
        );
    }
    assert_eq!(results["idle"]["counted_by"], "pg_stat_statements");
    assert_eq!(results["idle"]["relay_slept"], true);
    assert_eq!(
        results["idle"]["count"], 0,
        "{}",
        results["idle"]["statements"]
    );

    let report = std::fs::read_to_string(page).expect("the report");
    for part in [
        "<h2>writers</h2>",
        "<h2>drain</h2>",
        "<h2>latency</h2>",
        "<h2>idle</h2>",
        "</svg>",
        "</html>",
    ] {
        assert!(report.contains(part), "{part}");
    }
    let scratch = results["scratch"].as_str().expect("a name");
    nothing_is_left(&mut world, scratch, &before);
}

#[test]
fn an_outbox_that_is_there_is_left_as_it_is() {
    let mut world = World::new("benchbeside");
    world.sql("INSERT INTO outbox (type) SELECT 'mine' FROM generate_series(1, 10)");
    let before = schemas(&mut world);
    let output = world.doorbell(&["bench", "drain", "--quick", "--payload", "100", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("which is not there"));
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(results["idle"], Value::Null);
    assert_eq!(
        world.number("SELECT count(*) FROM outbox WHERE type = 'mine'"),
        10
    );
    assert_eq!(world.number("SELECT count(*) FROM doorbell.outbox"), 1);
    nothing_is_left(
        &mut world,
        results["scratch"].as_str().expect("a name"),
        &before,
    );
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let mut world = World::empty("benchstop", Services::shared().clone());
    let before = schemas(&mut world);
    let (child, scratch) = working(&mut world);
    assert!(!topics(&world, &scratch).is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).expect("it can be signalled");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("interrupted: nothing is left behind"),
        "{}",
        stderr(&output)
    );
    nothing_is_left(&mut world, &scratch, &before);
}

#[test]
fn an_interrupted_run_keeps_the_parts_that_are_complete() {
    let mut world = World::empty("benchkeep", Services::shared().clone());
    let before = schemas(&mut world);
    let flags = ["--quick", "--payload", "100", "--idle", "1h", "--json"];
    let child = doorbell(&world, &[&["bench", "drain", "idle"], &flags[..]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let scratch = eventually("a scratch schema", || {
        let row = world.rows(SCRATCH).pop()?;
        Some(row.get::<String, _>(0))
    });
    eventually("its last part begins", || {
        let topics = topics(&world, &scratch);
        topics
            .iter()
            .any(|topic| topic.ends_with(".idle"))
            .then_some(())
    });
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it can be signalled");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("interrupted"),
        "{}",
        stderr(&output)
    );
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(results["drain"]["runs"][0]["rows"], 2_000);
    assert_eq!(results["idle"], Value::Null);
    nothing_is_left(&mut world, &scratch, &before);
}

#[test]
fn what_a_killed_run_leaves_is_named_by_the_next_one_and_its_relay_ends_by_itself() {
    let mut world = World::empty("benchkill", Services::shared().clone());
    let before = schemas(&mut world);
    let (mut child, scratch) = working(&mut world);
    // While it runs, a second one is refused.
    refused(
        &world.doorbell(&["bench", "--quick"]),
        1,
        &["another benchmark is running", "wait for its end"],
    );
    child.kill().expect("it can be killed");
    child.wait().expect("an end");
    eventually("the relay ends", || {
        processes(&scratch).is_empty().then_some(())
    });
    let output = world.doorbell(&["bench", "idle", "--quick"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let word = stderr(&output);
    let topic = topics(&world, &scratch)
        .pop()
        .expect("a topic that was left");
    assert!(word.contains(&topic), "{topic} in {word}");
    let remedy = word
        .lines()
        .find_map(|line| line.split_once("to be removed by: "));
    let (_, remedy) = remedy.unwrap_or_else(|| panic!("no remedy in {word}"));
    world.sql(remedy);
    assert_eq!(schemas(&mut world), before);
    remove_topics(&world, &topics(&world, &scratch));
}

fn remove_topics(world: &World, topics: &[String]) {
    let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> =
        ClientConfig::new()
            .set("bootstrap.servers", &world.services.kafka_brokers)
            .create()
            .expect("a client");
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let removed = admin.delete_topics(&names, &rdkafka::admin::AdminOptions::new());
    world.block_on(removed).expect("an answer");
}

#[test]
fn bad_input_is_refused_in_one_line_and_leaves_nothing() {
    let mut world = World::empty("benchbad", Services::shared().clone());
    let before = schemas(&mut world);
    let bench =
        |world: &World, flags: &[&str]| world.doorbell(&[&["bench", "--quick"], flags].concat());

    refused(
        &bench(&world, &["--kafka-brokers", "127.0.0.1:1"]),
        1,
        &["Kafka at 127.0.0.1:1 does not answer", "check"],
    );
    refused(
        &bench(
            &world,
            &["drain", "--rows", "1000000000", "--backlog", "1000TB"],
        ),
        1,
        &["not enough disk", "--rows"],
    );
    refused(
        &bench(&world, &["writers", "--clients", "10000"]),
        1,
        &["sessions more", "--clients"],
    );
    refused(
        &bench(&world, &["--html", "/no/such/folder/report.html"]),
        2,
        &["--html", "/no/such/folder"],
    );
    let (server, name) = world.database_url.rsplit_once('/').expect("a URL");
    let (name, at) = (
        name.to_owned(),
        server.rsplit_once('@').expect("user@host").1.to_owned(),
    );
    let role = format!("r_{name}");
    world.sql(&format!("CREATE ROLE {role} LOGIN"));
    let limited = format!("postgres://{role}@{at}/{name}");
    refused(
        &bench(&world, &["--database-url", &limited]),
        1,
        &["may not create a schema", "GRANT CREATE ON DATABASE"],
    );
    world.sql(&format!("GRANT CREATE ON DATABASE {name} TO {role}"));
    let output = bench(
        &world,
        &[
            "writers",
            "--clients",
            "1",
            "--commit-delay",
            "2ms",
            "--database-url",
            &limited,
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let last = stderr(&output).lines().last().expect("a line").to_owned();
    assert!(
        last.contains("commit_delay") && last.contains("superuser"),
        "{last}"
    );
    assert_eq!(schemas(&mut world), before);

    world.migrate(&[]);
    refused(
        &bench(&world, &["--database-url", &limited]),
        1,
        &["may not set up an outbox", "GRANT USAGE ON SCHEMA doorbell"],
    );
    world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_standby_server_is_refused() {
    let instance = Instance::start("standby", &["postgres", "standby"]);
    let services = instance.services();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_doorbell"))
        .args(["bench", "--quick"])
        .env_remove("DOORBELL_CONFIG")
        .env("DATABASE_URL", instance.variable("DATABASE_URL_STANDBY"))
        .env("KAFKA_BROKERS", &services.kafka_brokers)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    refused(&output, 1, &["standby server", "name the primary"]);
}
