//! A leader that waits for Kafka shows activity in PostgreSQL: no standby takes it for frozen.

use crate::support::{Consumer, Instance, Proxy, Relay, World, create_topic};

/// The shortest timeout there is: a live leader shows activity twice within it.
const TIMEOUT: &[&str] = &["--leader-timeout", "2s"];
const FROZEN: &str = "leader unresponsive for leader_timeout";

/// A world with a proxy before Kafka, whose connections can be stalled.
fn world(test: &str) -> (World, Proxy, Instance) {
    let kafka = Instance::start(test, &["kafka"]);
    let world = World::on(test, kafka.services());
    create_topic(&world, &world.topic, 1, &[]);
    let proxy = Proxy::start(
        kafka.variable("KAFKA_PROXIES"),
        kafka.variable("KAFKA_PROXIED"),
    );
    (world, proxy, kafka)
}

/// Waits until the relay has held the leader's lock for four times the timeout, and has shown
/// activity at the end of that time.
fn await_long_lead(world: &mut World, relay: &Relay) {
    let lead = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.classid = 1685024626 AND l.granted \
         AND a.datname = current_database() AND a.application_name LIKE 'doorbell % leader {}'",
        relay.pid()
    );
    world.await_number(&lead, 1);
    world.sql("CREATE TABLE moment AS SELECT clock_timestamp() AS at");
    let since = "a.state_change > (SELECT at FROM moment) + interval '8 s'";
    world.await_number(&format!("{lead} AND {since}"), 1);
}

/// The relay that takes over waits for Kafka, which does not answer, and the other leaves it alone.
fn take_over_from_a_silent_kafka(test: &str, mode: &[&str]) {
    let (mut world, proxy, _kafka) = world(test);
    let address = proxy.address().to_string();
    let flags = [TIMEOUT, mode, &["--kafka-brokers", &address]].concat();
    let leader = Relay::leading(&world, &flags);
    let standby = || {
        let relay = Relay::spawn(&world, &flags);
        relay.await_log("standby");
        relay
    };
    // The lock's queue is first come, first served.
    let (next, last) = (standby(), standby());
    proxy.stall();
    leader.kill();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'waits')");
    await_long_lead(&mut world, &next);
    assert_eq!(last.count_log(FROZEN), 0, "{:#?}", last.log());
    proxy.pass();
    next.await_log("leading");
    world.await_empty();
    assert_eq!(last.count_log(FROZEN), 0, "{:#?}", last.log());
    assert_eq!(Consumer::committed(&world, &world.topic).drain().len(), 1);
    assert!(next.stop().success());
    last.await_log("leading");
    assert!(last.stop().success());
}

#[test]
fn a_new_leader_that_waits_for_kafka_is_not_taken_for_frozen() {
    take_over_from_a_silent_kafka("patience", &[]);
}

#[test]
fn a_new_leader_that_waits_for_the_transactions_of_kafka_is_not_taken_for_frozen() {
    let mode = ["--delivery", "exactly-once"];
    take_over_from_a_silent_kafka("patience_once", &mode);
}

#[test]
fn a_careful_leader_that_waits_for_kafka_is_not_taken_for_frozen() {
    let (mut world, proxy, _kafka) = world("patience_careful");
    let address = proxy.address().to_string();
    let flags = [TIMEOUT, &["--kafka-brokers", &address]].concat();
    world
        .sql("INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 3) n");
    // As if the process had been killed twice before it sent the first row.
    world.sql("INSERT INTO doorbell.starts (outbox, starts, first_row) SELECT name, 2, (SELECT min(id) FROM outbox) FROM doorbell.outbox");
    assert!(world.doorbell(&["pause"]).status.success());
    let leader = Relay::spawn(&world, &flags);
    leader.await_log("paused");
    let standby = Relay::spawn(&world, &flags);
    standby.await_log("standby");
    proxy.stall();
    assert!(world.doorbell(&["resume"]).status.success());
    leader.await_log("sending a few rows at a time");
    await_long_lead(&mut world, &leader);
    assert_eq!(standby.count_log(FROZEN), 0, "{:#?}", standby.log());
    proxy.pass();
    leader.await_log("crash-loop search finished");
    world.await_empty();
    assert_eq!(standby.count_log(FROZEN), 0, "{:#?}", standby.log());
}
