//! What is sent, what is not, how often, and in which order.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgListener};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::{Consumer, Received, Relay, World, create_topic, stage};

#[test]
fn what_is_rolled_back_is_never_sent() {
    let (mut world, _relay, mut consumer) = stage("rollback");
    world.sql("BEGIN; INSERT INTO outbox (type, payload) VALUES ('t', 'rolled back'); ROLLBACK");
    world.sql(
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('t', 'a'); SAVEPOINT s; INSERT INTO outbox (type, payload) VALUES ('t', 'rolled back'); \
         ROLLBACK TO s; INSERT INTO outbox (type, payload) VALUES ('t', 'b'); COMMIT",
    );
    world.sql("BEGIN; SAVEPOINT s; INSERT INTO outbox (type, payload) VALUES ('t', 'c'); RELEASE s; COMMIT");
    consumer.await_records(3);
    world.await_empty();
    let texts: BTreeSet<_> = consumer
        .drain()
        .iter()
        .map(|r| r.text().to_owned())
        .collect();
    assert_eq!(texts, ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn interleaved_transactions_are_all_delivered_and_none_waits_for_the_sweep() {
    let (mut world, relay, mut consumer) = stage("interleaved");
    let mut sessions: Vec<_> = (0..4).map(|_| world.connect()).collect();
    // opened 0, 1, R, 2 and ended 2, (R rolls back), 1, 0
    for (session, text) in sessions.iter_mut().zip(["0", "1", "R", "2"]) {
        world.sql_on(
            session,
            &format!("BEGIN; INSERT INTO outbox (type, payload) VALUES ('t', '{text}')"),
        );
    }
    for (index, end, delivered) in [
        (3, "COMMIT", 1),
        (2, "ROLLBACK", 1),
        (1, "COMMIT", 2),
        (0, "COMMIT", 3),
    ] {
        world.sql_on(&mut sessions[index], end);
        consumer.await_records(delivered);
    }
    world.await_empty();
    let texts: Vec<_> = consumer.drain().iter().map(Received::text).collect();
    assert_eq!(texts, ["2", "1", "0"]);
    assert_eq!(relay.count_log("the sweep found rows"), 0);
}

#[test]
fn eight_thousand_rows_of_twenty_writers_arrive_once_each() {
    let (mut world, _relay, mut consumer) = stage("writers");
    thread::scope(|scope| {
        for writer in 0..20 {
            let url = world.database_url.clone();
            let sql = format!(
                "BEGIN; INSERT INTO outbox (type, key, payload) SELECT 't', '{writer}', n::text FROM generate_series(1, 20) n; COMMIT"
            );
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let mut session = PgConnection::connect(&url).await.expect("a session");
                    for _ in 0..20 {
                        let insert = sqlx::raw_sql(AssertSqlSafe(sql.clone()));
                        session.execute(insert).await.expect("an insert");
                    }
                });
            });
        }
    });
    consumer.await_records(8_000);
    world.await_empty();
    let received = consumer.drain();
    let seqs: BTreeSet<_> = received.iter().map(Received::seq).collect();
    let ids: BTreeSet<_> = received.iter().map(|r| r.header("id").to_owned()).collect();
    assert_eq!(
        (received.len(), seqs.len(), ids.len()),
        (8_000, 8_000, 8_000)
    );
}

#[test]
fn one_key_keeps_its_order_over_batches_and_a_restart() {
    let (mut world, relay, mut consumer) = stage("order");
    let insert = "INSERT INTO outbox (type, key, payload) SELECT 't', 'k', n::text FROM generate_series(1, 10000) n";
    world.sql(insert);
    assert!(relay.stop().success());
    world.sql(insert);
    let _relay = Relay::leading(&world, &[]);
    world.sql(insert);
    consumer.await_records(30_000);
    world.await_empty();
    let seqs: Vec<_> = consumer.drain().iter().map(Received::seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "in order, and none twice");
    assert_eq!(seqs.len(), 30_000);
}

#[test]
fn a_lone_row_leaves_in_milliseconds_though_the_sweep_is_an_hour_away() {
    let (mut world, _relay, mut consumer) = stage("pushed");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'first')");
    consumer.await_records(1);
    let mut times: Vec<Duration> = (2..=21)
        .map(|count| {
            world.await_empty();
            world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
            let committed = Instant::now();
            consumer.await_records(count);
            committed.elapsed()
        })
        .collect();
    times.sort();
    // A median, because a busy machine delays some of them.
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
}

#[test]
fn statements_that_insert_nothing_send_nothing_and_the_relay_goes_on() {
    let (mut world, _relay, mut consumer) = stage("zero");
    world.sql("INSERT INTO outbox (type) SELECT 't' WHERE false");
    world.sql("INSERT INTO outbox (id, type, payload) VALUES (50, 't', 'once')");
    consumer.await_records(1);
    world.sql("BEGIN; INSERT INTO outbox (id, type, payload) VALUES (60, 't', 'twice'); INSERT INTO outbox (id, type) VALUES (60, 't') ON CONFLICT DO NOTHING; COMMIT");
    consumer.await_records(2);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 2);
}

#[test]
fn a_copy_of_a_hundred_thousand_rows_rings_once() {
    let (mut world, _relay, mut consumer) = stage("copy");
    let channel = format!(
        "doorbell:{}",
        world.number("SELECT 'outbox'::regclass::oid::bigint")
    );
    let url = world.database_url.clone();
    let mut listener = world.block_on(async {
        let mut listener = PgListener::connect(&url).await.expect("a session");
        listener.listen(&channel).await.expect("a channel");
        listener
    });
    let rows: String = (0..100_000).map(|n| format!("t\t{n}\n")).collect();
    let mut session = world.connect();
    world.block_on(async {
        let copy = "COPY outbox (type, payload) FROM STDIN";
        let mut copy = session.copy_in_raw(copy).await.expect("a copy");
        copy.send(rows.as_bytes()).await.expect("the rows");
        copy.finish().await.expect("an end");
    });
    consumer.await_records(100_000);
    world.await_empty();
    // The test's own notification ends the list: earlier ones came from the COPY.
    world.sql(&format!("SELECT pg_notify('{channel}', 'end')"));
    let rings = world.block_on(async move {
        let mut rings = 0;
        while listener.recv().await.expect("a ring").payload().is_empty() {
            rings += 1;
        }
        rings
    });
    assert_eq!(rings, 1);
}

/// The memory bound that the documentation promises for the default settings.
const MEMORY_BOUND_MIB: u64 = 150;

#[test]
fn a_million_rows_of_one_statement_are_drained_in_bounded_memory() {
    let (mut world, relay, mut consumer) = stage("million");
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 1000, rpad('{\"n\": ' || n, 199, ' ') || '}' FROM generate_series(1, 1000000) n",
    );
    consumer.await_records(1_000_000);
    world.await_empty();
    assert!(
        relay.peak_memory() < MEMORY_BOUND_MIB,
        "{} MiB",
        relay.peak_memory()
    );
    let mut seen = vec![false; 1_000_001];
    for record in consumer.drain() {
        let seq = usize::try_from(record.seq()).expect("a positive id");
        assert!(!std::mem::replace(&mut seen[seq], true), "{seq} twice");
    }
    assert_eq!(seen.iter().filter(|seen| **seen).count(), 1_000_000);
}

#[test]
fn large_rows_among_small_ones_are_drained_in_bounded_memory() {
    let world = World::new("large");
    create_topic(&world, &world.topic, 6, &[("max.message.bytes", "8000000")]);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("doorbell.toml");
    let route = world.topic.replace("outbox", "{table}");
    std::fs::write(
        &config,
        format!("[kafka.properties]\n\"message.max.bytes\" = \"8000000\"\n[[outbox]]\nsweep = \"1h\"\ntopic = \"{route}\"\n"),
    )
    .expect("a file");
    let mut world = world;
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 1000, CASE WHEN n % 500 = 0 THEN repeat(md5(n::text), 156250) ELSE rpad(n::text, 200, ' ') END \
         FROM generate_series(1, 100000) n",
    );
    let relay = Relay::leading(&world, &["--config", config.to_str().expect("a path")]);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(100_000);
    world.await_empty();
    assert!(
        relay.peak_memory() < MEMORY_BOUND_MIB,
        "{} MiB",
        relay.peak_memory()
    );
    let large = consumer
        .drain()
        .iter()
        .filter(|r| r.payload.as_ref().is_some_and(|p| p.len() == 5_000_000))
        .count();
    assert_eq!((large, consumer.received.len()), (200, 100_000));
}
