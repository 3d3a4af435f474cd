//! Writers in two phases: a notification and PREPARE TRANSACTION exclude each other. The sweep is
//! an hour away.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use crate::support::{Consumer, Relay, World, create_topic};

const SILENT: &str = "SET LOCAL doorbell.silent = on;";

/// Inserts a row in a transaction and prepares it under the database's name, since names belong to
/// the whole server.
fn prepare(world: &World, session: &mut PgConnection, setting: &str) -> Result<(), sqlx::Error> {
    let name = world.name();
    world.sql_on(
        session,
        &format!("BEGIN; {setting} INSERT INTO outbox (type, payload) VALUES ('x', 'prepared')"),
    );
    world.try_sql_on(session, &format!("PREPARE TRANSACTION '{name}'"))
}

fn commit(world: &World, session: &mut PgConnection) {
    world.sql_on(session, &format!("COMMIT PREPARED '{}'", world.name()));
}

#[test]
fn a_prepared_writer_that_rang_is_refused_by_postgres_and_one_that_is_silent_is_not() {
    let mut world = World::new("twophase");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    let mut writer = world.connect();
    world.await_asleep();
    let refused = prepare(&world, &mut writer, "").expect_err("the relay sleeps, so it rang");
    assert!(refused.to_string().contains("NOTIFY"), "{refused}");

    world.await_asleep();
    prepare(&world, &mut writer, SILENT).expect("it did not ring");
    commit(&world, &mut writer);
    // No writer rang. The next row does, and both are sent.
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    world.await_asleep();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'rings')");
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: Vec<_> = consumer
        .drain()
        .iter()
        .map(|it| it.text().to_owned())
        .collect();
    assert_eq!(texts, ["prepared", "rings"]);
    assert!(relay.stop().success());
}

#[test]
fn a_silent_prepared_row_is_delivered_by_the_sweep_where_nobody_rings() {
    let mut world = World::new("twophaseswept");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--sweep", "1s"]);
    let mut writer = world.connect();
    world.await_asleep();
    prepare(&world, &mut writer, SILENT).expect("it did not ring");
    commit(&world, &mut writer);
    world.await_empty();
    relay.await_log("the sweep found rows without a notification");
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 1);
}

#[test]
fn a_prepared_transaction_that_was_silent_keeps_the_relay_awake_until_it_ends() {
    let mut world = World::new("twophaseawake");
    create_topic(&world, &world.topic, 1, &[]);
    let mut writer = world.connect();
    // No relay sleeps yet, so the writer is silent without any setting.
    prepare(&world, &mut writer, "").expect("it did not ring");
    let _relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'other')");
    assert_eq!(consumer.await_records(1)[0].text(), "other");
    commit(&world, &mut writer);
    let committed = Instant::now();
    assert_eq!(consumer.await_records(2)[1].text(), "prepared");
    let took = committed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    world.await_empty();
    world.await_asleep();
}
