//! How long to wait before the next try.

use std::time::Duration;

/// A wait that doubles from try to try, up to a bound.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

/// Short enough to make the restart of a server hardly noticeable.
const FIRST: Duration = Duration::from_millis(100);
/// Long enough for a server that is down for hours, short enough to notice its return.
const LAST: Duration = Duration::from_secs(5);

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LAST);
        wait
    }

    /// Waits as long as it may at once: each try is a burden.
    pub(crate) fn longest(&mut self) -> Duration {
        self.next = LAST;
        LAST
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next(), FIRST);
    }
}
