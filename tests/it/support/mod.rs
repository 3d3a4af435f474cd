//! What the tests stand on: services, a world for each test, the relay as a process, a consumer.

mod browser;
mod cable;
mod certificates;
mod checkup;
mod collector;
mod guarded;
mod http;
mod kafka;
mod leaks;
mod load;
mod meter;
mod planted;
mod proxy;
mod relay;
mod roles;
mod services;
mod world;

pub(crate) use browser::{Browser, Scheme, Scripts};
pub(crate) use cable::Cable;
pub(crate) use certificates::{Authority, Identity};
pub(crate) use checkup::Checkup;
pub(crate) use collector::{Collector, Span};
pub(crate) use guarded::{Guarded, On, Right};
pub(crate) use http::{Answer, ask, ask_at, get, post};
pub(crate) use kafka::{
    Consumer, Received, Transaction, configure_topic, create_topic, create_topic_on, delete_topic,
    leader_of, produce, steal_transactional_id,
};
pub(crate) use leaks::{LEFT, processes_of};
pub(crate) use load::Load;
pub(crate) use meter::Meter;
pub(crate) use planted::Planted;
pub(crate) use proxy::Proxy;
pub(crate) use relay::Relay;
pub(crate) use roles::{Grant, Roles, grants};
pub(crate) use services::{Instance, Services, not_here};
pub(crate) use world::{World, doorbell};

use std::process::Output;
use std::time::{Duration, Instant};

/// Long enough for a broker that was restarted to be found again on a busy machine; tests wait for events, so it only bounds failures.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until the probe gives something; fails with what was awaited.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, &mut probe).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until the probe gives something, or for so long.
pub(crate) fn within<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if begun.elapsed() > patience {
            return None;
        }
        // The interval of a poll, not a wait for luck: the loop ends by the probe.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A world with its topic, a leading relay, and a consumer.
pub(crate) fn stage(test: &str) -> (World, Relay, Consumer) {
    let world = World::new(test);
    create_topic(&world, &world.topic, 6, &[]);
    let relay = Relay::leading(&world, &[]);
    let consumer = Consumer::new(&world, &world.topic);
    (world, relay, consumer)
}

/// Of all that a relay said, what it ended with.
pub(crate) fn last_words(output: Output) -> Output {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().filter(|line| line.starts_with("doorbell: "));
    let last: Vec<&str> = last.collect();
    Output {
        stderr: last.join("\n").into_bytes(),
        ..output
    }
}

/// The command must fail with this code and one line that has these words.
#[track_caller]
pub(crate) fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr}");
    }
}
