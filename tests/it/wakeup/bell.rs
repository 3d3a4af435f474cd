//! The bell: writers ring a relay that sleeps, and are silent while it is awake. The sweep is an
//! hour away.

use crate::support::{Consumer, Relay, World, create_topic};

const NO_SWEEP: &[&str] = &["--sweep", "1h"];

#[test]
fn a_row_wakes_a_sleeping_relay_which_sleeps_again() {
    let mut world = World::new("bell");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, NO_SWEEP);
    for round in 0..20 {
        world.await_asleep();
        world.sql(&format!(
            "INSERT INTO outbox (type, payload) VALUES ('x', '{round}')"
        ));
        world.await_empty();
    }
    world.await_asleep();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 20);
}

#[test]
fn a_silent_writer_that_stays_open_keeps_the_relay_from_sleeping_and_its_row_leaves_at_its_commit()
{
    let mut world = World::new("silent");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, NO_SWEEP);
    world.await_asleep();
    // A writer that holds the wake lock shared is silent: the relay has to be awake, and cannot
    // sleep before that transaction ends.
    let mut long = world.connect();
    let mut rings = world.connect();
    world.sql_on(
        &mut rings,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', '1')",
    );
    // The first writer does not wait: its commit wakes the relay while the other is silent or
    // rings.
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '2')");
    world.await_number("SELECT count(*) FROM outbox", 0);
    world.sql_on(
        &mut long,
        "BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', '3')",
    );
    world.sql_on(&mut rings, "COMMIT");
    world.await_empty();
    world.sql_on(&mut long, "COMMIT");
    world.await_empty();
    world.await_asleep();
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 3);
}

#[test]
fn the_earlier_trigger_is_replaced_while_a_relay_runs() {
    let mut world = World::new("upgrade");
    create_topic(&world, &world.topic, 1, &[]);
    // The trigger function of the version before, which always rings.
    world.sql(
        "CREATE OR REPLACE FUNCTION doorbell.ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_catalog.pg_notify('doorbell:' || TG_RELID::text, ''); RETURN NULL; END $$",
    );
    let _relay = Relay::leading(&world, NO_SWEEP);
    let mut sent = 0;
    let mut send = |world: &mut World| {
        for _ in 0..5 {
            world.await_asleep();
            world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '1')");
            world.await_empty();
            sent += 1;
        }
    };
    send(&mut world);
    world.migrate(&[]);
    let is_new = "SELECT count(*) FROM pg_proc WHERE proname = 'ring' AND prosrc LIKE '%pg_try_advisory_xact_lock_shared%'";
    assert_eq!(world.number(is_new), 1);
    send(&mut world);
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), sent);
}

#[test]
fn the_trigger_is_not_replaced_under_a_relay_that_does_not_know_it() {
    let world = World::new("olderrelay");
    let mut older = world.connect();
    world.sql_on(&mut older, "SET application_name = 'doorbell 0.1.0 bell 7'");
    let output = world.doorbell(&["migrate"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Upgrade the relay first"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    world.sql_on(&mut older, "SET application_name = 'psql'");
    world.migrate(&[]);
}
