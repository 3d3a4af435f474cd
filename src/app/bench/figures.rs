//! Medians, percentiles, and how figures are written.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Several figures of the same thing.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The lowest.
    pub min: f64,
    /// The one in the middle, or the mean of the two there.
    pub median: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        Some(Self {
            min: figures[0],
            median: f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]),
            max: figures[last],
        })
    }
}

/// What the ratios of pairs come to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mean {
    /// The geometric mean lies above this with 97.5 % confidence, if no pair depends on another.
    pub low: f64,
    /// Their geometric mean: that of the inverse ratios is its inverse.
    pub mean: f64,
    /// And it lies below this.
    pub high: f64,
}

impl Mean {
    /// Of at least one ratio, of which nothing is known without a second one. For fewer than thirty the bounds are too narrow.
    pub fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
        /// 97.5 % of a normal distribution lie below so many standard deviations.
        const DEVIATIONS: f64 = 1.96;
        let logs: Vec<f64> = ratios.into_iter().map(f64::ln).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
        let error = match logs.len() {
            1 => f64::INFINITY,
            _ => (squares / (count - 1.0) / count).sqrt(),
        };
        (!logs.is_empty()).then(|| Self {
            low: (mean - DEVIATIONS * error).exp(),
            mean: mean.exp(),
            high: (mean + DEVIATIONS * error).exp(),
        })
    }
}

/// Durations, to three digits, in little memory.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        // Grows with what it is given; counts microseconds.
        Self(Histogram::new(3).expect("three digits are possible"))
    }
}

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // An hour is longer than anything that is measured here.
        self.0
            .record(micros.min(3_600_000_000))
            .expect("it grows up to there");
    }

    /// Counts all of another.
    pub fn merge(&mut self, other: &Self) {
        // Both grow by themselves, and have the same digits.
        self.0.add(&other.0).expect("histograms of one kind");
    }

    /// Percentiles; `None` of nothing.
    pub fn latency(&self) -> Option<Latency> {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        (!self.0.is_empty()).then(|| Latency {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e3,
        })
    }

    /// The curve of quantiles: (quantile, milliseconds), as far out as there are figures.
    pub fn quantiles(&self) -> Vec<(f64, f64)> {
        let farthest = 1.0 - 1.0 / (self.0.len().max(1) as f64);
        let mut curve: Vec<(f64, f64)> = self
            .0
            .iter_quantiles(4)
            .map(|step| {
                let quantile = step.quantile().min(farthest);
                (quantile, step.value_iterated_to() as f64 / 1e3)
            })
            .collect();
        curve.dedup_by(|later, first| later.0 <= first.0 && later.1 <= first.1);
        curve
    }
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Of how many.
    pub count: u64,
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// The head of the cells.
    pub const HEAD: [&'static str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

    /// As cells of a table, in milliseconds.
    pub fn cells(&self) -> impl Iterator<Item = String> {
        [self.p50, self.p90, self.p99, self.p999, self.max]
            .into_iter()
            .map(millis)
    }
}

/// Milliseconds, as exact as they are known.
pub(super) fn millis(figure: f64) -> String {
    match figure {
        long if long >= 100.0 => format!("{long:.0}"),
        medium if medium >= 10.0 => format!("{medium:.1}"),
        short => format!("{short:.2}"),
    }
}

/// A whole number with commas.
pub fn thousands(number: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_lowest_middle_highest() {
        assert!(Spread::of([]).is_none());
        let odd = Spread::of([3.0, 1.0, 2.0]).expect("figures");
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("figures");
        assert_eq!(even.median, 2.5);
    }

    #[test]
    fn a_mean_of_ratios_is_geometric_and_lies_between_its_bounds() {
        assert!(Mean::of([]).is_none());
        let one = Mean::of([2.0]).expect("a figure");
        assert_eq!((one.low, one.high), (0.0, f64::INFINITY));
        let alike = Mean::of([2.0, 2.0, 2.0]).expect("figures");
        assert!((alike.low - 2.0).abs() < 1e-9 && (alike.high - 2.0).abs() < 1e-9);
        // Twice and half as fast is as fast: 1.96 deviations of a logarithm, here ln 2, over the root of three.
        let spread = Mean::of([2.0, 0.5, 1.0]).expect("figures");
        assert!((spread.mean - 1.0).abs() < 1e-9, "{spread:?}");
        let expected = (1.96 * 2_f64.ln() / 3_f64.sqrt()).exp();
        assert!((spread.high - expected).abs() < 1e-9, "{spread:?}");
        assert!((spread.low * spread.high - 1.0).abs() < 1e-9, "{spread:?}");
    }

    #[test]
    fn percentiles_are_milliseconds_to_three_digits() {
        let mut durations = Durations::default();
        assert!(durations.latency().is_none());
        for millis in 1..=1_000 {
            durations.add(Duration::from_millis(millis));
        }
        let mut other = Durations::default();
        other.merge(&durations);
        let latency = other.latency().expect("figures");
        assert_eq!(latency.count, 1_000);
        for (figure, expected) in [
            (latency.p50, 500.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
        ] {
            assert!(
                (figure / expected - 1.0_f64).abs() < 0.002,
                "{figure} is not {expected}"
            );
        }
        let curve = other.quantiles();
        assert!(
            curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1),
            "{curve:?}"
        );
        assert!(curve.iter().all(|(quantile, _)| *quantile <= 0.999));
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
    }
}
