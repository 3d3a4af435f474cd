//! What is known about the brokers without asking them: from librdkafka's errors and statistics.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// How often librdkafka sums its state up, for `/metrics`: it takes a fraction of a millisecond.
pub(super) const STATISTICS_INTERVAL_MS: &str = "5000";

/// What one outbox's producers, one after the other, say about Kafka.
#[derive(Debug, Default)]
pub struct Condition {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    away: Option<(Instant, String)>,
    traffic: Option<Traffic>,
}

/// librdkafka's own figures of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Records in the producer's queues and on the wire.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Brokers that it knows.
    pub brokers: u64,
    /// Those of them that it is connected with.
    pub brokers_up: u64,
    /// Mean and 99th percentile of the time from a request to its answer, in seconds, of the slowest broker; `None`: no request lately.
    pub round_trip: Option<(f64, f64)>,
    /// Requests that were sent again, since the producer began.
    pub request_retries: u64,
    /// Requests that were not answered in time, since the producer began.
    pub request_timeouts: u64,
}

impl Condition {
    /// Since when no broker can be reached, and why.
    pub fn away(&self) -> Option<(Instant, String)> {
        self.lock().away.clone()
    }

    /// The latest figures; `None` before the first.
    pub fn traffic(&self) -> Option<Traffic> {
        self.lock().traffic
    }

    /// No broker can be reached.
    pub fn is_away(&self, reason: &str) {
        let mut known = self.lock();
        if known.away.is_none() {
            known.away = Some((Instant::now(), reason.to_owned()));
        }
    }

    /// A broker has answered.
    pub fn is_there(&self) {
        self.lock().away = None;
    }

    /// Takes librdkafka's statistics in. A broker that is connected is there, though no record said so yet.
    pub(super) fn take_in(&self, json: &[u8]) -> Result<(), serde_json::Error> {
        let traffic = serde_json::from_slice::<Statistics>(json)?.sum_up();
        let mut known = self.lock();
        known.traffic = Some(traffic);
        if traffic.brokers_up > 0 {
            known.away = None;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of the statistics that is read. The rest, a kilobyte for each partition, is passed over.
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
        // Addresses of `bootstrap.servers` have no number: each is a known broker under a second name once it has answered.
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
            "rtt": {{"min": 1, "avg": 1500, "p99": {p99}, "cnt": {count}}}, "toppars": {{}}}}"#
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
        let condition = Condition::default();
        condition.is_away("refused");
        condition.is_away("refused again");
        let (since, reason) = condition.away().expect("it is away");
        assert_eq!(reason, "refused");
        condition.take_in(json.as_bytes()).expect("it can be read");
        assert_eq!(condition.away(), None, "one is connected");
        assert!(since.elapsed().as_secs() < 60);
        let expected = Traffic {
            queued: 3,
            queued_bytes: 700,
            brokers: 2,
            brokers_up: 1,
            round_trip: Some((0.001_5, 0.009)),
            request_retries: 6,
            request_timeouts: 3,
        };
        assert_eq!(condition.traffic(), Some(expected));
        assert!(condition.take_in(b"{}").is_err());
    }
}
