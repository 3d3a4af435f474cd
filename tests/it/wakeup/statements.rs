//! What rows cost the database while they come one by one, and what is done before an end. The
//! sweep is an hour away.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use crate::support::{Consumer, Meter, Relay, World, create_topic};

const INSERT: &str = "INSERT INTO outbox (type, payload) VALUES ('x', 'x')";

#[test]
fn a_lone_row_costs_three_statements() {
    const ROWS: usize = 11;
    let mut world = World::new("three");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &[]);
    let mut costs: Vec<i64> = (0..ROWS)
        .map(|_| {
            meter.start_over(&mut world);
            let next = Instant::now() + Duration::from_millis(700);
            world.sql(INSERT);
            world.await_empty();
            world.await_asleep();
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            // Without those that ask each minute whether a session's server is there.
            meter.statements_like(&mut world, "FROM public.outbox|advisory")
        })
        .collect();
    // What the server forgot, it forgot at once.
    costs.retain(|cost| *cost > 0);
    costs.sort_unstable();
    // A fetch, the check of the ids below the cursor, a delete. A median, because a relay stays
    // awake for a while where commits are as slow as on a busy machine.
    let median = costs.get(costs.len() / 2).copied();
    let list = meter.list(&mut world);
    assert_eq!(median, Some(3), "{costs:?}\n{list}");
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn rows_that_come_often_are_deleted_together_in_either_delivery_mode() {
    const ROWS: i64 = 200;
    for (name, flags) in [
        ("together", &[][..]),
        ("togetheronce", &["--delivery", "exactly-once"]),
    ] {
        let mut world = World::new(name);
        create_topic(&world, &world.topic, 1, &[]);
        let meter = Meter::new(&mut world);
        let relay = meter.leading(&world, flags);
        world.sql(INSERT);
        world.await_empty();
        let delete = "DELETE FROM .*doorbell_run";
        meter.start_over(&mut world);
        let mut due = Instant::now();
        for _ in 0..ROWS {
            due += Duration::from_millis(10);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            world.sql(INSERT);
        }
        world.await_empty();
        let deletes = meter.statements_like(&mut world, delete);
        assert!(
            (1..=ROWS / 2).contains(&deletes),
            "{deletes}\n{}",
            meter.list(&mut world)
        );
        assert!(relay.stop().success());
        meter.remove(&mut world);
    }
}

#[test]
fn rows_that_wait_for_their_delete_are_gone_after_a_stop_a_pause_and_a_drain() {
    const ROWS: usize = 20;
    const LEFT: &str = "SELECT count(*) FROM outbox";
    let mut world = World::new("ends");
    create_topic(&world, &world.topic, 1, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    // The last row arrives less than a delete's wait after the first.
    let mut send = |world: &mut World| {
        for _ in 0..ROWS {
            world.sql(INSERT);
        }
        let count = consumer.received.len() + ROWS;
        consumer.await_records(count);
    };
    let relay = Relay::leading(&world, &[]);
    send(&mut world);
    assert!(relay.stop().success());
    assert_eq!(world.number(LEFT), 0, "after a stop");

    let relay = Relay::leading(&world, &[]);
    send(&mut world);
    assert!(world.doorbell(&["pause"]).status.success());
    relay.await_log("paused: no row is fetched");
    assert_eq!(world.number(LEFT), 0, "after a pause");
    assert!(world.doorbell(&["resume"]).status.success());
    assert!(relay.stop().success());

    world.sql("INSERT INTO outbox (type) SELECT 'x' FROM generate_series(1, 20)");
    let drain = ["drain", "--sweep", "1h", "--topic", &world.topic];
    assert!(world.doorbell(&drain).status.success());
    assert_eq!(world.number(LEFT), 0, "after a drain");
}

#[test]
fn rows_that_are_committed_while_a_ring_is_answered_arrive_without_the_sweep() {
    const ROUNDS: u64 = 24;
    const WRITERS: usize = 4;
    let mut world = World::new("answered");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut writers: Vec<PgConnection> = (0..WRITERS).map(|_| world.connect()).collect();
    let mut due = Instant::now();
    for round in 1..=ROUNDS {
        world.await_asleep();
        // Rings are rare again.
        due += Duration::from_millis(300);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let commits = writers.iter_mut().zip(0..).map(|(session, writer)| {
            // Up to 4 ms apart: before, during and after the answer to the first ring.
            let after = Duration::from_micros((round * 7 + writer * 11) % 40 * 100);
            async move {
                tokio::time::sleep(after).await;
                session.execute(INSERT).await.expect("a commit");
            }
        });
        world.block_on(join_all(commits));
        // A row that was forgotten would stay until another round.
        consumer.await_records(round as usize * WRITERS);
    }
    world.await_empty();
    assert_eq!(consumer.drain().len(), ROUNDS as usize * WRITERS);
}
