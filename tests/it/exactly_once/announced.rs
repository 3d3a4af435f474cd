//! A transaction that begins with the notification, before its rows are fetched.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::PgConnection;

use super::{insert, leading, prepared, receipts, seen};
use crate::support::{Consumer, Received, World, produce, within};

/// The time for the stop, and what an open transaction may take at the end.
const SOON: Duration = Duration::from_secs(10);

/// The brokers abort a transaction after a minute, and look for such transactions every ten
/// seconds.
const EXPIRED: Duration = Duration::from_secs(120);

/// Returns the first part of each committed key in the topic of the receipts.
fn kinds(world: &World) -> Vec<String> {
    let mut consumer = Consumer::committed(world, &receipts(world));
    let keys = consumer.drain().iter().map(|it| {
        let key = it.key.as_deref().expect("a key");
        std::str::from_utf8(key).expect("text")
    });
    keys.map(|key| key.split_once(':').map_or(key, |(kind, _)| kind))
        .map(str::to_owned)
        .collect()
}

/// A foreign record among the receipts.
fn stranger(world: &World) {
    let record = Received {
        key: Some("a stranger".into()),
        ..Received::of("its record")
    };
    produce(world, &receipts(world), &[record], Some(true));
}

/// The notification arrives, and the fetch that answers it waits for a lock. The transaction is
/// begun meanwhile.
fn begun_for_a_ring(world: &mut World) -> PgConnection {
    world.await_asleep();
    // The relay has made its last checks before it sleeps: they must not meet the lock.
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND (state = 'active' OR state_change > clock_timestamp() - interval '500 ms')",
        0,
    );
    let mut other = world.connect();
    world.sql_on(
        &mut other,
        "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    world.sql("SELECT pg_notify('doorbell:' || 'outbox'::regclass::oid, '')");
    Consumer::new(world, &receipts(world)).await_records(2);
    assert_eq!(kinds(world), ["barrier"]);
    other
}

#[test]
fn the_row_that_rang_goes_with_the_transaction_that_was_begun_for_it() {
    let mut world = prepared("onceannounced");
    let relay = leading(&world, &[]);
    let mut other = begun_for_a_ring(&mut world);
    let insert = "INSERT INTO outbox (type, payload) VALUES ('x', 'it'); COMMIT";
    world.sql_on(&mut other, insert);
    world.await_empty();
    assert_eq!(kinds(&world), ["barrier", "opener", "receipt"]);
    assert_eq!(seen(&world).values().sum::<usize>(), 1);
    assert!(relay.stop().success());
}

#[test]
fn a_ring_without_rows_leaves_no_transaction_open() {
    let mut world = prepared("onceforged");
    let relay = leading(&world, &[]);
    let mut other = begun_for_a_ring(&mut world);
    world.sql_on(&mut other, "COMMIT");
    // A consumer that reads committed records sees nothing of an open transaction.
    Consumer::committed(&world, &receipts(&world)).await_records(2);
    world.await_asleep();
    insert(&mut world, 20);
    world.await_empty();
    assert_eq!(seen(&world).values().sum::<usize>(), 20);
    assert!(relay.stop().success());
    // The next transaction finds the receipt behind all of it.
    let next = leading(&world, &[]);
    assert_eq!(
        next.count_log("deleted rows that an earlier relay had sent"),
        0
    );
    assert!(next.stop().success());
}

#[test]
fn a_transaction_whose_rows_are_long_in_coming_is_ended_without_them() {
    let mut world = prepared("onceawaited");
    let relay = leading(&world, &[]);
    let mut other = begun_for_a_ring(&mut world);
    let ended = || (kinds(&world) == ["barrier", "opener"]).then_some(());
    assert!(within(Duration::from_secs(30), ended).is_some());
    let insert = "INSERT INTO outbox (type, payload) VALUES ('x', 'late'); COMMIT";
    world.sql_on(&mut other, insert);
    world.await_empty();
    // The relay has seen slow fetches: it begins no transaction for the next one.
    world.await_asleep();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'next')");
    world.await_empty();
    let expected = ["barrier", "opener", "receipt", "receipt"];
    assert_eq!(kinds(&world), expected);
    assert_eq!(seen(&world).values().sum::<usize>(), 2);
    assert!(relay.stop().success());
}

#[test]
fn a_stop_ends_a_transaction_whose_rows_have_not_come() {
    let mut world = prepared("oncestopped");
    let mut relay = leading(&world, &["--stop-timeout", "1s"]);
    let other = begun_for_a_ring(&mut world);
    let begun = Instant::now();
    relay.signal(Signal::TERM);
    assert!(relay.wait().success());
    // PostgreSQL owes the relay an answer, which the relay does not wait for.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // An open transaction would hide a foreign record.
    stranger(&world);
    Consumer::committed(&world, &receipts(&world)).await_records(2);
    drop(other);
}

#[test]
fn a_transaction_that_expires_while_the_relay_is_frozen_loses_and_doubles_nothing() {
    let mut world = prepared("onceexpired");
    let relay = leading(&world, &[]);
    let mut other = begun_for_a_ring(&mut world);
    relay.freeze();
    let insert = "INSERT INTO outbox (type, payload) VALUES ('x', 'it'); COMMIT";
    world.sql_on(&mut other, insert);
    // A consumer that reads committed records gets past it once the brokers have aborted it.
    stranger(&world);
    let expired = || (kinds(&world) == ["barrier", "a stranger"]).then_some(());
    assert!(within(EXPIRED, expired).is_some());
    relay.thaw();
    world.await_empty();
    assert_eq!(seen(&world).values().sum::<usize>(), 1);
    // The cause is not another producer.
    assert_eq!(relay.count_log("fenced this one"), 0);
    assert!(relay.stop().success());
}
