//! Rows with odd contents: headers that are JSON null, types that are NULL, generated columns.

use crate::support::{Consumer, Relay, World, create_topic, doorbell, metrics, stage};

#[test]
fn headers_that_are_json_null_are_no_headers() {
    let (mut world, _relay, mut consumer) = stage("nullheaders");
    world.sql("INSERT INTO outbox (type, payload, headers) VALUES ('x', 'null', 'null')");
    let record = &consumer.await_records(1)[0];
    assert_eq!(record.text(), "null");
    let names: Vec<_> = record
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["id", "seq", "type"]);
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
}

#[test]
fn a_rows_own_headers_of_the_relays_names_are_left_out_and_counted() {
    let mut world = World::new("forged");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    world.sql(
        r#"INSERT INTO outbox (type, payload, headers) SELECT 'true', n::text, '{"id": "forged", "own": "kept", "seq": "7", "type": "forged"}'
           FROM generate_series(1, 3) n"#,
    );
    let mut consumer = Consumer::new(&world, &world.topic);
    for record in consumer.await_records(3) {
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["id", "seq", "type", "own"]);
        assert_eq!(record.header("type"), "true");
        assert_eq!(record.seq().to_string(), record.text());
    }
    world.await_empty();
    relay.assert_logged("a row has headers of names that the relay sets", 1);
    let metrics = metrics(&relay);
    assert!(
        metrics.contains("doorbell_reserved_headers_total{outbox=\"outbox\"} 9"),
        "{metrics}"
    );
    assert!(relay.stop().success());
}

#[test]
fn a_time_of_creation_that_kafka_would_refuse_never_costs_the_row() {
    let (mut world, relay, mut consumer) = stage("aheadofnow");
    world.sql(
        "INSERT INTO outbox (type, payload, created_at) VALUES ('x', 'a', now() + '9 hours'), ('x', 'b', '2300-01-01 00:00:00.000001+00'), \
         ('x', 'c', '9999-12-31 23:59:59.999999+00'), ('x', 'd', now() - '1 hour'::interval)",
    );
    consumer.await_records(4);
    world.await_empty();
    world.await_asleep();
    assert_eq!(consumer.drain().len(), 4, "each once");
    let now = world.number("SELECT (extract(epoch FROM now()) * 1000)::bigint");
    for record in &consumer.received {
        let time = record.timestamp.expect("a time");
        let is_old = record.text() == "d";
        assert!(
            time <= now && (time < now - 3_000_000) == is_old,
            "{record:?}"
        );
    }
    assert_eq!(relay.count_log("a batch was refused"), 0);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
}

#[test]
fn a_refused_row_whose_type_is_null_is_parked_checked_and_sent_back() {
    for (test, kind) in [("nulltype", "text"), ("nullenum", "kind")] {
        let (mut world, relay, mut consumer) = stage(test);
        world.sql(&format!(
            "CREATE TYPE kind AS ENUM ('x'); ALTER TABLE outbox ALTER type DROP NOT NULL, \
             ALTER type TYPE {kind} USING type::text::{kind}"
        ));
        world.sql("INSERT INTO outbox (type, payload, headers) VALUES (NULL, 'bad', '[1]'), (NULL, 'good', NULL)");
        assert_eq!(consumer.await_records(1)[0].text(), "good");
        world.await_empty();
        assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
        assert!(relay.stop().success());
        assert!(world.doorbell(&["dead", "retry", "--all"]).status.success());
        assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
        world.sql("UPDATE outbox SET type = NULL");
        let topic = world.topic.clone();
        let check = world.doorbell(&["check", "--topic", &topic]);
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(!text.contains("postgres-away"), "{text}");
    }
}

#[test]
fn a_retry_leaves_out_generated_columns() {
    let mut world = World::new("generated");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "ALTER TABLE outbox DROP key, ADD key text GENERATED ALWAYS AS (payload || '!') STORED",
    );
    let relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, payload, topic) VALUES ('x', 'a', 'no topic!')");
    world.await_empty();
    assert!(relay.stop().success());
    let retry = world.doorbell(&["dead", "retry", "--all"]);
    let stderr = String::from_utf8_lossy(&retry.stderr);
    assert!(retry.status.success(), "{stderr}");
    assert_eq!(world.texts("SELECT key FROM outbox"), ["a!"]);
    world.sql("UPDATE outbox SET topic = NULL");
    let _relay = Relay::leading(&world, &[]);
    let record = &Consumer::new(&world, &world.topic).await_records(1)[0].clone();
    assert_eq!(record.key.as_deref(), Some(&b"a!"[..]));
}

#[test]
fn the_host_of_the_database_may_be_an_ipv6_address() {
    let world = World::new("ipv6");
    // PostgreSQL listens for IPv4 only; a port of the test leads to it.
    let near = std::net::TcpListener::bind("[::1]:0").expect("a port");
    let port = near.local_addr().expect("an address").port();
    let far = world
        .host_port()
        .split('/')
        .next()
        .expect("a host")
        .to_owned();
    std::thread::spawn(move || {
        for stream in near.incoming().flatten() {
            let server = std::net::TcpStream::connect(&far).expect("PostgreSQL listens");
            let copy = |from: &std::net::TcpStream, to: &std::net::TcpStream| {
                let (mut from, mut to) = (
                    from.try_clone().expect("a copy"),
                    to.try_clone().expect("a copy"),
                );
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut to).ok();
                    to.shutdown(std::net::Shutdown::Both).ok();
                });
            };
            copy(&stream, &server);
            copy(&server, &stream);
        }
    });
    let (login, rest) = world.database_url.rsplit_once('@').expect("a login");
    let database = rest.split_once('/').expect("a database").1;
    for url in [
        format!("{login}@[::1]:{port}/{database}"),
        format!("{login}@/{database}?hostaddr=::1&port={port}"),
    ] {
        let output = doorbell(&world, &["status"])
            .env("DATABASE_URL", &url)
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
    }
}
