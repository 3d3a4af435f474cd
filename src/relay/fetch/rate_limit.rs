//! How many rows may leave in a second, in bites of a twentieth: smooth enough, and few fetches.

use std::time::{Duration, Instant};

/// A bite's share of a second.
const BITE: f64 = 0.05;
/// Bites that may be saved up, so that a late one is made up for.
const SAVED: f64 = 2.0;

#[derive(Debug, Clone)]
pub(crate) struct RateLimit {
    /// Rows a second; `None`: no limit.
    limit: Option<f64>,
    /// Rows that may be fetched now.
    credit: f64,
    updated: Instant,
}

impl RateLimit {
    pub(crate) fn new(limit: Option<usize>, now: Instant) -> Self {
        let limit = limit.map(|rows| rows as f64);
        Self {
            limit,
            credit: limit.map_or(0.0, bite),
            updated: now,
        }
    }

    pub(crate) fn allowed(&mut self, now: Instant) -> usize {
        let Some(limit) = self.limit else {
            return usize::MAX;
        };
        let earned = limit * (now - self.updated).as_secs_f64();
        self.credit = (self.credit + earned).min(bite(limit) * SAVED);
        self.updated = now;
        self.credit as usize
    }

    pub(crate) fn take(&mut self, rows: usize) {
        self.credit -= rows as f64;
    }

    /// When the next bite may be fetched, unless rows may be fetched now.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        let limit = self.limit?;
        if self.allowed(now) > 0 {
            return None;
        }
        let missing = (bite(limit) - self.credit) / limit;
        Some(now + Duration::from_secs_f64(missing.max(0.001)))
    }
}

fn bite(limit: f64) -> f64 {
    (limit * BITE).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes all rows that it may as soon as it may. Returns the rows of each second.
    fn greedy(limit: usize, seconds: usize) -> Vec<usize> {
        let begun = Instant::now();
        let mut rate = RateLimit::new(Some(limit), begun);
        let mut rows = vec![0; seconds];
        let mut now = begun;
        loop {
            let second = (now - begun).as_secs() as usize;
            let Some(so_far) = rows.get_mut(second) else {
                return rows;
            };
            // No fetch brings more.
            let bite = rate.allowed(now).min(4_000);
            rate.take(bite);
            *so_far += bite;
            now = rate.due(now).unwrap_or(now + SECOND / 1_000);
        }
    }

    #[test]
    fn each_second_has_its_rows_and_no_more() {
        for limit in [1, 2, 10, 500, 10_000, 1_000_000] {
            let bite = (limit / 20).max(1) * 2;
            for rows in greedy(limit, 20) {
                assert!(rows.abs_diff(limit) <= bite, "{rows} for {limit}");
            }
            let all: usize = greedy(limit, 20).iter().sum();
            assert!(all.abs_diff(limit * 20) <= bite, "{all} for {limit}");
        }
    }

    #[test]
    fn silence_saves_up_two_bites_and_a_lone_row_waits_for_nothing() {
        let begun = Instant::now();
        let mut rate = RateLimit::new(Some(100), begun);
        assert_eq!(rate.allowed(begun + 3600 * SECOND), 10);
        assert_eq!(rate.due(begun + 3600 * SECOND), None);
        let mut free = RateLimit::new(None, begun);
        free.take(1_000_000);
        assert_eq!(free.allowed(begun), usize::MAX);
        assert_eq!(free.due(begun), None);
    }
}
