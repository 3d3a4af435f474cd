//! The HTTP port: metrics, health, and the answers to bad requests.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{
    Consumer, PATIENCE, Relay, World, ask, ask_at, create_topic, doorbell, eventually, get,
    metrics, refused,
};

/// Any free port.
const ANY: &[&str] = &["--listen", "127.0.0.1:0"];

/// The samples of `/metrics` by name and labels.
fn samples(relay: &Relay) -> BTreeMap<String, f64> {
    let text = metrics(relay);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

#[test]
fn a_relay_at_work_is_seen_in_metrics_health_and_status() {
    const ROWS: usize = 500;
    let mut world = World::new("http");
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, ANY);
    world.await_asleep();
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'abc' FROM generate_series(1, 500)");
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('x', 'bad', '[]')");
    Consumer::new(&world, &world.topic).await_records(ROWS);
    world.await_empty();
    world.await_asleep();
    let all = eventually("the last rows are timed", || {
        let all = samples(&relay);
        let deleted = r#"doorbell_stage_duration_seconds_count{outbox="outbox",stage="delete"}"#;
        (all[deleted] == ROWS as f64).then_some(all)
    });
    let value = |name: &str| {
        *all.get(&format!(r#"{name}{{outbox="outbox"}}"#))
            .unwrap_or_else(|| panic!("no {name} in {all:#?}"))
    };
    let rows = ROWS as f64;
    assert_eq!(value("doorbell_rows_fetched_total"), rows + 1.0);
    assert_eq!(value("doorbell_rows_published_total"), rows);
    assert_eq!(value("doorbell_rows_deleted_total"), rows);
    assert_eq!(value("doorbell_rows_refused_total"), 1.0);
    assert_eq!(value("doorbell_rows_parked_total"), 1.0);
    assert_eq!(value("doorbell_fetched_bytes_total"), rows * 4.0 + 6.0);
    assert_eq!(value("doorbell_rows_retried_total"), 0.0);
    assert_eq!(value("doorbell_rows_swept_total"), 0.0);
    assert_eq!(value("doorbell_backlog_rows"), 0.0);
    assert_eq!(value("doorbell_in_flight_rows"), 0.0);
    assert_eq!(value("doorbell_takeovers_total"), 1.0);
    assert_eq!(value("doorbell_ready"), 1.0);
    assert!(value("doorbell_rings_total") >= 1.0);
    assert!(value("doorbell_last_acknowledged_timestamp_seconds") > 1.7e9);
    assert_eq!(all[r#"doorbell_bell{outbox="outbox",state="asleep"}"#], 1.0);
    assert_eq!(all[r#"doorbell_role{outbox="outbox",role="leading"}"#], 1.0);
    for stage in ["wake", "fetch", "acknowledge", "delete", "total"] {
        let name = |suffix: &str, more: &str| {
            format!(
                r#"doorbell_stage_duration_seconds_{suffix}{{outbox="outbox",stage="{stage}"{more}}}"#
            )
        };
        let count = all[&name("count", "")];
        // The refused row was fetched, too.
        assert!(count == rows || count == rows + 1.0, "{stage}: {count}");
        // The labels of a bucket begin with its bound.
        let bucket = format!(
            r#"doorbell_stage_duration_seconds_bucket{{le="+Inf",outbox="outbox",stage="{stage}"}}"#
        );
        assert_eq!(all[&bucket], count, "{stage}");
        let mean = all[&name("sum", "")] / count;
        assert!(mean > 0.0 && mean < 60.0, "{stage}: {mean}");
    }

    let ready = get(&relay, "/readyz");
    assert_eq!(ready.code, 200, "{ready:?}");
    assert!(
        ready.body.starts_with("outbox: ready: leading for"),
        "{ready:?}"
    );
    assert_eq!(get(&relay, "/healthz").body, "alive\n");
    let status = get(&relay, "/status.json");
    let status: serde_json::Value = serde_json::from_str(&status.body).expect("JSON");
    assert_eq!(status["ready"], true);
    assert_eq!(status["outboxes"][0]["rows"]["published"], ROWS);
    assert_eq!(status["outboxes"][0]["role"], "leading");
    let last = status["outboxes"][0]["changes"].as_array().expect("a list");
    assert_eq!(last.last().expect("a change")["words"], "leading");

    // librdkafka reports its statistics every five seconds.
    eventually("a broker is known", || {
        let brokers = r#"doorbell_kafka_brokers_up{outbox="outbox"}"#;
        (samples(&relay).get(brokers) == Some(&1.0)).then_some(())
    });
    assert_eq!(get(&relay, "/nothing").code, 404);
    let address = relay.address();
    let post =
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask_at(&address, post).expect("an answer").code, 405);
    assert!(relay.stop().success());
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
}

#[test]
fn whoever_accepts_openmetrics_gets_it_and_others_the_classic_form() {
    let world = World::new("forms");
    create_topic(&world, &world.topic, 1, &[]);
    let mut command = doorbell(&world, &[&["run"], ANY].concat());
    let relay = Relay::of(command.env("DOORBELL_NAME", "shop"));
    relay.await_log("leading");
    let open = ask(
        &relay,
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{open:?}"
    );
    assert!(open.body.ends_with("# EOF\n"));
    assert!(
        open.body
            .contains("# TYPE doorbell_rows_published counter\n")
    );
    let classic = get(&relay, "/metrics");
    assert!(
        classic
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{classic:?}"
    );
    assert!(
        classic
            .body
            .contains("# TYPE doorbell_rows_published_total counter\n")
    );
    assert!(!classic.body.contains("# EOF"));
    // All say which database they are about, and the name that the service was given.
    let database = world.database_url.rsplit('/').next().expect("a database");
    let labels = format!("database=\"{database}\",name=\"shop\"");
    let mut samples = classic.body.lines().filter(|line| !line.starts_with('#'));
    assert!(samples.all(|line| line.contains(&labels)), "{classic:?}");
    let resident = format!("\nprocess_resident_memory_bytes{{{labels}}} ");
    assert!(classic.body.contains(&resident), "{classic:?}");
    // Each sample follows the description of its family.
    let mut described = String::new();
    for line in classic.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            described = rest.split(' ').next().expect("a name").to_owned();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&described), "{line} under {described}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_had_is_said_in_one_line_before_anything_is_opened() {
    let world = World::new("taken");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    // There is no such database, so nothing has tried to reach it.
    let nowhere = ["--database-url", "postgres://u@127.0.0.1:1/x"];
    for (listen, words) in [
        (address.as_str(), [address.as_str(), "in use"]),
        (
            "no-such-host.invalid:1",
            ["no-such-host.invalid:1", "--listen"],
        ),
        ("here", ["--listen", "HOST:PORT"]),
        ("127.0.0.1:http", ["--listen", "65535"]),
    ] {
        let output = world.doorbell(&[&["run", "--listen", listen], &nowhere[..]].concat());
        refused(&output, 2, &words);
    }
    let output = world.doorbell(&["run", "--stuck-after", "soon"]);
    refused(&output, 2, &["--stuck-after", "such as"]);
}

#[test]
fn the_default_address_is_left_to_whoever_has_it() {
    let world = World::new("twice");
    create_topic(&world, &world.topic, 1, &[]);
    // The port is taken, by this project or by another program.
    let _somebody = TcpListener::bind("127.0.0.1:8686");
    let mut command = doorbell(&world, &["run", "--topic", &world.topic]);
    let relay = Relay::of(command.env_remove("DOORBELL_LISTEN"));
    relay.await_log("leading");
    relay.await_log("cannot bind the HTTP listener to the default 127.0.0.1:8686");
    assert!(relay.stop().success());
}

/// Opens a connection and sends something. Returns what is answered until the other side closes the
/// connection, and when that was.
fn until_closed(address: &str, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let begun = Instant::now();
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    // A reset is an end as well; a time-out is not.
    let end = stream.read_to_end(&mut answer);
    let timed_out = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "never closed");
    (answer, begun.elapsed())
}

#[test]
fn malformed_huge_slow_and_many_requests_are_refused_or_bounded_and_the_relay_goes_on() {
    let mut world = World::new("attack");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, ANY);
    let address = relay.address();
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut rows = 0;
    let mut flows = |world: &mut World| {
        world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 10)");
        rows += 10;
        consumer.await_records(rows);
    };

    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let huge_head = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let huge_path = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let many_lines = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(2_000));
    for bytes in [
        &tls[..],
        b"\r\n\r\n\0\0\0",
        b"BREW /coffee\r\n\r\n",
        huge_head.as_bytes(),
        huge_path.as_bytes(),
        many_lines.as_bytes(),
    ] {
        let (answer, _) = until_closed(&address, bytes);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let body = b"POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx";
    let (answer, _) = until_closed(&address, body);
    assert!(answer.starts_with(b"HTTP/1.1 405"));
    flows(&mut world);

    // A slow client is disconnected: 5 s for a head, and for the next one.
    for slow in [
        "GET /metrics HTTP/1.1\r\nHo",
        "",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let (_, took) = until_closed(&address, slow.as_bytes());
        assert!(took >= Duration::from_secs(4), "{slow}: {took:?}");
    }
    // More connections than are served at once: the last one waits until the first are closed.
    let idle: Vec<_> = (0..150)
        .map(|_| TcpStream::connect(&address).expect("a connection"))
        .collect();
    flows(&mut world);
    assert_eq!(get(&relay, "/healthz").code, 200);
    drop(idle);

    // A client that asks without end and reads nothing is disconnected, too.
    let mut deaf = TcpStream::connect(&address).expect("a connection");
    deaf.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    let question = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let refused = (0..1_000).find_map(|_| deaf.write_all(&question).err());
    let refused = refused.expect("a million questions are too many");
    assert_ne!(refused.kind(), std::io::ErrorKind::WouldBlock, "{refused}");
    flows(&mut world);

    assert_eq!(get(&relay, "/readyz").code, 200);
    for level in ["WARN", "ERROR"] {
        assert_eq!(relay.count_log(level), 0, "{:#?}", relay.log());
    }
    assert!(relay.peak_memory() < 150, "{} MiB", relay.peak_memory());
    assert!(relay.stop().success());
}
