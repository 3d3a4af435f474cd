//! The basis of the tests: services, a world for each test, the relay as a process, a consumer.

mod browser;
mod checkup;
mod http;
mod kafka;
mod leaks;
mod load;
mod meter;
mod outboxes;
mod planted;
mod relay;
mod roles;
mod servers;
mod world;

pub(crate) use browser::{Browser, Scheme, Scripts};
pub(crate) use checkup::Checkup;
pub(crate) use http::{Answer, ask, ask_at, get, metrics, post};
pub(crate) use kafka::{
    Consumer, Received, Transaction, configure_topic, create_topic, create_topic_on,
    create_topic_over, delete_records, delete_topic, leader_of, produce, steal_transactional_id,
};
pub(crate) use leaks::{LEFT, processes_of};
pub(crate) use load::Load;
pub(crate) use meter::Meter;
pub(crate) use outboxes::{TABLES, configuration, configured};
pub(crate) use planted::Planted;
pub(crate) use relay::Relay;
pub(crate) use roles::{Grant, Roles, grants};
pub(crate) use servers::{
    Authority, Cable, Collector, Guarded, Identity, Instance, On, Proxy, Right, Services, Span,
    not_here,
};
pub(crate) use world::{World, doorbell};

use std::process::Output;
use std::time::{Duration, Instant};

/// Long enough for a busy machine to find a restarted broker again. Tests wait for events, so it
/// only bounds failures.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until the probe returns something. Fails with what was awaited.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, &mut probe).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until the probe returns something, at most for so long.
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

/// Creates a world with its topic, a leading relay, and a consumer.
pub(crate) fn stage(test: &str) -> (World, Relay, Consumer) {
    let world = World::new(test);
    create_topic(&world, &world.topic, 6, &[]);
    let relay = Relay::leading(&world, &[]);
    let consumer = Consumer::new(&world, &world.topic);
    (world, relay, consumer)
}

/// Returns the end of a relay's output.
pub(crate) fn last_words(output: Output) -> Output {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().filter(|line| line.starts_with("doorbell: "));
    let last: Vec<&str> = last.collect();
    Output {
        stderr: last.join("\n").into_bytes(),
        ..output
    }
}

/// Checks that the command fails with this code and one line that has these words.
#[track_caller]
pub(crate) fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr}");
    }
}
