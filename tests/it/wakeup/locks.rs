//! Locks of others: the relay's looks at them are a small share of the time. A relay that waits for
//! one leaves no session behind, and keeps no other session from it.

use std::time::{Duration, Instant};

use crate::support::{Instance, Meter, Relay, World, create_topic, eventually};

#[test]
fn looks_at_the_holders_of_gaps_take_a_small_share_of_the_time_among_thousands_of_locks() {
    let postgres = Instance::start("locks", &["postgres"]);
    let mut world = World::on("locks", postgres.services());
    create_topic(&world, &world.topic, 1, &[]);
    let meter = Meter::new(&mut world);
    let relay = meter.leading(&world, &[]);
    let (mut user, mut open) = (world.connect(), world.connect());
    world.sql_on(
        &mut user,
        "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 6000) n",
    );
    // It owns an id: there is a gap, and a holder to be examined.
    world.sql_on(&mut open, "BEGIN; INSERT INTO outbox (type) VALUES ('x')");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        world.sql("INSERT INTO outbox (type) VALUES ('x')");
    }
    let looked = world.number(
        "SELECT coalesce(sum(total_exec_time), 0)::bigint FROM pg_stat_statements WHERE query LIKE 'SELECT l.virtualtransaction%'",
    );
    let share = looked as f64 / begun.elapsed().as_millis() as f64;
    assert!(looked > 0, "it looked");
    assert!(share < 0.15, "{share}\n{}", meter.list(&mut world));
    world.sql_on(&mut open, "COMMIT");
    world.await_empty();
    assert!(relay.stop().success());
    meter.remove(&mut world);
}

#[test]
fn a_relay_that_ends_while_it_waits_for_a_lock_leaves_no_session_behind() {
    const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'doorbell %'";
    let mut world = World::new("leftwaiting");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    world.await_asleep();
    let mut other = world.connect();
    world.sql_on(
        &mut other,
        "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    world.sql("SELECT pg_notify('doorbell:' || 'outbox'::regclass::oid, '')");
    relay.await_log("another session holds the table locked");
    let sessions = world.number(SESSIONS);
    assert!((4..=5).contains(&sessions), "{sessions}");
    relay.kill();
    // The lock is held all the while.
    world.await_number(SESSIONS, 0);
    world.sql_on(&mut other, "COMMIT");
}

/// A session that locks the table against writers and then empties it asks for a stronger lock than
/// it has. A relay that waits for it and has a weak lock already would deadlock with it.
#[test]
fn a_relay_that_waits_for_the_table_holds_no_lock_on_it() {
    const LOCKS: &str = "SELECT l.mode || CASE WHEN l.granted THEN ' held' ELSE ' awaited' END FROM pg_locks l \
         WHERE l.relation = 'outbox'::regclass AND l.pid IN (SELECT w.pid FROM pg_locks w JOIN pg_stat_activity a USING (pid) \
         WHERE w.relation = l.relation AND NOT w.granted AND a.datname = current_database() AND a.application_name LIKE 'doorbell %')";
    let mut world = World::new("nolock");
    create_topic(&world, &world.topic, 1, &[]);
    let mut user = world.connect();
    let relay = Relay::leading(&world, &[]);
    // The first deletes find no row, so the later ones look before they delete. The last rows are
    // moved to the dead letters.
    for headers in ["NULL", "NULL", "'[1]'"] {
        world.sql_on(
            &mut user,
            &format!(
                "BEGIN; INSERT INTO outbox (type, headers) SELECT 'x', {headers} FROM generate_series(1, 5000); COMMIT; \
                 BEGIN; LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE"
            ),
        );
        let locks = eventually("a session of the relay that waits", || {
            Some(world.texts(LOCKS)).filter(|it| !it.is_empty())
        });
        assert_eq!(locks, ["RowExclusiveLock awaited"], "headers {headers}");
        world.sql_on(&mut user, "TRUNCATE outbox; COMMIT");
    }
    assert!(relay.stop().success());
}
