//! Traces: what the relay sends to a collector, and how a row's own trace reaches it and the
//! record.

use std::process::Command;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::support::{
    Authority, Collector, Consumer, Received, Relay, Span, World, create_topic, doorbell, refused,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

/// A relay that gets the collector from OpenTelemetry's own variables.
fn command(world: &World, collector: &str, flags: &[&str]) -> Command {
    let arguments = ["run", "--sweep", "1h", "--topic", &world.topic];
    let mut command = doorbell(world, &[&arguments, flags].concat());
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command
}

fn leading(command: &mut Command) -> Relay {
    let relay = Relay::of(command);
    relay.await_log("leading");
    relay
}

fn stage(test: &str) -> (World, Collector) {
    let world = World::new(test);
    create_topic(&world, &world.topic, 1, &[]);
    (world, Collector::start())
}

/// Whether the record has this header.
fn has(record: &Received, name: &str, value: &str) -> bool {
    let wanted = (name.to_owned(), Some(value.as_bytes().to_vec()));
    record.headers.contains(&wanted)
}

#[test]
fn a_batch_is_a_trace_whose_sending_links_to_the_traces_of_its_rows() {
    let (mut world, collector) = stage("traced");
    let mut command = command(&world, &collector.url(), &[]);
    // The last spans are sent at the end of the relay: the interval of an hour would send none.
    command
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_SERVICE_NAME", "shop-relay")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment=test")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=HUNTER2");
    let relay = leading(&mut command);
    let good = traceparent();
    let unsampled = good.replace("-01", "-00");
    world.sql(&format!(
        r#"INSERT INTO outbox (type, payload, headers) VALUES
            ('t', 'sampled', '{{"traceparent": "{good}", "tracestate": "a=1"}}'),
            ('t', 'unsampled', '{{"traceparent": "{unsampled}"}}'),
            ('t', 'malformed', '{{"traceparent": "junk"}}'),
            ('t', 'number', '{{"traceparent": 7}}'),
            ('t', 'none', NULL)"#
    ));
    world.await_empty();
    assert_eq!(collector.connections(), 0);
    let log = relay.log().join("\n");
    assert!(relay.stop().success());

    let [fetch, send] = ["fetch ", "send "].map(|name| {
        let spans = collector.spans(name);
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans[0].clone()
    });
    assert_eq!(fetch.parent, "");
    assert_eq!(fetch.name, "fetch outbox");
    assert_eq!(fetch.attribute("doorbell.rows").as_deref(), Some("5"));
    assert_eq!(fetch.attribute("doorbell.row.first").as_deref(), Some("1"));
    assert_eq!(fetch.attribute("doorbell.row.last").as_deref(), Some("5"));
    assert_eq!((&send.trace, &send.parent), (&fetch.trace, &fetch.id));
    assert_eq!(send.name, format!("send {}", world.topic));
    assert_eq!(send.kind, SpanKind::Client);
    assert_eq!(send.links, [format!("{TRACE}-{SPAN} a=1")]);
    assert_eq!(send.error, None);
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "send"),
        ("messaging.operation.name", "send"),
        ("messaging.destination.name", &world.topic),
        ("messaging.batch.message_count", "5"),
        ("doorbell.outbox", "outbox"),
    ] {
        assert_eq!(send.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert!(send.nanoseconds > 0);
    // Rows that are acknowledged apart are deleted apart.
    let mut deleted = 0;
    for delete in collector.spans("delete ") {
        assert_eq!((&delete.trace, &delete.parent), (&send.trace, &send.id));
        let rows = delete.attribute("doorbell.rows").expect("a number");
        deleted += rows.parse::<usize>().expect("a number");
    }
    assert_eq!(deleted, 5);
    for (key, value) in [
        ("service.name", "shop-relay"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment", "test"),
    ] {
        assert_eq!(send.resource(key).as_deref(), Some(value), "{key}");
    }
    let heads = collector.heads();
    assert!(heads[0].starts_with("post /v1/traces "), "{heads:?}");
    assert!(heads[0].contains("x-key: hunter2"), "{heads:?}");
    assert!(!log.contains("HUNTER2"), "{log}");

    let mut consumer = Consumer::new(&world, &world.topic);
    let received = consumer.drain();
    for (text, value) in [
        ("sampled", good.as_str()),
        ("unsampled", &unsampled),
        ("malformed", "junk"),
        ("number", "7"),
    ] {
        let record = received.iter().find(|record| record.text() == text);
        assert!(has(record.expect(text), "traceparent", value), "{text}");
    }
    let none = received.iter().find(|record| record.text() == "none");
    assert_eq!(none.expect("it came").headers.len(), 3);
}

#[test]
fn links_are_bounded_and_rows_of_several_topics_are_one_sending() {
    let (mut world, collector) = stage("links");
    let other = format!("{}.other", world.topic);
    create_topic(&world, &other, 1, &[]);
    let _relay = leading(&mut command(&world, &collector.url(), &[]));
    world.await_asleep();
    world.sql(&format!(
        r#"INSERT INTO outbox (type, payload, topic, headers) SELECT 't', 'x', CASE WHEN n % 2 = 0 THEN '{other}' END,
            jsonb_build_object('traceparent', '00-' || lpad(to_hex(n), 32, '0') || '-{SPAN}-01') FROM generate_series(1, 200) n"#
    ));
    world.await_empty();
    let sends = collector.await_spans("send", 1);
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert_eq!(sends[0].name, "send");
    assert_eq!(sends[0].attribute("messaging.destination.name"), None);
    let sent = sends[0].attribute("messaging.batch.message_count");
    assert_eq!(sent.as_deref(), Some("200"));
    assert_eq!(sends[0].links.len(), 128);
    let cut = sends[0].attribute("doorbell.links.cut");
    assert_eq!(cut.as_deref(), Some("true"));
}

#[test]
fn rows_that_are_deleted_before_the_rest_of_their_batch_is_acknowledged_belong_to_its_sending() {
    let (mut world, collector) = stage("apart");
    // A batch of ten records is sent at once. A lone record waits for others.
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = "[kafka.properties]\n\"linger.ms\" = 4000\n\"batch.num.messages\" = 10\n";
    std::fs::write(config.path(), text).expect("room");
    let slow = format!("{}.slow", world.topic);
    create_topic(&world, &slow, 1, &[]);
    let path = config.path().to_str().expect("a path");
    let relay = leading(&mut command(&world, &collector.url(), &["--config", path]));
    world.await_asleep();
    world.sql(&format!(
        "INSERT INTO outbox (type, payload, topic) VALUES ('t', 'slow', '{slow}'); \
         INSERT INTO outbox (type, payload) SELECT 't', 'quick' FROM generate_series(1, 10)"
    ));
    let deletes = collector.await_spans("delete ", 1);
    // The deletes of the ten may be several.
    world.await_number("SELECT count(*) FROM outbox", 1);
    world.await_empty();
    assert!(relay.stop().success());

    let sends = collector.spans("send");
    assert_eq!(sends.len(), 1, "{sends:?}");
    let sent = sends[0].attribute("messaging.batch.message_count");
    assert_eq!(sent.as_deref(), Some("11"));
    let all = collector.spans("delete ");
    assert!(all.len() > deletes.len(), "{all:?}");
    for delete in all {
        assert_eq!(
            (&delete.trace, &delete.parent),
            (&sends[0].trace, &sends[0].id)
        );
    }
}

#[test]
fn a_transaction_of_the_mode_exactly_once_ends_the_sending_of_its_batches() {
    let (mut world, collector) = stage("tracedonce");
    let receipts = format!("{}.receipts", world.topic);
    world.will_delete(&receipts);
    let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
    let relay = leading(&mut command(&world, &collector.url(), &flags));
    for number in 1..=3 {
        world.sql(&format!(
            r#"INSERT INTO outbox (type, payload, headers) VALUES ('t', '{number}', '{{"traceparent": "{}"}}')"#,
            traceparent()
        ));
        world.await_empty();
    }
    assert!(relay.stop().success());
    let fetches = collector.spans("fetch ");
    assert_eq!(fetches.len(), 3);
    for (send, delete) in collector
        .spans("send ")
        .iter()
        .zip(collector.spans("delete "))
    {
        assert!(fetches.iter().any(|fetch| fetch.id == send.parent));
        assert_eq!((send.links.len(), &send.error), (1, &None));
        assert_eq!(delete.parent, send.id);
    }
    assert_eq!(collector.spans("send ").len(), 3);
    assert_eq!(collector.spans("delete ").len(), 3);
}

#[test]
fn a_row_that_kafka_refuses_is_an_error_of_its_sending() {
    let (mut world, collector) = stage("tracedbad");
    let small = format!("{}.small", world.topic);
    create_topic(&world, &small, 1, &[("max.message.bytes", "1000")]);
    let relay = leading(&mut command(&world, &collector.url(), &[]));
    world.sql(&format!(
        "INSERT INTO outbox (type, payload, topic) VALUES ('t', repeat('x', 5000), '{small}')"
    ));
    world.await_number("SELECT count(*) FROM doorbell.dead", 1);
    assert!(relay.stop().success());
    let failed = |span: &Span| span.error.is_some();
    let sends: Vec<Span> = collector.spans("send ");
    let refused = sends.iter().find(|span| failed(span));
    let error = refused.and_then(|span| span.attribute("error.type"));
    assert_eq!(error.as_deref(), Some("MessageSizeTooLarge"), "{sends:?}");
}

#[test]
fn without_a_collector_nothing_of_traces_is_there() {
    let (mut world, collector) = stage("untraced");
    let threads = |relay: &Relay| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", relay.pid())).expect("it runs");
        let names =
            tasks.map(|task| std::fs::read_to_string(task.expect("one").path().join("comm")));
        names.map_while(Result::ok).collect()
    };
    let is_traced = |relay: &Relay| {
        threads(relay)
            .iter()
            .any(|name| name.starts_with("OpenTelemetry"))
    };
    // An empty variable counts as unset.
    let relay = leading(&mut command(&world, "", &[]));
    assert!(!is_traced(&relay), "{:?}", threads(&relay));
    assert!(relay.stop().success());
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let relay = leading(command(&world, &collector.url(), &[]).env(name, value));
        assert!(!is_traced(&relay), "{name}");
        assert!(relay.stop().success());
    }
    let relay =
        leading(command(&world, &collector.url(), &[]).env("OTEL_TRACES_SAMPLER", "always_off"));
    assert!(is_traced(&relay));
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
    world.await_empty();
    assert!(relay.stop().success());
    assert_eq!(collector.connections(), 0);
}

#[test]
fn a_collector_that_is_away_costs_nothing_is_told_of_once_and_found_again() {
    let (mut world, gone) = stage("collectorless");
    // A port without a listener.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    drop(gone);
    const AWAY: &str = "cannot send spans to";
    let relay = leading(&mut command(&world, &format!("http://{address}"), &[]));
    for number in 1..=5 {
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('t', '{number}')"
        ));
        world.await_empty();
    }
    relay.await_log(AWAY);
    let collector = Collector::at(&address);
    let mut number = 5;
    while relay.count_log("the collector takes spans again") == 0 {
        number += 1;
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('t', '{number}')"
        ));
        world.await_empty();
    }
    collector.await_spans("send ", 1);
    relay.assert_logged(AWAY, 1);
    assert!(relay.stop().success());
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), number);
}

#[test]
fn a_collector_may_speak_tls_and_one_that_is_not_trusted_is_told_of() {
    let (mut world, gone) = stage("collectortls");
    drop(gone);
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let collector = Collector::secure(&authority.issue("collector", &["localhost"]));
    let url = collector
        .url()
        .replace("http://127.0.0.1", "https://localhost");
    let relay = leading(command(&world, &url, &[]).env("SSL_CERT_FILE", &authority.file));
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '1')");
    world.await_empty();
    collector.await_spans("send ", 1);
    assert!(relay.stop().success());
    let stranger = Authority::new(folder.path(), "stranger");
    let relay = leading(command(&world, &url, &[]).env("SSL_CERT_FILE", &stranger.file));
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '2')");
    world.await_empty();
    relay.await_log("the server's certificate comes from an authority that is not trusted here");
    assert!(relay.stop().success());
    assert_eq!(collector.spans("send ").len(), 1);
}

#[test]
fn a_collector_that_never_answers_holds_up_neither_rows_nor_the_end() {
    let (mut world, gone) = stage("collectormute");
    drop(gone);
    // It accepts connections, in its queue, and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address").to_string();
    let relay = leading(&mut command(&world, &format!("http://{address}"), &[]));
    world.sql("INSERT INTO outbox (type, payload) SELECT 't', 'x' FROM generate_series(1, 1000)");
    world.await_empty();
    let (_connection, _) = mute.accept().expect("the relay");
    let stopped = Instant::now();
    assert!(relay.stop().success());
    // The bound for the last spans is three seconds; a request may take ten.
    assert!(stopped.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_cannot_be_had_of_traces_is_said_in_one_line_before_anything_is_opened() {
    let world = World::new("tracesfaults");
    for (name, value, words) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4318",
            "such as http://localhost:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://h:x/v1/traces",
            "a port that is not a number",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to http/protobuf",
        ),
        ("OTEL_TRACES_EXPORTER", "zipkin", "known are otlp, none"),
        ("OTEL_TRACES_SAMPLER", "xray", "known are always_on,"),
        (
            "OTEL_TRACES_SAMPLER",
            "traceidratio",
            "needs a number from 0 to 1",
        ),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "gzip",
            "set OTEL_EXPORTER_OTLP_TRACES_COMPRESSION to none",
        ),
    ] {
        for arguments in [&["run"][..], &["drain"]] {
            let mut command = doorbell(&world, arguments);
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
                .env("OTEL_TRACES_SAMPLER_ARG", "2")
                .env(name, value)
                // Each part fails with another error if it is opened first.
                .env("DATABASE_URL", "postgres://127.0.0.1:1/nowhere");
            let output = command.output().expect("the binary runs");
            refused(&output, 2, &[name, words]);
        }
    }
}

#[test]
fn a_trace_that_is_set_in_sql_becomes_the_headers_of_rows_without_any() {
    let (mut world, _) = stage("tracedsql");
    let _relay = Relay::leading(&world, &["--topic", &world.topic]);
    let good = traceparent();
    world.sql(&format!(
        "BEGIN; SET LOCAL doorbell.traceparent = '{good}'; SET LOCAL doorbell.tracestate = 'a=1,b=2';
         INSERT INTO outbox (type, payload) VALUES ('t', 'set');
         INSERT INTO outbox (type, payload, headers) VALUES ('t', 'own', '{{\"x\": \"y\"}}'); COMMIT;
         INSERT INTO outbox (type, payload) VALUES ('t', 'after')"
    ));
    for bad in [
        "junk".to_owned(),
        good.replace('-', "_"),
        good.to_uppercase(),
        format!("{good}-"),
        format!("\n{good}"),
    ] {
        world.sql(&format!(
            "BEGIN; SET LOCAL doorbell.traceparent = '{bad}'; SET LOCAL doorbell.tracestate = 'a=1';
             INSERT INTO outbox (type, payload) VALUES ('t', 'bad'); COMMIT"
        ));
    }
    world.sql(&format!(
        "BEGIN; SET LOCAL doorbell.traceparent = '{good}';
         INSERT INTO outbox (type, payload) VALUES ('t', 'stateless'); COMMIT"
    ));
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let received = consumer.drain();
    assert_eq!(received.len(), 9);
    for record in received {
        let own = &record.headers[3..];
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let expected = match record.text() {
            "set" => vec![
                header("traceparent", &good),
                header("tracestate", "a=1,b=2"),
            ],
            "stateless" => vec![header("traceparent", &good)],
            "own" => vec![header("x", "y")],
            _ => vec![],
        };
        assert_eq!(own, expected, "{}", record.text());
    }
}

#[test]
fn a_migration_adds_the_default_where_there_is_none_and_keeps_what_somebody_has_given() {
    let mut world = World::new("tracedmigrate");
    let good = traceparent();
    let headers = |world: &mut World, table: &str| {
        world.sql(&format!(
            "BEGIN; SET LOCAL doorbell.traceparent = '{good}'; INSERT INTO {table} (type, payload) VALUES ('t', 'x'); COMMIT"
        ));
        world.number(&format!(
            "SELECT count(*) FROM {table} WHERE headers::text LIKE '%\"{good}\"%'"
        ))
    };
    // As an earlier version left it.
    world.sql("ALTER TABLE outbox ALTER headers DROP DEFAULT");
    assert_eq!(headers(&mut world, "outbox"), 0);
    world.migrate(&[]);
    assert_eq!(headers(&mut world, "outbox"), 1);
    world.migrate(&[]);
    assert_eq!(headers(&mut world, "outbox"), 2);
    world.sql("ALTER TABLE outbox ALTER headers SET DEFAULT '{}'");
    world.migrate(&[]);
    assert_eq!(headers(&mut world, "outbox"), 2);
    // A user's own table with json, and one without headers.
    world.sql(
        "CREATE TABLE own (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, type text NOT NULL, payload text, \
         created_at timestamptz NOT NULL DEFAULT now(), headers json); \
         CREATE TABLE small (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, type text NOT NULL, payload text, \
         created_at timestamptz NOT NULL DEFAULT now())",
    );
    world.migrate(&["--table", "own"]);
    world.migrate(&["--table", "small"]);
    assert_eq!(headers(&mut world, "own"), 1);
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &["--table", "small", "--topic", &world.topic]);
    world.sql(&format!(
        "BEGIN; SET LOCAL doorbell.traceparent = '{good}'; INSERT INTO small (type, payload) VALUES ('t', 'x'); COMMIT"
    ));
    let record = Consumer::new(&world, &world.topic).await_records(1)[0].clone();
    assert_eq!(record.headers.len(), 3);
}
