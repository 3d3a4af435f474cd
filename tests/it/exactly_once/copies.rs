//! A copy of the database, and receipts that an earlier version wrote.

use super::protocol::{accept, start};
use super::{NO_DELETE, flags, insert, leading, prepared, receipts, seen};
use crate::support::{
    Consumer, Received, Relay, World, create_topic, last_words, produce, refused,
};

/// Makes a world a copy of another database: the same identity of the outbox, and its position.
fn copied(from: &mut World, test: &str) -> World {
    let mut copy = World::new(test);
    let id = from.texts("SELECT id::text FROM doorbell.outbox").remove(0);
    let insert = from
        .texts("SELECT format('INSERT INTO doorbell.receipt VALUES (%L, %s, %s)', outbox, receipt, deletes) FROM doorbell.receipt")
        .remove(0);
    copy.sql(&format!("UPDATE doorbell.outbox SET id = '{id}'; {insert}"));
    create_topic(&copy, &copy.topic, 1, &[]);
    copy
}

#[test]
fn a_copy_with_another_transactional_id_leaves_the_receipts_of_the_original_alone() {
    let mut world = prepared("onceoriginal");
    let topic = receipts(&world);
    let relay = leading(&world, &[]);
    insert(&mut world, 10);
    world.await_empty();
    let mut copy = copied(&mut world, "oncecopy");
    let id = copy.topic.clone();
    let flags = flags(&topic, &["--transactional-id", &id]);
    let route = copy.topic.replace("outbox", "{table}");
    let all = [
        &["run", "--topic", &route, "--start-timeout", "20s"][..],
        &flags,
    ]
    .concat();
    // It has no receipts of its own: an operator decides what becomes of the rows that both have.
    let words = [
        "the receipts are behind their database",
        "copy of another database",
    ];
    refused(&last_words(copy.doorbell(&all)), 1, &words);
    accept(&copy);
    let theirs = Relay::leading(&copy, &flags);
    insert(&mut copy, 30);
    copy.await_empty();
    assert_eq!(relay.count_log("fenced this one"), 0);
    for round in 1..=2 {
        insert(&mut world, 10);
        world.await_empty();
        assert_eq!(seen(&world).values().sum::<usize>(), 10 + round * 10);
        assert_eq!(relay.count_log("leading"), 1);
    }
    assert!(relay.stop().success());
    assert!(theirs.stop().success());
    // Each goes on from receipts of its own.
    let relay = leading(&world, &[]);
    let theirs = Relay::leading(&copy, &flags);
    insert(&mut world, 5);
    insert(&mut copy, 5);
    world.await_empty();
    copy.await_empty();
    assert_eq!(seen(&world).values().sum::<usize>(), 35);
    assert_eq!(seen(&copy).values().sum::<usize>(), 35);
    assert!(relay.stop().success());
    assert!(theirs.stop().success());
}

#[test]
fn a_refused_copy_with_the_same_transactional_id_fences_no_relay() {
    let mut world = prepared("oncefirst");
    let relay = leading(&world, &[]);
    insert(&mut world, 10);
    world.await_empty();
    let copy = copied(&mut world, "oncesecond");
    insert(&mut world, 10);
    world.await_empty();
    insert(&mut world, 10);
    world.await_empty();
    for _ in 0..2 {
        let words = [
            "the database is behind its receipts",
            "is a copy of another",
        ];
        refused(&start(&copy, &receipts(&world)), 1, &words);
    }
    insert(&mut world, 10);
    world.await_empty();
    assert_eq!(relay.count_log("fenced this one"), 0);
    assert_eq!(seen(&world).values().sum::<usize>(), 40);
    assert!(relay.stop().success());
}

#[test]
fn receipts_of_an_earlier_version_are_read_after_an_upgrade() {
    let mut world = prepared("onceupgrade");
    world.sql(NO_DELETE);
    let relay = leading(&world, &[]);
    insert(&mut world, 20);
    Consumer::committed(&world, &world.topic).await_records(20);
    relay.await_log("cannot be deleted");
    relay.kill();
    world.sql("DROP TRIGGER no ON outbox");
    // The same receipts in a topic where they have the key of an earlier version.
    let earlier = world.topic.replace("outbox", "earlier");
    create_topic(&world, &earlier, 1, &[("cleanup.policy", "compact")]);
    let id = world
        .texts("SELECT id::text FROM doorbell.outbox")
        .remove(0);
    let all = Consumer::committed(&world, &receipts(&world))
        .drain()
        .to_vec();
    let written: Vec<Received> = all
        .into_iter()
        .filter(|it| {
            it.key
                .as_deref()
                .unwrap_or_default()
                .starts_with(b"receipt:")
        })
        .map(|it| Received {
            key: Some(id.clone().into()),
            ..it
        })
        .collect();
    assert!(!written.is_empty());
    produce(&world, &earlier, &written, Some(true));
    let relay = Relay::leading(&world, &flags(&earlier, &[]));
    world.await_empty();
    relay.await_log("deleted rows that an earlier relay had sent rows=20");
    insert(&mut world, 20);
    world.await_empty();
    assert!(relay.stop().success());
    // From now on the present key counts.
    let relay = Relay::leading(&world, &flags(&earlier, &[]));
    assert_eq!(seen(&world).values().sum::<usize>(), 40);
    assert!(relay.stop().success());
}
