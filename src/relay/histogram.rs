//! Histograms of durations. A task counts rows in a tally of its own and adds it to the shared
//! histogram once a batch: a row costs no atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// A second in microseconds.
const S: u64 = 1_000_000;
/// Upper bounds in microseconds, from a round trip on one machine to an outage. A last bucket
/// counts longer durations.
const BOUNDS: [u64; 18] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600 * S,
    3_600 * S,
];
const BUCKETS: usize = BOUNDS.len() + 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DurationCounts {
    counts: [u64; BUCKETS],
    micros: u64,
    last: usize,
}

impl DurationCounts {
    /// Counts rows that took this long.
    pub(crate) fn add(&mut self, micros: u64, times: u64) {
        // Rows come in groups that took about as long, so it is mostly the bucket of the last one.
        let is_above = |bucket: usize| bucket == 0 || BOUNDS[bucket - 1] < micros;
        let is_within = |bucket: usize| BOUNDS.get(bucket).is_none_or(|bound| micros <= *bound);
        if !(is_above(self.last) && is_within(self.last)) {
            self.last = BOUNDS.partition_point(|bound| *bound < micros);
        }
        self.counts[self.last] += times;
        self.micros = self.micros.saturating_add(micros.saturating_mul(times));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Histogram {
    /// Adds a tally and leaves it empty.
    pub(crate) fn take_in(&self, tally: &mut DurationCounts) {
        if tally.is_empty() {
            return;
        }
        for (all, new) in self.counts.iter().zip(tally.counts) {
            if new > 0 {
                all.fetch_add(new, Ordering::Relaxed);
            }
        }
        self.micros.fetch_add(tally.micros, Ordering::Relaxed);
        *tally = DurationCounts::default();
    }

    pub(crate) fn read(&self) -> Timing {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6);
        let counts = self.counts.each_ref().map(|it| it.load(Ordering::Relaxed));
        Timing {
            seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            count: counts.iter().sum(),
            buckets: bounds.chain([f64::INFINITY]).zip(counts).collect(),
        }
    }
}

/// How long rows took, since the process began.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The sum of all.
    pub seconds: f64,
    /// How many.
    pub count: u64,
    /// Bounds in seconds, each with the number of rows that took longer than the bound before and
    /// at most this long. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Timing {
    /// The bound in seconds that this share of the rows kept; `None` before the first row. It is an
    /// upper bound, as exact as the buckets.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        let reached = self.buckets.iter().find(|(_, count)| {
            sum += count;
            sum >= wanted
        });
        reached.map(|(bound, _)| *bound)
    }

    /// The difference to an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            seconds: self.seconds - earlier.seconds,
            count: self.count - earlier.count,
            buckets: pairs.map(|(a, b)| (a.0, a.1 - b.1)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let (histogram, mut tally) = (Histogram::default(), DurationCounts::default());
        tally.add(0, 1);
        tally.add(250, 2);
        tally.add(251, 4);
        tally.add(3_600_000_001, 8);
        histogram.take_in(&mut tally);
        assert!(tally.is_empty());
        tally.add(3_600_000_000, 16);
        histogram.take_in(&mut tally);
        let timing = histogram.read();
        let counts: Vec<u64> = timing.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(
            (counts[0], counts[1], counts[17], counts[18]),
            (3, 4, 16, 8)
        );
        assert_eq!(timing.count, 31);
        assert_eq!(timing.buckets[0].0, 0.000_25);
        assert_eq!(timing.buckets[18].0, f64::INFINITY);
        let micros = 500.0 + 1_004.0 + 16.0 * 3.6e9 + 8.0 * 3_600_000_001.0;
        assert!((timing.seconds - micros / 1e6).abs() < 1e-3);
    }

    #[test]
    fn quantiles_are_upper_bounds_also_of_what_came_since() {
        let (histogram, mut tally) = (Histogram::default(), DurationCounts::default());
        assert_eq!(histogram.read().quantile(0.5), None);
        tally.add(100, 99);
        tally.add(20_000, 1);
        histogram.take_in(&mut tally);
        let first = histogram.read();
        assert_eq!(first.quantile(0.5), Some(0.000_25));
        assert_eq!(first.quantile(0.99), Some(0.000_25));
        assert_eq!(first.quantile(1.0), Some(0.025));
        tally.add(2_000, 10);
        histogram.take_in(&mut tally);
        let later = histogram.read().since(&first);
        assert_eq!((later.count, later.quantile(0.5)), (10, Some(0.002_5)));
    }
}
