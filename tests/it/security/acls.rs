//! Brokers with ACLs: the relay reports what is denied, rows wait or are parked, and nothing else
//! happens.

use std::path::Path;

use crate::exactly_once::receipts;
use crate::support::{
    Checkup, Consumer, Guarded, On, Relay, Right, World, create_topic, eventually, last_words,
    refused,
};

const RECEIPT_RIGHTS: [Right; 3] = [Right::Read, Right::Write, Right::DescribeConfigs];

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A world whose user may write to the topic of the route, and to no other.
fn world(test: &str, guarded: &Guarded) -> World {
    let world = World::on(test, guarded.services());
    create_topic(&world, &world.topic, 1, &[]);
    guarded.grant(
        On::Topic(&world.topic),
        &[Right::Write, Right::DescribeConfigs],
    );
    world
}

/// The lines for an outbox of the world with the delivery mode exactly-once.
fn once(world: &World) -> String {
    format!(
        "topic = '{0}'\ndelivery = 'exactly-once'\ntransactional_id = '{0}'\nreceipts = '{1}'\n",
        world.topic,
        receipts(world)
    )
}

/// A compacted topic for receipts, as a user with the privilege would create it.
fn make_receipts(world: &World) {
    let compact = [("cleanup.policy", "compact")];
    create_topic(world, &receipts(world), 1, &compact);
}

/// Rows for a topic that the user may write to, one that it may not even describe, and one that it
/// may describe.
fn parked(test: &str, is_once: bool) {
    let guarded = Guarded::shared();
    let mut world = world(test, &guarded);
    let [hidden, seen] = ["hidden", "seen"].map(|name| format!("{}.{name}", world.topic));
    create_topic(&world, &hidden, 1, &[]);
    create_topic(&world, &seen, 1, &[]);
    guarded.grant(On::Topic(&seen), &[Right::Describe]);
    let (outbox, reader): (String, fn(&World, &str) -> Consumer) = if is_once {
        make_receipts(&world);
        guarded.grant(On::Topic(&receipts(&world)), &RECEIPT_RIGHTS);
        guarded.grant(On::TransactionalId(&world.topic), &[Right::Write]);
        (once(&world), Consumer::committed)
    } else {
        (format!("topic = '{}'\n", world.topic), Consumer::new)
    };
    let config = guarded.config(test, &outbox);
    let flags = [
        "--config",
        shown(&config),
        "--kafka-brokers",
        &guarded.login(),
    ];
    let relay = Relay::leading(&world, &flags);
    for round in 1..=2 {
        world.sql(&format!(
            "INSERT INTO outbox (type, key, payload, topic) VALUES ('t', 'k', '{round}a', NULL), ('t', 'k', 'hidden', '{hidden}'), \
             ('t', 'k', 'seen', '{seen}'), ('t', 'k', '{round}b', NULL)"
        ));
        world.await_empty();
    }
    let texts = |topic: &str| -> Vec<String> {
        let mut consumer = reader(&world, topic);
        let texts = consumer.drain().iter().map(|it| it.text().to_owned());
        texts.collect()
    };
    assert_eq!(texts(&world.topic), ["1a", "1b", "2a", "2b"]);
    for topic in [&hidden, &seen] {
        let dead = format!(
            "SELECT count(*) FROM doorbell.dead WHERE routed_to = '{topic}' AND code = 'TopicAuthorizationFailed' AND reason LIKE '%uthorization failed%'"
        );
        assert_eq!(world.number(&dead), 2, "{topic}");
    }
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 4);
    assert!(relay.stop().success());

    guarded.grant(On::Topic(&hidden), &[Right::Write]);
    guarded.grant(On::Topic(&seen), &[Right::Write]);
    let relay = Relay::leading(&world, &flags);
    assert!(world.doorbell(&["dead", "retry", "--all"]).status.success());
    world.await_empty();
    for (topic, text) in [(&hidden, "hidden"), (&seen, "seen")] {
        let mut consumer = reader(&world, topic);
        let texts: Vec<_> = consumer.drain().iter().map(|it| it.text()).collect();
        assert_eq!(texts, [text; 2]);
    }
    let left = world.doorbell(&["dead", "list", "--json"]).stdout;
    assert_eq!(String::from_utf8_lossy(&left).trim(), "[]");
    assert!(relay.stop().success());
}

#[test]
fn rows_for_a_forbidden_topic_are_parked_and_the_others_go() {
    parked("forbidden", false);
}

#[test]
fn rows_for_a_forbidden_topic_are_found_in_their_transaction_and_parked() {
    parked("forbiddenonce", true);
}

#[test]
fn a_forbidden_topic_holds_the_key_until_it_is_granted() {
    let guarded = Guarded::shared();
    let mut world = world("forbiddenhold", &guarded);
    let hidden = format!("{}.hidden", world.topic);
    create_topic(&world, &hidden, 1, &[]);
    let outbox = format!("topic = '{}'\npoison = 'hold-key'\n", world.topic);
    let config = guarded.config("forbiddenhold", &outbox);
    let flags = [
        "--config",
        shown(&config),
        "--kafka-brokers",
        &guarded.login(),
    ];
    let relay = Relay::leading(&world, &flags);
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic) VALUES ('t', 'k', 'first', '{hidden}'), ('t', 'k', 'second', NULL), ('t', 'l', 'free', NULL)"
    ));
    relay.await_log("it stays in the table and is tried again");
    world.await_number("SELECT count(*) FROM outbox", 2);
    guarded.grant(On::Topic(&hidden), &[Right::Write]);
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let texts: Vec<_> = consumer.drain().iter().map(|it| it.text()).collect();
    assert_eq!(texts, ["free", "second"]);
    assert_eq!(Consumer::new(&world, &hidden).drain()[0].text(), "first");
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
}

/// Checks that the relay ends at its start with one line that has these words, and has changed
/// nothing.
#[track_caller]
fn ends(world: &mut World, flags: &[&str], words: &[&str]) {
    let run = ["run", "--start-timeout", "30s"];
    let output = last_words(world.doorbell(&[&run[..], flags].concat()));
    refused(&output, 1, words);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.receipt"), 0);
}

/// Checks that a relay that has sent its first row loses an ACL, reports it, and continues when it
/// is granted again.
#[track_caller]
fn waits_without_the_right_to_write(
    world: &mut World,
    guarded: &Guarded,
    on: On<'_>,
    relay: &Relay,
    word: &str,
) {
    guarded.revoke(on, &[Right::Write]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '2')");
    relay.await_log(word);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
    guarded.grant(on, &[Right::Write]);
    world.await_empty();
    assert_eq!(count(world), 2);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
}

/// What is in the topic, for a consumer of committed records.
fn count(world: &World) -> usize {
    Consumer::committed(world, &world.topic).drain().len()
}

#[test]
fn transactions_that_are_forbidden_are_said_in_one_line_and_change_nothing() {
    let guarded = Guarded::shared();
    let mut world = world("forbiddenid", &guarded);
    make_receipts(&world);
    guarded.grant(On::Topic(&receipts(&world)), &RECEIPT_RIGHTS);
    let config = guarded.config("forbiddenid", &once(&world));
    let flags = [
        "--config",
        shown(&config),
        "--kafka-brokers",
        &guarded.login(),
    ];
    let id = world.topic.clone();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '1')");
    let words = [
        "does not allow transactions",
        &format!("on the transactional id {id}"),
    ];
    ends(&mut world, &flags, &words);
    // Describe is not enough.
    guarded.grant(On::TransactionalId(&id), &[Right::Describe]);
    ends(&mut world, &flags, &words);
    guarded.grant(On::TransactionalId(&id), &[Right::Write]);
    let relay = Relay::leading(&world, &flags);
    world.await_empty();

    // Revoked from a running relay: rows wait, and are sent when it is granted again.
    let right = On::TransactionalId(&id);
    waits_without_the_right_to_write(
        &mut world,
        &guarded,
        right,
        &relay,
        "does not allow transactions",
    );
    assert!(relay.stop().success());
}

#[test]
fn each_right_on_the_receipts_is_named_and_no_row_is_taken_for_the_culprit() {
    let guarded = Guarded::shared();
    let mut world = world("forbiddenreceipts", &guarded);
    let topic = receipts(&world);
    guarded.grant(On::TransactionalId(&world.topic), &[Right::Write]);
    let config = guarded.config("forbiddenreceipts", &once(&world));
    let flags = [
        "--config",
        shown(&config),
        "--kafka-brokers",
        &guarded.login(),
    ];
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '1')");
    ends(
        &mut world,
        &flags,
        &[&topic, "denies this user Describe on"],
    );
    guarded.grant(On::Topic(&topic), &[Right::Describe]);
    ends(
        &mut world,
        &flags,
        &[&topic, "may not create it", "grant the user Create"],
    );
    world.will_delete(&topic);
    // It creates the topic, and asks for the other ACLs one after the other.
    guarded.grant(On::Topic(&topic), &[Right::Create, Right::DescribeConfigs]);
    for (right, name) in [
        (Right::Write, "denies this user Write on"),
        (Right::Read, "denies this user Read on"),
    ] {
        ends(&mut world, &flags, &[&topic, name]);
        guarded.grant(On::Topic(&topic), &[right]);
    }
    guarded.revoke(On::Topic(&topic), &[Right::DescribeConfigs]);
    ends(
        &mut world,
        &flags,
        &[&topic, "denies this user DescribeConfigs on"],
    );
    guarded.grant(On::Topic(&topic), &[Right::DescribeConfigs]);
    let relay = Relay::leading(&world, &flags);
    world.await_empty();

    // Revoked from a running relay, it is not the fault of a row.
    let right = On::Topic(&topic);
    waits_without_the_right_to_write(
        &mut world,
        &guarded,
        right,
        &relay,
        "denies this user Write on",
    );
    assert!(relay.stop().success());
}

#[test]
fn check_names_what_is_forbidden_and_uses_no_right_for_it() {
    let guarded = Guarded::shared();
    let mut world = World::on("forbiddencheck", guarded.services());
    create_topic(&world, &world.topic, 1, &[]);
    let (route, topic) = (world.topic.clone(), receipts(&world));
    let config = guarded.config("forbiddencheck", &once(&world));
    let flags = [
        "--config",
        shown(&config),
        "--kafka-brokers",
        &guarded.login(),
    ];
    let check = |world: &World| Checkup::of(world, &flags);
    let checkup = check(&world);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("error", "topic-forbidden", &[&route, "Describe"]);
    checkup.finds("error", "receipts-forbidden", &["ACL Describe ", &topic]);
    let remedy = checkup.finds("error", "transactions-forbidden", &[&route]);
    assert!(remedy.contains("--operation Write"), "{remedy}");

    // May be described, but not written or created.
    let look = [Right::Describe, Right::DescribeConfigs];
    guarded.grant(On::Topic(&route), &look);
    guarded.grant(On::Topic(&topic), &look);
    guarded.grant(On::TransactionalId(&route), &[Right::Describe]);
    let checkup = eventually("the ACLs are known", || {
        let checkup = check(&world);
        let knows = |code: &str, word: &str| {
            let found = checkup.all(code);
            found
                .iter()
                .any(|it| it["what"].as_str().is_some_and(|what| what.contains(word)))
        };
        let all = knows("topic-forbidden", "uthorization") && knows("receipts-forbidden", "Create");
        all.then_some(checkup)
    });
    checkup.finds("error", "transactions-forbidden", &[&route]);
    create_topic(&world, &topic, 2, &[("cleanup.policy", "compact,delete")]);
    let checkup = check(&world);
    checkup.finds("error", "receipts-unfit", &[&topic, "2 partitions"]);
    checkup.finds("error", "receipts-unfit", &[&topic, "compact,delete"]);
    for right in ["ACL Write ", "ACL Read "] {
        checkup.finds("error", "receipts-forbidden", &[right, &topic]);
    }

    // With every ACL nothing is found, and a relay that uses them is not disturbed.
    let other = format!("{topic}.fit");
    create_topic(&world, &other, 1, &[("cleanup.policy", "compact")]);
    guarded.grant(On::Topic(&other), &RECEIPT_RIGHTS);
    guarded.grant(On::Topic(&route), &[Right::Write]);
    guarded.grant(On::TransactionalId(&route), &[Right::Write]);
    let flags = [&flags[..], &["--receipts", &other]].concat();
    let relay = Relay::leading(&world, &flags);
    Checkup::of(&world, &flags).lacks(&[
        "topic-forbidden",
        "topic-stuck",
        "receipts-forbidden",
        "receipts-unfit",
        "transactions-forbidden",
        "transactions-untold",
    ]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', '1')");
    world.await_empty();
    assert_eq!(relay.count_log("fenced this one"), 0);
    assert_eq!(count(&world), 1);
    assert!(relay.stop().success());
}
