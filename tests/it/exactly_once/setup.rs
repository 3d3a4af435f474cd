//! What the tests of this mode share: flags, relays, and the check that each row was seen once.

use std::collections::HashMap;

use crate::support::{Consumer, Load, Relay, World, create_topic};

const ONCE: &[&str] = &["--delivery", "exactly-once"];
/// Makes deletes fail from now on, so that every row that is sent stays in the table.
pub(crate) const NO_DELETE: &str = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
    CREATE TRIGGER no BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION no()";

/// Returns the topic of the world's receipts: tests share a broker, and their tables have the same
/// name.
pub(crate) fn receipts(world: &World) -> String {
    world.topic.replace("outbox", "receipts")
}

pub(crate) fn flags<'a>(topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [ONCE, &["--receipts", topic], more].concat()
}

/// Creates a world with its topic.
pub(crate) fn prepared(test: &str) -> World {
    let world = World::new(test);
    create_topic(&world, &world.topic, 3, &[]);
    world.will_delete(&receipts(&world));
    world
}

pub(crate) fn leading(world: &World, more: &[&str]) -> Relay {
    Relay::leading(world, &flags(&receipts(world), more))
}

pub(crate) fn spawn(world: &World, more: &[&str]) -> Relay {
    Relay::spawn(world, &flags(&receipts(world), more))
}

/// Checks that a consumer of committed records sees nothing lost, no duplicates, and each key in
/// order.
#[track_caller]
pub(crate) fn check(world: &mut World, load: Load) -> usize {
    let written = load.stop();
    world.await_empty();
    let mut consumer = Consumer::committed(world, &world.topic);
    let duplicates = written.check(consumer.drain());
    assert_eq!(duplicates, 0, "duplicates of {} rows", written.rows());
    written.rows()
}

pub(crate) fn insert(world: &mut World, rows: usize) {
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload) SELECT 'x', (g % 7)::text, g::text FROM generate_series(1, {rows}) g"
    ));
}

/// Counts how often a consumer of committed records sees each payload.
pub(crate) fn seen(world: &World) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for record in Consumer::committed(world, &world.topic).drain() {
        *seen.entry(record.text().to_owned()).or_default() += 1;
    }
    seen
}
