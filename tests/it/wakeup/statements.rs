//! What rows cost the database while they come one by one, and what is done before an end. The
//! sweep is an hour away.

use std::time::{Duration, Instant};

use crate::support::{Consumer, Meter, Relay, World, create_topic};

const INSERT: &str = "INSERT INTO outbox (type, payload) VALUES ('x', 'x')";

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
