//! Transactions that hang or are forgotten: what happens to consumers of committed records, and to
//! the rows.

use std::time::{Duration, Instant};

use crate::exactly_once::{
    NO_DELETE, check, flags, insert, leading, prepared, receipts, seen, spawn,
};
use crate::support::{
    Consumer, Instance, Load, Received, Relay, Transaction, World, create_topic, create_topic_on,
    eventually, last_words, leader_of, produce, refused,
};

/// The broker itself aborts a transaction after a minute.
const SOON: Duration = Duration::from_secs(40);
/// The brokers' own topic: its leader is the coordinator.
const TRANSACTIONS: &str = "__transaction_state";

#[test]
fn a_stop_whose_time_is_over_aborts_the_open_transaction() {
    let mut nodes = Instance::start("oncestop", &["kafka3"]);
    let mut world = World::on("oncestop", nodes.services());
    let receipts = receipts(&world);
    // The first client that asks for the coordinator's topic creates it.
    produce(&world, &receipts, &[], Some(true));
    let coordinator = leader_of(&world, TRANSACTIONS);
    let others: Vec<i32> = (1..=3).filter(|node| *node != coordinator).collect();
    let [near, far] = ["near", "far"].map(|name| format!("{}.{name}", world.topic));
    create_topic_on(&world, &near, others[0], &[]);
    create_topic_on(&world, &far, others[1], &[]);
    create_topic_on(
        &world,
        &receipts,
        coordinator,
        &[("cleanup.policy", "compact")],
    );
    let far_node = format!("kafka3-{}", others[1]);
    let insert = |world: &mut World| {
        world.sql(&format!(
            "INSERT INTO outbox (type, payload, topic) VALUES ('t', 'ours', '{near}'), ('t', 'ours', '{far}')"
        ));
    };
    let relay = Relay::leading(&world, &flags(&receipts, &["--stop-timeout", "1s"]));
    insert(&mut world);
    world.await_empty();
    let mut reader = Consumer::new(&world, &near);
    reader.await_records(1);
    nodes.kill(&far_node);
    insert(&mut world);
    // The broker has one of the two rows, and the transaction waits for the other.
    reader.await_records(2);
    let begun = Instant::now();
    assert_eq!(relay.stop().code(), Some(1));
    produce(&world, &near, &[Received::of("another's")], None);
    Consumer::committed(&world, &near).await_records(2);
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    // The rows are still there, and are sent once.
    nodes.bring_back(&far_node);
    let relay = Relay::leading(&world, &flags(&receipts, &[]));
    world.await_empty();
    for (topic, expected) in [
        (&near, &["ours", "another's", "ours"][..]),
        (&far, &["ours", "ours"]),
    ] {
        let mut consumer = Consumer::committed(&world, topic);
        let texts: Vec<_> = consumer.drain().iter().map(|it| it.text()).collect();
        assert_eq!(texts, expected, "{topic}");
    }
    assert!(relay.stop().success());
}

#[test]
fn rows_of_a_receipt_are_deleted_only_when_their_partitions_are_settled() {
    let mut world = prepared("oncestable");
    world.sql(NO_DELETE);
    let relay = leading(&world, &[]);
    insert(&mut world, 10);
    Consumer::committed(&world, &world.topic).await_records(10);
    relay.await_log("cannot be deleted");
    relay.kill();
    // From here on it is unknown which records of the partition are committed.
    let topic = world.topic.clone();
    let open = Transaction::begin(
        &world,
        &format!("{topic}.stranger"),
        &topic,
        &[Received::of("0")],
    );
    world.sql("DROP TRIGGER no ON outbox");
    let topic_of_receipts = receipts(&world);
    let run = ["run", "--start-timeout", "2s", "--topic", &topic];
    let all = [&run[..], &flags(&topic_of_receipts, &[])].concat();
    let words = format!("a transaction is open in topic {topic}, partition 0");
    refused(&last_words(world.doorbell(&all)), 1, &[&words]);
    let relay = spawn(&world, &[]);
    relay.await_log(&words);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 10);
    // What begins later does not count: otherwise there would always be another one.
    let later = Transaction::begin(
        &world,
        &format!("{topic}.later"),
        &topic,
        &[Received::of("0")],
    );
    open.abort();
    world.await_empty();
    later.abort();
    relay.assert_logged("deleted rows that an earlier relay had sent rows=10", 1);
    let counts = seen(&world);
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|times| *times == 1), "{counts:?}");
    assert!(relay.stop().success());
}

#[test]
fn a_coordinator_that_moves_doubles_nothing() {
    let mut nodes = Instance::start("oncemoves", &["kafka3"]);
    let mut world = World::on("oncemoves", nodes.services());
    create_topic(&world, &world.topic, 3, &[]);
    world.will_delete(&receipts(&world));
    let relay = leading(&world, &[]);
    let load = Load::start(&world);
    load.await_rows(200);
    let coordinator = leader_of(&world, TRANSACTIONS);
    let node = format!("kafka3-{coordinator}");
    nodes.kill(&node);
    let moved = || (leader_of(&world, TRANSACTIONS) != coordinator).then_some(());
    eventually("another node is the coordinator", moved);
    load.await_rows(200);
    check(&mut world, load);
    assert!(relay.stop().success());
    nodes.bring_back(&node);
}

#[test]
fn a_transactional_id_that_the_brokers_have_forgotten_is_taken_anew() {
    // Brokers forget it after a week.
    let kafka = Instance::kafka_with(
        "onceforgotten",
        "transactional.id.expiration.ms=1000\ntransaction.remove.expired.transaction.cleanup.interval.ms=200",
    );
    let mut world = World::on("onceforgotten", kafka.services());
    create_topic(&world, &world.topic, 3, &[]);
    let relay = leading(&world, &[]);
    let renewed = || relay.count_log("producer failed") > 0;
    let mut rows = 0;
    while !renewed() {
        assert!(rows < 20, "the id was never forgotten");
        std::thread::sleep(Duration::from_secs(2));
        insert(&mut world, 1);
        rows += 1;
        world.await_empty();
    }
    assert_eq!(seen(&world).values().sum::<usize>(), rows);
    assert_eq!(relay.count_log("fenced this one"), 0);
    assert!(relay.stop().success());
}
