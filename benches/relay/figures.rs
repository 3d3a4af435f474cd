//! Medians, percentiles, and how they are printed.

use std::fmt;
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_unstable_by(f64::total_cmp);
        let (lower, upper) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Self {
            min: figures[0],
            median: (lower + upper) / 2.0,
            max: figures[figures.len() - 1],
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Percentiles {
    /// Of at least one sample.
    pub(crate) fn of(samples: &Samples) -> Self {
        let sorted = samples.sorted();
        Self {
            p50: quantile(&sorted, 0.5),
            p90: quantile(&sorted, 0.9),
            p99: quantile(&sorted, 0.99),
            max: quantile(&sorted, 1.0),
        }
    }

    /// Each of ours over the same of the other.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self {
            p50: self.p50 / other.p50,
            p90: self.p90 / other.p90,
            p99: self.p99 / other.p99,
            max: self.max / other.max,
        }
    }
}

/// Latencies in whole microseconds, in the order of measurement. In JSON they take one line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// A record may arrive before the writer has read that its commit is done: that counts as nothing.
    pub(crate) fn push(&mut self, from: Instant, to: Instant) {
        let micros = to.saturating_duration_since(from).as_micros();
        self.0.push(micros as u64);
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds.
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
            .into_iter()
            .map(|micros| micros as f64 / 1e3)
            .collect()
    }

    /// Points (quantile, milliseconds) for a plot, closer together towards the tail, as far as there are samples to tell.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let sorted = self.sorted();
        let nines = (sorted.len() as f64).log10();
        (0..=40)
            .map(|step| 1.0 - 10_f64.powf(-nines * f64::from(step) / 40.0))
            .map(|at| (at, quantile(&sorted, at)))
            .collect()
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = serde_json::to_string(&self.0).and_then(RawValue::from_string);
        line.map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// The nearest rank: each figure is one that was measured.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let rank = (sorted.len() as f64 * at).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} | {:.2} | {:.2} | {:.2}",
            self.p50, self.p90, self.p99, self.max
        )
    }
}

/// A whole number with commas.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
