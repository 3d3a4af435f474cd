//! Medians, percentiles, and how they are printed.

use std::fmt;

use serde::Serialize;

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
    /// The nearest rank: each figure is one that was measured.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
        Self {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
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
