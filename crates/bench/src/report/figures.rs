//! Medians, percentiles, and how figures are written.

use std::time::{Duration, Instant};

use indicatif::HumanFloatCount;
use serde::Serialize;

/// Several figures of the same thing; of none, they are NaN.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    /// The one in the middle, or the mean of the two there.
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let last = figures.len().saturating_sub(1);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        Self {
            min: at(0),
            median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            max: at(last),
        }
    }

    /// Unless it is of nothing.
    pub(crate) fn known(self) -> Option<Self> {
        (!self.median.is_nan()).then_some(self)
    }

    /// As ratios are written: `1.22 (0.98 to 1.26)`.
    pub(crate) fn ratio(&self) -> String {
        let Self { min, median, max } = self;
        format!("{median:.2} ({min:.2} to {max:.2})")
    }

    /// Median, lowest and highest as cells of a table.
    pub(crate) fn cells(&self, shown: impl Fn(f64) -> String) -> [String; 3] {
        [self.median, self.min, self.max].map(shown)
    }
}

/// What the ratios of pairs come to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Mean {
    /// The geometric mean lies above this with 97.5 % confidence, if no pair depends on another.
    pub(crate) low: f64,
    /// Their geometric mean: that of the inverse ratios is its inverse.
    pub(crate) mean: f64,
    /// The geometric mean lies below this with the same confidence.
    pub(crate) high: f64,
}

impl Mean {
    /// Of at least one ratio, of which nothing is known without a second one. For fewer than thirty
    /// the bounds are too narrow.
    pub(crate) fn of(ratios: impl IntoIterator<Item = f64>) -> Self {
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
        Self {
            low: (mean - DEVIATIONS * error).exp(),
            mean: mean.exp(),
            high: (mean + DEVIATIONS * error).exp(),
        }
    }
}

/// Durations one by one, in whole microseconds and in the order of measurement.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// A record may arrive before the writer has read that its commit is done: that counts as
    /// nothing.
    pub(crate) fn between(&mut self, from: Instant, to: Instant) {
        self.add(to.saturating_duration_since(from));
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration.as_micros() as u64);
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// Percentiles in milliseconds; of nothing, they are NaN.
    pub(crate) fn latency(&self) -> Latency {
        let sorted = self.sorted();
        let at = |quantile: f64| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            let micros = sorted.get(rank.saturating_sub(1));
            micros.map_or(f64::NAN, |micros| *micros as f64 / 1e3)
        };
        Latency {
            count: sorted.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }

    /// The curve of quantiles: (quantile, milliseconds), as far out as there are samples. Each half
    /// of the rest has four points.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let sorted = self.sorted();
        let count = sorted.len() as f64;
        let steps = (0..).map(|step| {
            let rest = 0.5_f64.powi(step / 4);
            1.0 - rest + rest / 8.0 * f64::from(step % 4)
        });
        let inner = steps.take_while(|quantile| *quantile < 1.0 - 1.0 / count);
        let of = |quantile: f64| (quantile, sorted[(quantile * count) as usize] as f64 / 1e3);
        let mut curve: Vec<(f64, f64)> = inner.map(of).collect();
        let last = sorted.last();
        curve.extend(last.map(|max| (1.0 - 1.0 / count, *max as f64 / 1e3)));
        curve
    }

    fn sorted(&self) -> Vec<u64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    pub(crate) const COLUMNS: &'static str = "p50 | p90 | p99 | p99.9 | max";

    fn figures(&self) -> [f64; 5] {
        [self.p50, self.p90, self.p99, self.p999, self.max]
    }

    pub(crate) fn cells(&self) -> [String; 5] {
        self.figures().map(millis)
    }

    pub(crate) fn ratios(&self, other: &Self) -> Vec<String> {
        let pairs = self.figures().into_iter().zip(other.figures());
        let ratios = pairs.map(|(one, other)| one / other);
        ratios.map(|ratio| format!("{ratio:.2}")).collect()
    }
}

/// Milliseconds, as exact as they are known.
fn millis(figure: f64) -> String {
    match figure {
        long if long >= 100.0 => format!("{long:.0}"),
        medium if medium >= 10.0 => format!("{medium:.1}"),
        short => format!("{short:.2}"),
    }
}

/// A whole number with commas.
pub(crate) fn thousands(number: f64) -> String {
    format!("{:.0}", HumanFloatCount(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_lowest_middle_highest() {
        assert!(Spread::of([]).median.is_nan());
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_mean_of_ratios_is_geometric_and_lies_between_its_bounds() {
        assert!(Mean::of([]).mean.is_nan());
        let one = Mean::of([2.0]);
        assert_eq!((one.low, one.high), (0.0, f64::INFINITY));
        let alike = Mean::of([2.0, 2.0, 2.0]);
        assert!((alike.low - 2.0).abs() < 1e-9 && (alike.high - 2.0).abs() < 1e-9);
        // Twice and half as fast is as fast: 1.96 deviations of a logarithm, here ln 2, over the
        // root of three.
        let spread = Mean::of([2.0, 0.5, 1.0]);
        assert!((spread.mean - 1.0).abs() < 1e-9, "{spread:?}");
        let expected = (1.96 * 2_f64.ln() / 3_f64.sqrt()).exp();
        assert!((spread.high - expected).abs() < 1e-9, "{spread:?}");
        assert!((spread.low * spread.high - 1.0).abs() < 1e-9, "{spread:?}");
    }

    #[test]
    fn percentiles_are_milliseconds() {
        let mut samples = Samples::default();
        assert!(samples.latency().p50.is_nan() && samples.curve().is_empty());
        for millis in (1..=1_000).rev() {
            samples.add(Duration::from_millis(millis));
        }
        let mut all = Samples::default();
        all.extend(&samples);
        let latency = all.latency();
        assert_eq!(latency.count, 1_000);
        let figures = [latency.p50, latency.p99, latency.p999, latency.max];
        assert_eq!(figures, [500.0, 990.0, 999.0, 1_000.0]);
        let curve = all.curve();
        let ascends = curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        assert!(ascends && curve.len() > 30, "{curve:?}");
        assert_eq!(curve.last(), Some(&(0.999, 1_000.0)));
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
    }
}
