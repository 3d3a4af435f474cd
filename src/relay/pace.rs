//! How fast a relay that is awake looks, and how long it stays awake. It decides what is cheap; what is safe is `doze`'s.
//!
//! A ring costs its writer a lock of the whole server for as long as the commit takes. So rings are fine while they are rare, and to be awake is
//! better once their number per second, times the duration of a commit, passes a few percent. Times come in as arguments.

use std::time::{Duration, Instant};

use super::doze::Mood;

/// The pause after a fetch that found something. The runtime's clock ticks each millisecond and a wait ends with the tick after its time (measured: 1.1 ms
/// for this, 2.1 ms for one millisecond).
const SHORTEST_PAUSE: Duration = Duration::from_micros(300);
/// Above this many rows a second each fetch brings several, and more fetches bring nothing but load: one microsecond more for each row a second more...
const BUSY: f64 = 1_000.0;
/// ... up to this pause.
const BUSY_PAUSE: Duration = Duration::from_millis(4);
/// The pause that it grows to while nothing comes.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Rings may take this share of the time that commits have.
const RING_SHARE: f64 = 0.05;
/// Above this many rows a second, to look every few milliseconds takes fewer statements than to fall asleep and wake up for each.
const FREQUENT: f64 = 100.0;
/// How long a row counts: the rate is an average over about this time.
const MEMORY: Duration = Duration::from_secs(1);
/// Awake without a row for so many of the usual distances between rows, the relay tries to sleep...
const DISTANCES: f64 = 5.0;
/// ... within these bounds.
const LINGER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// After so long without K, waiting for it is cheaper than asking.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a commit takes, until it was measured: a disk that is neither fast nor slow.
const USUAL_COMMIT: Duration = Duration::from_millis(2);

/// What the relay knows about the pace of its writers.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Fetch at this distance, whatever rings.
    poll: Option<Duration>,
    /// Rows, each fading with its age: those of the last second or so.
    recent: f64,
    /// When `recent` was brought up to date.
    updated: Instant,
    last_row: Instant,
    pause: Duration,
    /// The first and the last of the refusals without a break.
    refused: Option<(Instant, Instant)>,
}

impl Pace {
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

    /// A fetch is over that took so long and brought so many rows.
    pub(crate) fn fetched(&mut self, rows: usize, took: Duration, now: Instant) {
        if rows > 0 {
            self.recent = self.rate(now) * MEMORY.as_secs_f64() + rows as f64;
            (self.updated, self.last_row) = (now, now);
            let above = Duration::from_secs_f64((self.rate(now) - BUSY).max(0.0) / 1e6);
            self.pause = above.clamp(SHORTEST_PAUSE, BUSY_PAUSE);
        } else {
            self.pause = self.pause.mul_f64(1.5);
        }
        // Not more than a third of the time in the database.
        self.pause = self.pause.max(took * 2).min(LONGEST_PAUSE);
    }

    /// Somebody else held K at this time.
    pub(crate) fn refused(&mut self, now: Instant) {
        let first = match self.refused {
            // Between them the relay did not want to sleep.
            Some((_, last)) if now - last > 10 * LONGEST_PAUSE => now,
            Some((first, _)) => first,
            None => now,
        };
        self.refused = Some((first, now));
    }

    /// K was granted.
    pub(crate) fn granted(&mut self) {
        self.refused = None;
    }

    /// How long to wait before the next fetch.
    pub(crate) fn pause(&self) -> Duration {
        self.poll.unwrap_or(self.pause)
    }

    /// What the clock says. `commit` is what a commit of the writers takes, if that is known.
    pub(crate) fn mood(&self, commit: Option<Duration>, now: Instant) -> Mood {
        let rate = self.rate(now);
        let frequent =
            rate > FREQUENT || rate * commit.unwrap_or(USUAL_COMMIT).as_secs_f64() > RING_SHARE;
        let (shortest, longest) = LINGER;
        let linger = Duration::from_secs_f64(DISTANCES / rate.max(1.0)).clamp(shortest, longest);
        let refused = self
            .refused
            .map_or(Duration::ZERO, |(first, _)| now - first);
        Mood {
            linger: self.poll.is_some() || (frequent && now - self.last_row < linger),
            weary: !frequent && refused >= PATIENCE,
        }
    }

    /// Rows a second.
    fn rate(&self, now: Instant) -> f64 {
        let age = (now - self.updated).as_secs_f64() / MEMORY.as_secs_f64();
        self.recent * (-age).exp() / MEMORY.as_secs_f64()
    }
}

#[cfg(test)]
#[path = "pace_test.rs"]
mod tests;
