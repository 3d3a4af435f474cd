//! How often a relay fetches while awake, and how long it stays awake. This decides what is cheap;
//! `sleep` decides what is safe.
//!
//! A ring costs its writer a lock on the whole server for its commit. A relay had better be awake
//! once rings a second, times the duration of a commit, pass a few percent.

use std::time::{Duration, Instant};

use super::sleep::Hints;

/// The pause after a fetch that found rows. The runtime's clock ticks each millisecond, and a wait
/// ends with the tick after its time (measured: 1.1 ms for this, 2.1 ms for one millisecond).
const SHORTEST_PAUSE: Duration = Duration::from_micros(300);
/// Above this many rows a second each fetch brings several, and more fetches bring nothing but
/// load. The pause grows by one microsecond for each further row a second...
const BUSY: f64 = 1_000.0;
/// ... up to this pause.
const BUSY_PAUSE: Duration = Duration::from_millis(4);
/// The pause grows up to this while no rows come.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// The share of time that rings may take from commits.
const RING_SHARE: f64 = 0.05;
/// Above this many rows a second, fetches take fewer statements than to wake up for each row.
const FREQUENT: f64 = 100.0;
/// The rate is an average over about this time.
const MEMORY: Duration = Duration::from_secs(1);
/// After this many usual distances between rows without a row, the relay tries to sleep...
const DISTANCES: f64 = 5.0;
/// ... within these bounds.
const STAY_AWAKE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// A ring that comes so long after the last row is answered with the wake lock held. While rows are
/// closer together, the next ones had better find the relay awake and stay silent.
const RARE: Duration = Duration::from_millis(10);
/// After refusals for this long, waiting for the wake lock is cheaper than asking for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The duration of a commit until it was measured: that of a disk neither fast nor slow.
const USUAL_COMMIT: Duration = Duration::from_millis(2);

/// The pace of the writers, and of the fetches.
#[derive(Debug, Clone)]
pub(crate) struct Polling {
    /// Fetch at this interval, whatever notifications arrive.
    poll: Option<Duration>,
    /// Rows of about the last second; each counts less with its age.
    recent: f64,
    /// When `recent` was brought up to date.
    updated: Instant,
    last_row: Instant,
    pause: Duration,
    /// The first and the last of the refusals without a break.
    refused: Option<(Instant, Instant)>,
}

impl Polling {
    pub(crate) fn new(poll: Option<Duration>, now: Instant) -> Self {
        Self {
            poll,
            recent: 0.0,
            updated: now,
            last_row: now,
            pause: SHORTEST_PAUSE,
            refused: None,
        }
    }

    /// Notes a fetch: how many rows it brought and how long it took.
    pub(crate) fn fetched(&mut self, rows: usize, took: Duration, now: Instant) {
        if rows > 0 {
            self.recent = self.rate(now) * MEMORY.as_secs_f64() + rows as f64;
            (self.updated, self.last_row) = (now, now);
            let above = Duration::from_secs_f64((self.rate(now) - BUSY).max(0.0) / 1e6);
            self.pause = above.clamp(SHORTEST_PAUSE, BUSY_PAUSE);
        } else {
            self.pause = self.pause.mul_f64(1.5);
        }
        // Fetches take at most a third of the time.
        self.pause = self.pause.max(took * 2).min(LONGEST_PAUSE);
    }

    /// Notes that another session held the wake lock at this time.
    pub(crate) fn refused(&mut self, now: Instant) {
        let first = match self.refused {
            // In between, the relay did not try to sleep.
            Some((_, last)) if now - last > 10 * LONGEST_PAUSE => now,
            Some((first, _)) => first,
            None => now,
        };
        self.refused = Some((first, now));
    }

    pub(crate) fn granted(&mut self) {
        self.refused = None;
    }

    pub(crate) fn pause(&self) -> Duration {
        self.poll.unwrap_or(self.pause)
    }

    /// The hints for `sleep`. `commit`: the duration of a writer's commit, if it is known.
    pub(crate) fn hints(&self, commit: Option<Duration>, now: Instant) -> Hints {
        let rate = self.rate(now);
        let frequent =
            rate > FREQUENT || rate * commit.unwrap_or(USUAL_COMMIT).as_secs_f64() > RING_SHARE;
        let (shortest, longest) = STAY_AWAKE;
        let stay_awake =
            Duration::from_secs_f64(DISTANCES / rate.max(1.0)).clamp(shortest, longest);
        let refused = self
            .refused
            .map_or(Duration::ZERO, |(first, _)| now - first);
        Hints {
            stay_awake: self.poll.is_some() || (frequent && now - self.last_row < stay_awake),
            block_on_lock: !frequent && refused >= PATIENCE,
            keep_lock: !frequent && now - self.last_row >= RARE,
        }
    }

    fn rate(&self, now: Instant) -> f64 {
        let age = (now - self.updated).as_secs_f64() / MEMORY.as_secs_f64();
        self.recent * (-age).exp() / MEMORY.as_secs_f64()
    }
}

#[cfg(test)]
#[path = "polling_test.rs"]
mod tests;
