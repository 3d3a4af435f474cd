//! Latencies one by one.

use std::time::{Duration, Instant};

use anyhow::Context;
use doorbell::app::bench::figures::{Durations, Latency};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Whole microseconds, in the order of measurement. In JSON they take one line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// A record may arrive before the writer has read that its commit is done: that counts as nothing.
    pub(crate) fn push(&mut self, from: Instant, to: Instant) {
        self.add(to.saturating_duration_since(from));
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration.as_micros() as u64);
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(crate) fn latency(&self) -> anyhow::Result<Latency> {
        self.durations().latency().context("nothing was measured")
    }

    /// Points (quantile, milliseconds) for a plot.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        self.durations().quantiles()
    }

    fn durations(&self) -> Durations {
        let mut durations = Durations::default();
        for micros in &self.0 {
            durations.add(Duration::from_micros(*micros));
        }
        durations
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = serde_json::to_string(&self.0).and_then(RawValue::from_string);
        line.map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// The head of a table of percentiles.
pub(crate) fn head() -> String {
    Latency::HEAD.join(" | ")
}

/// The cells of one.
pub(crate) fn cells(latency: &Latency) -> String {
    latency.cells().collect::<Vec<_>>().join(" | ")
}

/// The cells of one over another.
pub(crate) fn ratios(one: &Latency, other: &Latency) -> String {
    let pairs = [
        (one.p50, other.p50),
        (one.p90, other.p90),
        (one.p99, other.p99),
        (one.p999, other.p999),
        (one.max, other.max),
    ];
    pairs
        .map(|(one, other)| format!("{:.2}", one / other))
        .join(" | ")
}
