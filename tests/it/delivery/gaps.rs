//! Rows that commit late.

use std::time::{Duration, Instant};

use crate::support::{Consumer, Relay, World, create_topic};

#[test]
fn a_late_commit_with_a_lower_id_leaves_at_once() {
    let mut world = World::new("late");
    create_topic(&world, &world.topic, 6, &[]);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut late = world.connect();
    for round in 0..20 {
        world.sql_on(
            &mut late,
            "BEGIN; INSERT INTO outbox (type, payload) VALUES ('late', 'late')",
        );
        world.sql("INSERT INTO outbox (type, payload) VALUES ('early', 'early')");
        consumer.await_records(round * 2 + 1);
        world.sql_on(&mut late, "COMMIT");
        let committed = Instant::now();
        let received = consumer.await_records(round * 2 + 2);
        let took = committed.elapsed();
        assert_eq!(received[round * 2 + 1].text(), "late");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    world.await_empty();
}

#[test]
fn a_late_commit_in_a_wide_gap_does_not_wait_for_the_end_of_a_backlog() {
    let mut world = World::new("busygap");
    create_topic(&world, &world.topic, 1, &[]);
    let mut late = world.connect();
    world.sql_on(
        &mut late,
        "BEGIN; INSERT INTO outbox (id, type, payload) VALUES (2, 't', 'late')",
    );
    // More gaps than are read one by one.
    world.sql("INSERT INTO outbox (id, type, payload) SELECT n * 2 + 1, 't', 'x' FROM generate_series(1, 250000) n");
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(1);
    world.sql_on(&mut late, "COMMIT");
    let left = world.number("SELECT count(*) FROM outbox");
    world.await_empty();
    let place = consumer.drain().iter().position(|it| it.seq() == 2);
    let last = 250_001 - left as usize / 2;
    assert!(place.is_some_and(|it| it < last), "{place:?} {left}");
}

#[test]
fn a_relay_begins_at_the_lowest_row_and_looks_below_it_by_and_by() {
    let mut world = World::new("lowest");
    create_topic(&world, &world.topic, 1, &[]);
    let lowest = "SELECT coalesce(max(lowest_row), 0) FROM doorbell.starts";
    let flags = ["--sweep", "1s"];
    let relay = Relay::leading(&world, &flags);
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 't', n::text FROM generate_series(1, 99) n",
    );
    world.await_number(lowest, 100);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(99);
    // An open transaction owns the id 100.
    let mut late = world.connect();
    let insert = "INSERT INTO outbox (type, payload) VALUES ('t', 'late')";
    world.sql_on(&mut late, &format!("BEGIN; {insert}"));
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'other')");
    consumer.await_records(100);
    assert!(relay.stop().success());
    world.sql_on(&mut late, "COMMIT");
    // More dead rows could lie here than can be passed in half a minute.
    world.sql(
        "UPDATE doorbell.starts SET lowest_row = 100000; \
         INSERT INTO outbox (id, type, payload) VALUES (7, 't', 'low'), (100000, 't', 'high')",
    );
    let relay = Relay::leading(&world, &flags);
    let seen = consumer.await_records(103)[100..].iter();
    let seen: Vec<_> = seen.map(|it| it.text()).collect();
    assert_eq!(seen, ["high", "low", "late"]);
    world.await_number(
        "SELECT count(*) FROM doorbell.starts WHERE lowest_row > 100",
        1,
    );
    assert!(relay.stop().success());
    // A schema of an earlier version.
    world.sql("ALTER TABLE doorbell.starts DROP COLUMN lowest_row; INSERT INTO outbox (id, type, payload) VALUES (3, 't', 'old')");
    let relay = Relay::leading(&world, &flags);
    consumer.await_records(104);
    world.await_empty();
    assert!(relay.stop().success());
}
