//! Relays of which some reach Kafka and others do not: one that does leads.

use std::time::{Duration, Instant};

use crate::exactly_once::{flags, receipts};
use crate::support::{Instance, Proxy, Relay, World, create_topic, eventually, get};

const FLAGS: &[&str] = &["--listen", "127.0.0.1:0", "--leader-timeout", "2s"];
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// A broker, and a way to it that can be cut.
fn staged(test: &str) -> (Instance, Proxy) {
    let kafka = Instance::start(test, &["kafka"]);
    let ways = (
        kafka.variable("KAFKA_PROXIES"),
        kafka.variable("KAFKA_PROXIED"),
    );
    let proxy = Proxy::start(ways.0, ways.1);
    (kafka, proxy)
}

#[track_caller]
fn await_readyz(relay: &Relay, code: u16, words: &str) {
    eventually(words, || {
        let answer = get(relay, "/readyz");
        (answer.code == code && answer.body.contains(words)).then_some(())
    });
}

#[test]
fn a_leader_that_reaches_no_broker_yields_to_a_standby_that_does_in_both_modes() {
    let (kafka, proxy) = staged("yields");
    let way = proxy.address().to_string();
    for mode in ["atleastyields", "onceyields"] {
        let mut world = World::on(mode, kafka.services());
        create_topic(&world, &world.topic, 1, &[]);
        let receipts = receipts(&world);
        let more = match mode {
            "onceyields" => flags(&receipts, FLAGS),
            _ => FLAGS.to_vec(),
        };
        let first = Relay::leading(&world, &[&more[..], &["--kafka-brokers", &way]].concat());
        let second = Relay::spawn(&world, &more);
        second.await_log("standby");
        world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'before')");
        world.await_empty();
        proxy.lead_to(NOWHERE);
        world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'meanwhile')");
        first.await_log("yielding the lock to it");
        second.await_log("leading");
        world.await_empty();
        await_readyz(&first, 503, "does not answer");
        proxy.lead_to(kafka.variable("KAFKA_PROXIED"));
        await_readyz(&first, 200, "ready: standby");
        assert!(second.stop().success());
        await_readyz(&first, 200, "ready: leading");
        assert!(first.stop().success());
    }
}

#[test]
fn a_standby_that_reaches_no_broker_is_not_ready_and_leaves_the_lock_to_others() {
    let (kafka, proxy) = staged("keepsout");
    let mut world = World::on("keepsout", kafka.services());
    create_topic(&world, &world.topic, 1, &[]);
    let leader = Relay::leading(&world, FLAGS);
    let way = proxy.address().to_string();
    let standby = Relay::spawn(&world, &[FLAGS, &["--kafka-brokers", &way]].concat());
    await_readyz(&standby, 200, "ready: standby");
    proxy.lead_to(NOWHERE);
    await_readyz(&standby, 503, "Kafka is unreachable");
    standby.await_log("this relay does not ask for the lock");
    leader.kill();
    let other = Relay::leading(&world, FLAGS);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
    world.await_empty();
    proxy.lead_to(kafka.variable("KAFKA_PROXIED"));
    await_readyz(&standby, 200, "ready: standby");
    assert!(other.stop().success());
    await_readyz(&standby, 200, "ready: leading");
    assert!(standby.stop().success());
}

#[test]
fn a_broker_that_closes_idle_connections_is_no_outage() {
    let kafka = Instance::kafka_with("closesidle", "connections.max.idle.ms=1000");
    let mut world = World::on("closesidle", kafka.services());
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    world.sql("INSERT INTO outbox (type) VALUES ('x')");
    world.await_empty();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let answer = get(&relay, "/readyz");
        assert_eq!(answer.code, 200, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(relay.count_log("Kafka is unreachable"), 0);
    assert!(relay.stop().success());
}
