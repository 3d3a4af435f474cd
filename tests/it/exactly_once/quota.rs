//! Brokers that throttle the producer.

use std::process::Command;
use std::time::Duration;

use super::{leading, seen};
use crate::support::{Instance, World, create_topic, within};

/// Limits all producers of a Kafka to so many bytes a second, by Kafka's own command.
fn limit(kafka: &Instance, bytes: u32) {
    let line = std::fs::read(format!("/proc/{}/cmdline", kafka.variable("KAFKA_PID")));
    let line = String::from_utf8(line.expect("its command line")).expect("text");
    let mut words = line.split('\0');
    let java = words.next().expect("Java").to_owned();
    let libraries = words.skip_while(|it| *it != "-cp").nth(1);
    let limit = format!("producer_byte_rate={bytes}");
    let brokers = kafka.services().kafka_brokers;
    let output = Command::new(java)
        .args(["-cp", libraries.expect("its libraries")])
        .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &brokers])
        .args(["--alter", "--add-config", &limit])
        .args(["--entity-type", "clients", "--entity-default"])
        .output();
    let output = output.expect("Java");
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "it takes minutes: a transaction is given up after 40 s"]
fn a_producer_that_is_throttled_goes_on_in_smaller_transactions() {
    const ROWS: usize = 10_000;
    let kafka = Instance::start("quota", &["kafka"]);
    let mut world = World::on("quota", kafka.services());
    create_topic(&world, &world.topic, 3, &[]);
    limit(&kafka, 300_000);
    let relay = leading(&world, &[]);
    // 2 kB a row, which no compression makes smaller: the rows of 70 s.
    world.sql(&format!(
        "INSERT INTO outbox (type, payload) SELECT 't', (SELECT string_agg(md5(n::text || i::text || random()::text), '') \
         FROM generate_series(1, 64) i) FROM generate_series(1, {ROWS}) n"
    ));
    let is_empty = || (world.number("SELECT count(*) FROM outbox") == 0).then_some(());
    within(Duration::from_secs(400), is_empty).expect("every row was sent and deleted");
    relay.await_log("raise the producer's quota, if the brokers throttle it");
    let given_up = relay.count_log("a transaction was open for 40 s");
    assert!(given_up <= 2, "{given_up} transactions were given up");
    let seen = seen(&world);
    assert!(seen.len() == ROWS && seen.values().all(|times| *times == 1));
    assert!(relay.stop().success());
}
