//! What a backlog costs the database, counted in its own work and not by the clock: dead rows that
//! cannot be removed, lost ids, and missing statistics.

use std::time::{Duration, Instant};

use crate::support::{Consumer, Meter, Relay, World, create_topic};

/// Rows of one round.
const ROUND: usize = 10_000;
/// The sizes of batches differ from round to round, and with them the blocks that are read for a
/// row. A scan over dead rows costs many times more.
const SPREAD: f64 = 2.0;
/// Blocks that the examination of gaps may add to a row: a thousand lookups of three blocks each
/// with a fetch, and eight fetches in a round.
const LOOKS: f64 = 8.0 * 1_000.0 * 3.0 / ROUND as f64;

/// Sends rows through the relay, and returns the blocks that were read for each of them.
fn round(world: &mut World, meter: &Meter, consumer: &mut Consumer) -> f64 {
    let before = meter.blocks(world);
    let arrived = consumer.received.len();
    world.sql(&format!(
        "INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, {ROUND})"
    ));
    consumer.await_records(arrived + ROUND);
    world.await_number("SELECT count(*) FROM outbox WHERE payload = 'x'", 0);
    (meter.blocks(world) - before) as f64 / ROUND as f64
}

#[test]
fn a_snapshot_that_is_held_for_long_makes_no_row_dearer() {
    const ROUNDS: usize = 8;
    let mut world = World::new("snapshot");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    // Batches grow to their size.
    round(&mut world, &meter, &mut consumer);
    let mut idle = world.connect();
    world.sql_on(
        &mut idle,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM outbox",
    );
    let costs: Vec<_> = (0..ROUNDS)
        .map(|_| round(&mut world, &meter, &mut consumer))
        .collect();
    // Every row of these rounds is still in the table, dead.
    world.sql("CREATE EXTENSION pgstattuple");
    let dead = world.number("SELECT dead_tuple_count FROM pgstattuple('outbox')");
    let all = i64::try_from(ROUNDS * ROUND).expect("a count");
    assert!(dead >= all, "{dead} dead rows");
    assert!(costs[ROUNDS - 1] < costs[0] * SPREAD, "{costs:?}");
    world.sql_on(&mut idle, "COMMIT");
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn a_hundred_thousand_lost_ids_make_no_row_dearer_and_hide_no_late_one() {
    let mut world = World::new("lost");
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    round(&mut world, &meter, &mut consumer);
    let before = round(&mut world, &meter, &mut consumer);
    let mut late = world.connect();
    world.sql_on(
        &mut late,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', 'late')",
    );
    // Fifty lost ids, a row, fifty lost ids, a row: two thousand gaps, and each may still be filled
    // as long as the late one is open.
    let rollbacks = "DO $$ BEGIN FOR n IN 1..500 LOOP \
        BEGIN INSERT INTO outbox (type, payload) SELECT 'x', 'never' FROM generate_series(1, 50); RAISE 'no'; \
        EXCEPTION WHEN raise_exception THEN NULL; END; \
        INSERT INTO outbox (type, payload) VALUES ('x', 'flows'); END LOOP; END $$";
    for _ in 0..4 {
        world.sql(rollbacks);
    }
    consumer.await_records(2 * ROUND + 2_000);
    let during = round(&mut world, &meter, &mut consumer);
    world.sql_on(&mut late, "COMMIT");
    let committed = Instant::now();
    let count = consumer.received.len() + 1;
    assert_eq!(consumer.await_records(count)[count - 1].text(), "late");
    let took = committed.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.await_empty();
    let after = round(&mut world, &meter, &mut consumer);
    assert!(after < before * SPREAD, "{before} {during} {after}");
    // While they are open, a fetch examines at most a thousand gaps. A scan over what was lost
    // would read a block for every lost row, again and again.
    assert!(during < before + LOOKS, "{before} {during} {after}");
    assert!(consumer.received.iter().all(|it| it.text() != "never"));
    assert!(relay.peak_memory() < 100, "{} MiB", relay.peak_memory());
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn statistics_that_say_empty_lead_to_no_sequential_scan_of_a_sudden_backlog() {
    const ROWS: usize = 500_000;
    let mut world = World::new("statistics");
    create_topic(&world, &world.topic, 6, &[]);
    world.sql("ANALYZE outbox");
    world.sql(&format!(
        "INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, {ROWS})"
    ));
    assert_eq!(
        world.number("SELECT reltuples::bigint FROM pg_class WHERE oid = 'outbox'::regclass"),
        0,
        "it was not analysed meanwhile"
    );
    let scans = |world: &mut World, kind: &str| {
        world.sql("SELECT pg_stat_clear_snapshot()");
        world.number(&format!(
            "SELECT coalesce({kind}, 0)::bigint FROM pg_stat_user_tables WHERE relname = 'outbox'"
        ))
    };
    let before = scans(&mut world, "seq_scan");
    let relay = Relay::leading(&world, &[]);
    Consumer::new(&world, &world.topic).await_records(ROWS);
    // A session reports its statistics when it ends.
    assert!(relay.stop().success());
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell %'",
        0,
    );
    assert!(
        scans(&mut world, "idx_scan") > 0,
        "the relay's scans are counted"
    );
    assert_eq!(scans(&mut world, "seq_scan"), before);
    world.await_empty();
}
