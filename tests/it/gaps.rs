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
