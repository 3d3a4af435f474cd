//! What is known about the brokers without asking them, from librdkafka's errors and statistics.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::sync::lock;

/// Interval of librdkafka's statistics, for `/metrics`. Computing them takes a fraction of a
/// millisecond.
pub(super) const STATISTICS_INTERVAL_MS: &str = "5000";

/// What the producers of one outbox, one after the other, report about Kafka.
#[derive(Debug, Default)]
pub(crate) struct Health {
    known: Mutex<Known>,
    /// Headers that rows had of their own and that the relay sets.
    pub(crate) reserved_headers: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    away: Option<(Instant, String)>,
    traffic: Option<Traffic>,
}

/// Figures of librdkafka at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Records in the producer's queues and on the wire.
    pub queued: u64,
    /// Bytes of these records.
    pub queued_bytes: u64,
    /// Brokers that the producer knows.
    pub brokers: u64,
    /// Brokers that the producer is connected to.
    pub brokers_up: u64,
    /// Mean and 99th percentile of the time from a request to its answer, in seconds, of the
    /// slowest broker. `None`: no recent request.
    pub round_trip: Option<(f64, f64)>,
    /// For how long a broker throttled the producer, on average, in milliseconds.
    pub throttled: Option<i64>,
    /// Requests that were sent again since the producer started.
    pub request_retries: u64,
    /// Requests that timed out since the producer started.
    pub request_timeouts: u64,
}

impl Health {
    pub(crate) fn unreachable_since(&self) -> Option<(Instant, String)> {
        lock(&self.known).away.clone()
    }

    pub(crate) fn traffic(&self) -> Option<Traffic> {
        lock(&self.known).traffic
    }

    pub(crate) fn unreachable(&self, reason: &str) {
        let mut known = lock(&self.known);
        if known.away.is_none() {
            known.away = Some((Instant::now(), reason.to_owned()));
            self.changed.notify_waiters();
        }
    }

    /// Waits until no broker has been reachable for this long, and returns why.
    pub(crate) async fn unreachable_for(&self, long: Duration) -> String {
        loop {
            let changed = self.changed.notified();
            match self.unreachable_since() {
                Some((since, reason)) if since.elapsed() >= long => return reason,
                Some((since, _)) => tokio::time::sleep_until((since + long).into()).await,
                None => changed.await,
            }
        }
    }

    pub(crate) fn reachable(&self) {
        lock(&self.known).away = None;
    }

    /// Takes in librdkafka's statistics. A broker that is connected counts as reachable, even
    /// before a record confirms it.
    pub(super) fn take_in(&self, json: &[u8]) -> Result<(), serde_json::Error> {
        let traffic = serde_json::from_slice::<Statistics>(json)?.sum_up();
        let mut known = lock(&self.known);
        known.traffic = Some(traffic);
        if traffic.brokers_up > 0 {
            known.away = None;
        }
        Ok(())
    }
}

/// The part of the statistics that is read. The rest, a kilobyte for each partition, is skipped.
#[derive(Debug, Deserialize)]
struct Statistics {
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, Broker>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i64,
    state: String,
    txretries: u64,
    req_timeouts: u64,
    rtt: Percentiles,
    #[serde(default)]
    throttle: Option<Throttle>,
}

/// In milliseconds.
#[derive(Debug, Deserialize)]
struct Throttle {
    avg: i64,
}

/// In microseconds.
#[derive(Debug, Deserialize)]
struct Percentiles {
    avg: i64,
    p99: i64,
    cnt: i64,
}

impl Statistics {
    fn sum_up(&self) -> Traffic {
        let seconds = |micros: i64| micros.max(0) as f64 / 1e6;
        let brokers = || self.brokers.values();
        // Addresses of `bootstrap.servers` have no number. Each is a known broker under a second
        // name once it has answered.
        let numbered = || brokers().filter(|broker| broker.nodeid >= 0);
        let round_trip = brokers()
            .filter(|broker| broker.rtt.cnt > 0)
            .map(|broker| (seconds(broker.rtt.avg), seconds(broker.rtt.p99)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        Traffic {
            queued: self.msg_cnt,
            queued_bytes: self.msg_size,
            brokers: numbered().count() as u64,
            brokers_up: brokers()
                .filter(|it| it.state == "UP" && it.nodeid >= 0)
                .count() as u64,
            round_trip,
            throttled: brokers()
                .filter_map(|it| it.throttle.as_ref())
                .map(|it| it.avg)
                .filter(|millis| *millis > 0)
                .max(),
            request_retries: brokers().map(|it| it.txretries).sum(),
            request_timeouts: brokers().map(|it| it.req_timeouts).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(nodeid: i64, state: &str, p99: i64, count: i64) -> String {
        format!(
            r#""b{nodeid}": {{"name": "b", "nodeid": {nodeid}, "state": "{state}", "txretries": 2, "req_timeouts": 1,
            "throttle": {{"avg": {}}}, "rtt": {{"min": 1, "avg": 1500, "p99": {p99}, "cnt": {count}}}, "toppars": {{}}}}"#,
            nodeid * 5
        )
    }

    #[test]
    fn statistics_are_summed_up_over_the_brokers() {
        let json = format!(
            r#"{{"name": "x", "msg_cnt": 3, "msg_size": 700, "topics": {{"t": {{}}}}, "brokers": {{{}, {}, {}}}}}"#,
            broker(-1, "UP", 0, 0),
            broker(1, "UP", 9_000, 5),
            broker(2, "DOWN", 99_000, 0),
        );
        let health = Health::default();
        health.unreachable("refused");
        health.unreachable("refused again");
        let (since, reason) = health.unreachable_since().expect("it is unreachable");
        assert_eq!(reason, "refused");
        health.take_in(json.as_bytes()).expect("it can be read");
        assert_eq!(health.unreachable_since(), None, "one is connected");
        assert!(since.elapsed().as_secs() < 60);
        let expected = Traffic {
            queued: 3,
            queued_bytes: 700,
            brokers: 2,
            brokers_up: 1,
            round_trip: Some((0.001_5, 0.009)),
            throttled: Some(10),
            request_retries: 6,
            request_timeouts: 3,
        };
        assert_eq!(health.traffic(), Some(expected));
        assert!(health.take_in(b"{}").is_err());
    }
}
