//! The optional trigger that makes the order of ids the order of commits, key by key.

use std::sync::mpsc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::exactly_once::{flags, receipts};
use crate::support::{Consumer, Received, Relay, World, create_topic, eventually};

const STRICT_ORDER: &str = include_str!("../../../sql/strict_order.sql");

fn world(test: &str) -> World {
    let mut world = World::new(test);
    // Twice, because it can be run again.
    world.sql(STRICT_ORDER);
    world.sql(STRICT_ORDER);
    world.sql("SELECT doorbell.keep_order('outbox')");
    world.sql("SELECT doorbell.keep_order('outbox')");
    world
}

fn insert(world: &World, session: &mut PgConnection, key: &str, payload: &str) {
    world.sql_on(
        session,
        &format!("INSERT INTO outbox (type, key, payload) VALUES ('x', {key}, '{payload}')"),
    );
}

#[test]
fn of_two_transactions_of_a_key_the_one_that_commits_first_has_the_lower_id() {
    let mut world = world("order");
    create_topic(&world, &world.topic, 3, &[]);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let (mut first, mut other) = (world.connect(), world.connect());
    for session in [&mut first, &mut other] {
        world.sql_on(session, "BEGIN");
    }
    insert(&world, &mut first, "'a'", "first");
    // Another key, and a row without a key, do not wait.
    insert(&world, &mut other, "'b'", "other");
    insert(&world, &mut other, "NULL", "none");
    world.sql_on(&mut other, "COMMIT");
    assert_eq!(consumer.await_records(2).len(), 2);

    let blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1869767794 AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::channel();
        let url = world.database_url.clone();
        let writer = scope.spawn(move || {
            // A runtime of its own, because the world's is busy with the first.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                use sqlx::{Connection, Executor};
                let mut session = PgConnection::connect(&url).await.expect("a session");
                let insert = "INSERT INTO outbox (type, key, payload) VALUES ('x', 'a', 'second')";
                session.execute(insert).await.expect("inserted");
            });
            done.send(()).expect("the receiver waits");
        });
        world.await_number(blocked, 1);
        assert_eq!(
            ended.recv_timeout(Duration::from_millis(1)),
            Err(mpsc::RecvTimeoutError::Timeout),
            "the second waits for the first's commit"
        );
        world.sql_on(&mut first, "COMMIT");
        writer.join().expect("the second writer ends");
    });
    let received = consumer.await_records(4);
    let of_a: Vec<_> = received
        .iter()
        .filter(|record| ["first", "second"].contains(&record.text()))
        .map(|record| (record.text().to_owned(), record.seq()))
        .collect();
    assert_eq!(of_a[0].0, "first");
    assert!(of_a[0].1 < of_a[1].1, "{of_a:?}");
    world.await_empty();
}

const WRITERS: usize = 4;
const ROUNDS: usize = 60;

/// A world whose transactions count the commits of each key. The counter's row is taken after the
/// event, so only the trigger keeps the two in step.
fn counting(test: &str) -> World {
    let mut world = world(test);
    create_topic(&world, &world.topic, 3, &[]);
    world.sql(
        "CREATE TABLE counters (key text PRIMARY KEY, count bigint NOT NULL); \
        INSERT INTO counters SELECT 'k' || n, 0 FROM generate_series(0, 2) n",
    );
    world
}

/// Writes in several sessions at once, and runs something else meanwhile.
fn write_counted(world: &World, other: impl FnOnce()) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let url = world.database_url.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    use sqlx::{AssertSqlSafe, Connection, Executor};
                    let mut session = PgConnection::connect(&url).await.expect("a session");
                    for round in 0..ROUNDS {
                        let key = format!("k{}", (writer + round) % 3);
                        let transaction = format!(
                            "DO $$ DECLARE event bigint; BEGIN \
                             INSERT INTO outbox (type, key) VALUES ('x', '{key}') RETURNING id INTO event; \
                             PERFORM pg_sleep(0.001); \
                             UPDATE outbox SET payload = (SELECT count FROM counters WHERE key = '{key}')::text WHERE id = event; \
                             UPDATE counters SET count = count + 1 WHERE key = '{key}'; END $$"
                        );
                        session
                            .execute(sqlx::raw_sql(AssertSqlSafe(transaction)))
                            .await
                            .expect("committed");
                    }
                });
            });
        }
        other();
    });
}

/// Each key's records have the counts that its commits had, in that order.
#[track_caller]
fn check_counted(received: &[Received]) {
    assert_eq!(received.len(), WRITERS * ROUNDS);
    for key in ["k0", "k1", "k2"] {
        let counts: Vec<i64> = received
            .iter()
            .filter(|record| record.key.as_deref() == Some(key.as_bytes()))
            .map(|record| record.text().parse().expect("a count"))
            .collect();
        assert_eq!(
            counts,
            (0..counts.len() as i64).collect::<Vec<_>>(),
            "{key}"
        );
    }
}

#[test]
fn writers_of_the_same_keys_are_received_in_the_order_of_their_commits() {
    let mut world = counting("order_load");
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    write_counted(&world, || {});
    world.await_empty();
    check_counted(consumer.drain());
    assert!(relay.stop().success());
}

#[test]
fn exactly_once_keeps_the_order_of_commits_over_kills() {
    let mut world = counting("order_once");
    let receipts = receipts(&world);
    world.will_delete(&receipts);
    write_counted(&world, || {
        for _ in 0..4 {
            Relay::leading(&world, &flags(&receipts, &[])).kill();
        }
    });
    let relay = Relay::leading(&world, &flags(&receipts, &[]));
    world.await_empty();
    check_counted(Consumer::committed(&world, &world.topic).drain());
    assert!(relay.stop().success());
}

#[test]
fn a_table_that_is_no_outbox_is_refused_and_the_order_can_be_released() {
    let mut world = world("order_refused");
    let mut session = world.connect();
    world.sql("CREATE TABLE plain (id bigint PRIMARY KEY, key text)");
    for (call, words) in [
        ("keep_order('plain')", "draws its values from no sequence"),
        ("keep_order('doorbell.dead')", "is no outbox"),
        ("keep_order('nowhere')", "does not exist"),
    ] {
        let error = world
            .try_sql_on(&mut session, &format!("SELECT doorbell.{call}"))
            .expect_err("it is refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    world.sql("SELECT doorbell.release_order('outbox')");
    world.sql("SELECT doorbell.release_order('outbox')");
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname = 'doorbell_order'";
    eventually("the trigger is gone", || {
        (world.number(left) == 0).then_some(())
    });
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'doorbell'::regnamespace AND proname LIKE 'order\\_%'";
    assert_eq!(world.number(functions), 0);
}

#[test]
fn a_row_that_is_retried_keeps_its_id_and_the_count_of_its_attempts() {
    let mut world = world("order_retry");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, key, headers) VALUES ('t', 'k', '[]')");
    world.await_empty();
    let letter = "SELECT format('%s after %s attempts', row_id, attempts) FROM doorbell.dead WHERE retried_at IS NULL";
    assert_eq!(world.texts(letter), ["2 after 1 attempts"]);
    let retried = world.doorbell(&["dead", "retry", "--all"]);
    assert!(retried.status.success(), "{retried:?}");
    eventually("it is a dead letter again", || {
        (world.texts(letter) == ["2 after 2 attempts"]).then_some(())
    });
    // A writer's id is replaced as before.
    world.sql("INSERT INTO outbox (id, type, key, headers) VALUES (77, 't', 'k', '[]')");
    world.await_number(
        "SELECT count(*) FROM doorbell.dead WHERE retried_at IS NULL",
        2,
    );
    assert_eq!(world.texts(letter)[1], "3 after 1 attempts");
    assert!(relay.stop().success());
}

#[test]
fn rows_of_a_key_in_two_partitions_are_in_one_order() {
    let mut world = World::empty("order_parts", crate::support::Services::shared().clone());
    world.sql(
        "CREATE TABLE outbox (id bigint GENERATED BY DEFAULT AS IDENTITY, type text, payload text, created_at timestamptz NOT NULL DEFAULT now(), \
         key text, topic text, headers jsonb, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at); \
         CREATE TABLE past PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO ('2020-01-01'); CREATE TABLE present PARTITION OF outbox DEFAULT",
    );
    world.migrate(&[]);
    world.sql(STRICT_ORDER);
    world.sql("SELECT doorbell.keep_order('outbox')");
    let (mut first, mut second) = (world.connect(), world.connect());
    let past = "INSERT INTO outbox (type, key, created_at) VALUES ('t', 'k', '2019-01-01')";
    world.sql_on(&mut first, &format!("BEGIN; {past}"));
    let waits = "SET lock_timeout = '100ms'; INSERT INTO outbox (type, key) VALUES ('t', 'k')";
    let error = world.try_sql_on(&mut second, waits);
    let error = error.expect_err("the key is locked").to_string();
    assert!(error.contains("lock timeout"), "{error}");
    world.sql_on(&mut first, "COMMIT");
    world.sql_on(&mut second, waits);
}
