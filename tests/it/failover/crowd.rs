//! One, four and eight relays of one outbox that are started, stopped and killed under load, while
//! the network on both sides breaks at random.

use std::time::Duration;

use crate::exactly_once::{flags, receipts};
use crate::support::{Consumer, Instance, Load, Proxy, Relay, World, create_topic};

/// The seed of the random faults; each number of relays has its own.
const SEED: u64 = 26;
const FAULTS: usize = 7;

/// Relays, and a network on both sides that can break.
struct Crowd<'a> {
    world: &'a World,
    flags: Vec<&'a str>,
    relays: Vec<Relay>,
    postgres: &'a Proxy,
    kafka: &'a [Proxy],
    random: fastrand::Rng,
}

impl Crowd<'_> {
    fn spawn(&self) -> Relay {
        Relay::spawn(self.world, &self.flags)
    }

    /// Causes a fault of one of them, or of all.
    fn fault(&mut self) {
        let one = self.random.usize(..self.relays.len());
        match self.random.u32(0..8) {
            0..3 => {
                let next = self.spawn();
                std::mem::replace(&mut self.relays[one], next).kill();
            }
            3 => {
                let next = self.spawn();
                // Before its first log line it may not handle the signal yet.
                self.relays[one].await_log("outbox{");
                let status = std::mem::replace(&mut self.relays[one], next).stop();
                assert!(status.success(), "{status}");
            }
            4 => {
                let all = self.relays.len();
                self.relays.drain(..).for_each(Relay::kill);
                self.relays = (0..all).map(|_| self.spawn()).collect();
            }
            5 => self.postgres.cut(),
            6 => self.kafka.iter().for_each(Proxy::cut),
            _ => {
                self.kafka.iter().for_each(Proxy::stall);
                std::thread::sleep(Duration::from_millis(self.random.u64(20..300)));
                self.kafka.iter().for_each(Proxy::pass);
            }
        }
    }
}

/// Runs waves of faults with each number of relays: nothing lost, each key in order. Returns the
/// duplicates.
fn waves(test: &str, is_once: bool, reader: fn(&World, &str) -> Consumer) -> usize {
    let kafka = Instance::start(test, &["kafka"]);
    let proxies = kafka.variable("KAFKA_PROXIES");
    let to_kafka = [Proxy::start(proxies, kafka.variable("KAFKA_PROXIED"))];
    let mut duplicates = 0;
    for relays in [1, 4, 8] {
        let mut world = World::on(test, kafka.services());
        create_topic(&world, &world.topic, 3, &[]);
        let to_postgres = Proxy::start("127.0.0.1:0", world.host_port());
        let near = to_postgres.address().to_string();
        let url = world.database_url.replace(world.host_port(), &near);
        let receipts = receipts(&world);
        let addresses = ["--database-url", &url, "--kafka-brokers", proxies];
        let mut crowd = Crowd {
            flags: match is_once {
                true => flags(&receipts, &addresses),
                false => addresses.to_vec(),
            },
            world: &world,
            relays: Vec::new(),
            postgres: &to_postgres,
            kafka: &to_kafka,
            random: fastrand::Rng::with_seed(SEED + relays),
        };
        crowd.relays = (0..relays).map(|_| crowd.spawn()).collect();
        let load = Load::start(&world);
        for _ in 0..FAULTS {
            load.await_rows(crowd.random.usize(50..400));
            crowd.fault();
        }
        let left = std::mem::take(&mut crowd.relays);
        let written = load.stop();
        world.await_empty();
        let mut consumer = reader(&world, &world.topic);
        duplicates += written.check(consumer.drain());
        for relay in left {
            relay.await_log("outbox{");
            assert!(relay.stop().success());
        }
    }
    duplicates
}

#[test]
fn one_four_and_eight_relays_in_waves_of_faults_lose_nothing() {
    waves("crowd", false, Consumer::new);
}

#[test]
fn one_four_and_eight_relays_in_waves_of_faults_double_nothing_exactly_once() {
    assert_eq!(waves("oncecrowd", true, Consumer::committed), 0);
}
