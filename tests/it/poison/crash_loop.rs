//! A row that crashes the process is found by the processes that follow.

use std::collections::BTreeSet;

use crate::support::{Consumer, Relay, World, create_topic};

const CAREFUL: &str = "sending a few rows at a time";
const ENDS_IT: &str = "this row crashes the relay";

/// The recorded number of starts of the relay that made no progress.
const STARTS: &str = "SELECT starts::bigint FROM doorbell.starts";

#[test]
fn a_row_that_ends_the_process_is_found_by_its_restarts_and_parked() {
    let mut world = World::new("crash");
    create_topic(&world, &world.topic, 6, &[]);
    // A row of a quarter of it is read.
    let flags = ["--in-flight-bytes", "2GiB"];
    let relay = Relay::leading(&world, &flags);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'before')");
    world.await_empty();
    // Enough for all that is needed, and less than the row.
    let limit = relay.kib("VmPeak:") + (256 << 10);
    assert!(relay.stop().success());
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 7, n::text FROM generate_series(1, 150) n; \
         INSERT INTO outbox (type, payload) SELECT 't', repeat('x', 300000000); \
         INSERT INTO outbox (type, key, payload) SELECT 't', 'k' || n % 7, n::text FROM generate_series(151, 400) n",
    );
    let mut starts = 0;
    let relay = loop {
        starts += 1;
        assert!(starts <= 20, "it is not found");
        let mut relay = Relay::spawn_within(&world, &flags, limit);
        let ended = relay.ends_or_says("crash-loop search finished");
        if !ended {
            break relay;
        }
        assert_eq!(relay.count_log(ENDS_IT), 0);
    };
    world.await_empty();
    relay.await_log(ENDS_IT);
    relay.assert_logged(CAREFUL, 1);
    let dead = "SELECT count(*) FROM doorbell.dead WHERE code = 'Crash' AND payload_size = 300000000 AND reason LIKE 'the process ended 2 times%'";
    assert_eq!(world.number(dead), 1);
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead"),
        1,
        "it alone"
    );
    assert_eq!(world.number(STARTS), 0);
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: BTreeSet<_> = consumer
        .drain()
        .iter()
        .map(|it| it.text().to_owned())
        .collect();
    assert_eq!(texts.len(), 401, "all the others");
    // Afterwards the relay is as fast as before: no probe batches are left.
    assert!(relay.stop().success());
    let relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'after')");
    world.await_empty();
    assert_eq!(relay.count_log(CAREFUL), 0);
    assert!(relay.stop().success());
}

#[test]
fn a_relay_that_is_killed_is_careful_at_most_and_convicts_nobody() {
    let mut world = World::new("killed");
    create_topic(&world, &world.topic, 1, &[]);
    // The row is not deleted, so that every start finds the same first row.
    let mut user = world.connect();
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 't', n::text FROM generate_series(1, 250) n",
    );
    world.sql_on(
        &mut user,
        "BEGIN; SELECT FROM outbox WHERE id = 1 FOR UPDATE",
    );
    for start in 1..=6 {
        let relay = Relay::leading(&world, &[]);
        world.await_number("SELECT count(*) FROM outbox", 1);
        // The start is recorded before anything is sent.
        relay.await_log("acknowledged rows are locked");
        if start % 3 == 0 {
            relay.await_log("crash-loop search finished");
        }
        relay.kill();
    }
    let relay = Relay::leading(&world, &[]);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
    assert_eq!(world.number(STARTS), 0);
}
