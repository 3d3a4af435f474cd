//! Tens of thousands of rows that a user holds locked: what is sent and not deleted is bounded, and
//! holds up no other.

use std::time::{Duration, Instant};

use super::setup::{insert, leading, prepared, receipts};
use crate::support::{Consumer, Relay, World, create_topic};

const LOCKED: &str = "acknowledged rows are locked by another session";

#[test]
fn more_locked_rows_than_receipts_name_wait_no_longer_than_their_locks() {
    const ROWS: usize = 52_000;
    let mut world = prepared("lockedmany");
    insert(&mut world, ROWS);
    let mut user = world.connect();
    world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
    let relay = leading(&world, &["--in-flight-rows", "100000"]);
    relay.await_log(LOCKED);
    // A receipt names 50,000 rows at most, and a fetch waits for a quarter of them.
    let mut consumer = Consumer::committed(&world, &world.topic);
    consumer.await_records(37_500);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(consumer.drain().len(), ROWS, "each once");
    assert!(relay.stop().success());
}

#[test]
#[ignore = "it takes a minute or more of both processors"]
fn tens_of_thousands_of_locked_rows_hold_up_no_other() {
    const ROWS: usize = 40_000;
    let mut world = World::new("lockedheap");
    create_topic(&world, &world.topic, 3, &[]);
    insert(&mut world, ROWS);
    let mut user = world.connect();
    world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
    let relay = Relay::leading(&world, &["--in-flight-rows", "80000"]);
    relay.await_log(LOCKED);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(ROWS);
    let mut times: Vec<_> = (1..=20)
        .map(|count| {
            world.sql("INSERT INTO outbox (type, payload) VALUES ('lone', 'lone')");
            let committed = Instant::now();
            consumer.await_records(ROWS + count);
            committed.elapsed()
        })
        .collect();
    times.sort();
    // A median, because a busy machine delays some of them.
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
    world.await_number("SELECT count(*) FROM outbox WHERE type = 'lone'", 0);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(consumer.drain().len(), ROWS + 20, "each once");
    assert!(relay.stop().success());
}

/// The bytes of all receipts so far.
fn receipt_bytes(world: &World) -> usize {
    let mut consumer = Consumer::committed(world, &receipts(world));
    let sizes = consumer.drain().iter();
    let sizes = sizes.map(|it| it.payload.as_ref().map_or(0, Vec::len));
    sizes.sum()
}

#[test]
#[ignore = "it takes a minute or more of both processors"]
fn receipts_beside_many_locked_rows_take_a_bounded_rate() {
    const LOCKED_ROWS: usize = 15_000;
    let mut world = prepared("lockedreceipts");
    insert(&mut world, LOCKED_ROWS);
    let mut user = world.connect();
    world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
    let relay = leading(&world, &[]);
    let mut consumer = Consumer::committed(&world, &world.topic);
    consumer.await_records(LOCKED_ROWS);
    relay.await_log(LOCKED);
    let (before, begun) = (receipt_bytes(&world), Instant::now());
    let mut rows = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        // Each goes with a receipt that names all those that are locked.
        world.sql("INSERT INTO outbox (type, payload) VALUES ('lone', 'lone')");
        rows += 1;
        consumer.await_records(LOCKED_ROWS + rows);
    }
    let took = begun.elapsed().as_secs_f64();
    let rate = (receipt_bytes(&world) - before) as f64 / took;
    assert!(rate < 1.5e6, "{rate} bytes a second for {rows} rows");
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert!(relay.stop().success());
}
