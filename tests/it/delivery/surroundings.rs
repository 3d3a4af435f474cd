//! What other sessions do to the table, the topic and the database.

use std::time::{Duration, Instant};

use crate::support::{
    Consumer, Instance, Load, Relay, Services, World, configure_topic, create_topic, not_here,
};

const REFUSED: &str = "Kafka cannot take this row";
/// What is sent at once takes milliseconds. This much is granted to a busy machine, and is far
/// below any sweep.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs a statement whose rows must arrive at once, and returns their texts.
#[track_caller]
fn at_once(world: &mut World, consumer: &mut Consumer, sql: &str, rows: usize) -> Vec<String> {
    let before = consumer.received.len();
    world.sql(sql);
    let committed = Instant::now();
    let received = consumer.await_records(before + rows);
    let took = committed.elapsed();
    assert!(took < AT_ONCE, "{sql}: {took:?}");
    let texts = received[before..].iter().map(|r| r.text().to_owned());
    texts.collect()
}

#[test]
fn a_row_that_a_user_holds_locked_holds_up_no_other() {
    let mut world = World::new("locked");
    create_topic(&world, &world.topic, 3, &[]);
    let mut user = world.connect();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'held')");
    world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
    let _relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'free' FROM generate_series(1, 100)");
    world.await_number("SELECT count(*) FROM outbox WHERE payload = 'free'", 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 101);
}

#[test]
fn a_row_that_came_under_the_id_of_a_locked_one_is_not_deleted_with_it() {
    let mut world = World::new("lockedid");
    create_topic(&world, &world.topic, 1, &[]);
    let (mut user, mut other) = (world.connect(), world.connect());
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'first'), ('x', 'other')");
    world.sql_on(
        &mut user,
        "BEGIN; SELECT FROM outbox WHERE id = 1 FOR UPDATE",
    );
    world.sql_on(
        &mut other,
        "BEGIN; SELECT FROM outbox WHERE id = 2 FOR UPDATE",
    );
    // The new row stays in the table: Kafka cannot take it, and its key is held.
    let relay = Relay::leading(&world, &["--poison", "hold-key"]);
    relay.await_log("locked by another session");
    world.sql_on(
        &mut user,
        "DELETE FROM outbox WHERE id = 1; \
         INSERT INTO outbox (id, type, topic, key, payload) VALUES (1, 'x', 'no topic', 'k', 'second'); COMMIT",
    );
    relay.await_log("its topic is not a valid name");
    // Both ids are fetched again together, so once the second is gone the first was spared.
    world.sql_on(&mut other, "COMMIT");
    world.await_number("SELECT count(*) FROM outbox WHERE id = 2", 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox WHERE id = 1"), 1);
    world.sql("UPDATE outbox SET topic = NULL");
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: Vec<_> = consumer
        .drain()
        .iter()
        .map(|r| r.text().to_owned())
        .collect();
    assert_eq!(texts, ["first", "other", "second"]);
}

#[test]
fn a_user_who_updates_rows_in_flight_meets_no_deadlock() {
    let mut world = World::new("updates");
    create_topic(&world, &world.topic, 3, &[]);
    let _relay = Relay::leading(&world, &[]);
    let load = Load::start(&world);
    let mut user = world.connect();
    for _ in 0..300 {
        // In the opposite order to the relay's, row by row.
        world.sql_on(
            &mut user,
            "BEGIN; SELECT FROM outbox ORDER BY id DESC FOR UPDATE; UPDATE outbox SET type = 'touched'; COMMIT",
        );
    }
    let written = load.stop();
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(written.check(consumer.drain()), 0);
}

#[test]
fn ids_below_the_cursor_leave_at_once() {
    let mut world = World::new("below");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let insert =
        "INSERT INTO outbox (type, payload) SELECT 'x', 'many' FROM generate_series(1, 100)";
    at_once(&mut world, &mut consumer, insert, 100);
    world.await_empty();
    for id in [50, -7, 0, -9_000_000_000_000_000_000_i64] {
        let by_hand =
            format!("INSERT INTO outbox (id, type, payload) VALUES ({id}, 'x', 'hand {id}')");
        let texts = at_once(&mut world, &mut consumer, &by_hand, 1);
        assert_eq!(texts, [format!("hand {id}")]);
    }
    for round in 0..3 {
        world.sql("TRUNCATE outbox RESTART IDENTITY");
        let insert = format!("INSERT INTO outbox (type, payload) VALUES ('x', 'new {round}')");
        let texts = at_once(&mut world, &mut consumer, &insert, 1);
        assert_eq!(texts, [format!("new {round}")]);
        world.await_empty();
    }
    assert_eq!(consumer.drain().len(), 107, "each once");
}

#[test]
fn a_long_writer_among_thousands_of_rollbacks_leaves_within_a_second() {
    let mut world = World::new("rollbacks");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut late = world.connect();
    world.sql_on(
        &mut late,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', 'late')",
    );
    // Each rollback loses an id, and a row next to it makes a gap of its own: far more than are
    // examined one by one.
    let rollbacks = "DO $$ BEGIN FOR n IN 1..500 LOOP \
        BEGIN INSERT INTO outbox (type, payload) VALUES ('x', 'never'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END; \
        INSERT INTO outbox (type, payload) VALUES ('x', 'flows'); END LOOP; END $$";
    for _ in 0..10 {
        let texts = at_once(&mut world, &mut consumer, rollbacks, 500);
        assert!(texts.iter().all(|text| text == "flows"));
    }
    world.sql_on(&mut late, "COMMIT");
    assert_eq!(at_once(&mut world, &mut consumer, "", 1), ["late"]);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 5_001);
    assert!(relay.stop().success());
}

#[test]
fn interleaved_transactions_are_delivered_when_each_ends() {
    let mut world = World::new("interleaved");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut sessions = ["0", "1", "R", "2"].map(|name| (name, world.connect()));
    for (name, session) in &mut sessions {
        let insert = format!("BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', '{name}')");
        world.sql_on(session, &insert);
    }
    for (name, mut session) in sessions.into_iter().rev() {
        if name == "R" {
            world.sql_on(&mut session, "ROLLBACK");
            continue;
        }
        world.sql_on(&mut session, "COMMIT");
        assert_eq!(at_once(&mut world, &mut consumer, "", 1), [name]);
    }
    world.await_empty();
    assert_eq!(consumer.drain().len(), 3);
}

#[test]
fn small_rows_fit_a_small_topic_also_when_it_becomes_small_later() {
    for (test, settings) in [
        ("small", &[("max.message.bytes", "10000")][..]),
        ("shrunk", &[]),
    ] {
        let mut world = World::new(test);
        create_topic(&world, &world.topic, 1, settings);
        let relay = Relay::leading(&world, &[]);
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '0')");
        world.await_empty();
        if settings.is_empty() {
            configure_topic(&world, &world.topic, "max.message.bytes", "10000");
        }
        world.sql(
            "INSERT INTO outbox (type, payload) SELECT 'x', rpad(g::text, 200) FROM generate_series(1, 2000) g",
        );
        world.await_empty();
        let mut consumer = Consumer::new(&world, &world.topic);
        let received = consumer.drain().iter();
        let mut numbers: Vec<usize> = received
            .map(|r| r.text().trim_end().parse().expect("a number"))
            .collect();
        // Without a key there is no order to keep when a batch comes back.
        numbers.sort_unstable();
        assert_eq!(numbers, (0..=2_000).collect::<Vec<_>>(), "{test}");
        assert_eq!(relay.count_log(REFUSED), 0, "{test}");
    }
}

#[test]
fn rows_that_are_too_large_are_parked_and_the_others_go_on() {
    let mut world = World::new("large");
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "100000")]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let relay = Relay::leading(&world, &[]);
    // Over the client's limit, and over the topic's alone.
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', repeat('x', n) FROM unnest(ARRAY[5, 2000000, 5, 300000, 5]) n",
    );
    relay.await_log(REFUSED);
    world.await_number("SELECT count(*) FROM doorbell.dead", 2);
    world
        .sql("INSERT INTO outbox (type, payload) SELECT 'x', 'small' FROM generate_series(1, 100)");
    // The large ones leave the table too: they are dead letters.
    world.await_empty();
    assert_eq!(consumer.drain().len(), 103);
    assert_eq!(consumer.received[102].text(), "small");
    let parked = "SELECT count(*) FROM doorbell.dead WHERE code = 'MessageSizeTooLarge' AND length(payload) = payload_size \
        AND payload_size IN (2000000, 300000) AND attempts = 1";
    assert_eq!(world.number(parked), 2);
    // If one were sent again, its batch would be refused again.
    relay.assert_logged("a batch was refused", 1);
    assert!(relay.stop().success());
}

#[test]
fn names_that_need_quotes_and_columns_of_ones_own_work() {
    let mut world = World::empty("quoted", Services::shared().clone());
    world.sql(
        r#"CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."Out ""Box" ("The Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        "what?" text NOT NULL, body jsonb, made timestamptz NOT NULL DEFAULT now(), "Key" text, topic text, headers jsonb)"#,
    );
    create_topic(&world, &world.topic, 1, &[]);
    let topic = world.topic.clone();
    let outbox = [
        ["--table", r#""My Schema"."Out ""Box""#],
        ["--column", "id=The Id"],
        ["--column", "type=what?"],
        ["--column", "payload=body"],
        ["--column", "created_at=made"],
        ["--column", "key=Key"],
        ["--topic", topic.as_str()],
    ]
    .concat();
    world.migrate(&outbox);
    let _relay = Relay::leading(&world, &outbox);
    let mut consumer = Consumer::new(&world, &world.topic);
    let insert = r#"INSERT INTO "My Schema"."Out ""Box" ("what?", body, "Key") VALUES ('asked', '{"a": 1}', 'k')"#;
    assert_eq!(
        at_once(&mut world, &mut consumer, insert, 1),
        [r#"{"a": 1}"#]
    );
    assert_eq!(consumer.received[0].header("type"), "asked");
    assert_eq!(consumer.received[0].key.as_deref(), Some(&b"k"[..]));
    world.await_number(r#"SELECT count(*) FROM "My Schema"."Out ""Box""#, 0);
}

#[test]
fn a_partitioned_outbox_works() {
    let mut world = World::empty("parts", Services::shared().clone());
    world.sql(
        "CREATE TABLE outbox (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, type text NOT NULL, payload text, \
         created_at timestamptz NOT NULL DEFAULT now(), key text, topic text, headers jsonb) PARTITION BY RANGE (id); \
         CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (1) TO (101); \
         CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES FROM (101) TO (MAXVALUE)",
    );
    world.migrate(&["--table", "outbox"]);
    late_commit(&mut world);
}

#[test]
fn postgres_15_works() {
    if let Some(reason) = not_here("postgres15") {
        return eprintln!("skipped: {reason}");
    }
    let postgres = Instance::start("old", &["postgres15"]);
    let mut world = World::on("old", postgres.services());
    assert_eq!(
        world.number("SELECT current_setting('server_version_num')::bigint / 10000"),
        15
    );
    late_commit(&mut world);
}

/// A row that commits late, and many that were sent before it, on a world that was just migrated.
fn late_commit(world: &mut World) {
    create_topic(world, &world.topic, 1, &[]);
    let relay = Relay::leading(world, &[]);
    let mut consumer = Consumer::new(world, &world.topic);
    let mut late = world.connect();
    world.sql_on(
        &mut late,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', 'late')",
    );
    let many = "INSERT INTO outbox (type, payload) SELECT 'x', 'many' FROM generate_series(1, 150)";
    at_once(world, &mut consumer, many, 150);
    world.sql_on(&mut late, "COMMIT");
    assert_eq!(at_once(world, &mut consumer, "", 1), ["late"]);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 151);
    assert!(relay.stop().success());
}

#[test]
fn a_relay_of_many_outboxes_leaves_connections_to_others() {
    let mut server = Instance::start("connections", &["postgres"]);
    {
        let mut world = World::on("connections", server.services());
        world.sql("ALTER SYSTEM SET max_connections = 30");
    }
    server.stop("postgres");
    server.again();
    let mut world = World::on("connections", server.services());
    create_topic(&world, &world.topic, 1, &[]);
    let mut config = format!("[kafka]\nbrokers = '{}'\n", world.services.kafka_brokers);
    world.sql("SELECT doorbell.create_outbox('outbox' || n) FROM generate_series(1, 12) n");
    for table in (1..=12).map(|n| format!("outbox{n}")) {
        let topic = &world.topic;
        config += &format!("[[outbox]]\ntable = '{table}'\ntopic = '{topic}'\n");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("room");
    let path = file.path().to_str().expect("a path");
    let relay = Relay::spawn(&world, &["--config", path]);
    relay.await_log("and the relay leaves 3 to other clients");
    relay.await_log_times("leading version=", 5);
    // The world has one already.
    let others: Vec<_> = (0..2).map(|_| world.connect()).collect();
    drop(others);
    assert!(relay.stop().success());
}
