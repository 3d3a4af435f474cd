//! ALTER TABLE while rows flow: the relay continues.

use crate::exactly_once::{flags, receipts};
use crate::support::{Consumer, Load, Relay, World, create_topic};

/// A column without a default, one with a constant, one whose default rewrites the whole table; and
/// each dropped again.
const CHANGES: [&str; 6] = [
    "ADD COLUMN note text",
    "ADD COLUMN rank int NOT NULL DEFAULT 7",
    "ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    "DROP COLUMN note",
    "DROP COLUMN rank",
    "DROP COLUMN token",
];

fn alter_under_load(mut world: World, mode: &[&str], reader: fn(&World, &str) -> Consumer) {
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, mode);
    let load = Load::start(&world);
    for change in CHANGES {
        load.await_rows(200);
        world.sql(&format!("ALTER TABLE outbox {change}"));
    }
    load.await_rows(200);
    let written = load.stop();
    world.await_empty();
    let mut consumer = reader(&world, &world.topic);
    assert_eq!(written.check(consumer.drain()), 0, "duplicates");
    relay.assert_logged("leading", 1);
    assert!(relay.stop().success());
}

#[test]
fn columns_that_come_and_go_under_load_lose_and_double_nothing() {
    alter_under_load(World::new("altered"), &[], Consumer::new);
}

#[test]
fn columns_that_come_and_go_under_load_lose_and_double_nothing_exactly_once() {
    let world = World::new("oncealtered");
    let receipts = receipts(&world);
    world.will_delete(&receipts);
    alter_under_load(world, &flags(&receipts, &[]), Consumer::committed);
}
