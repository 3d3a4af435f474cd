//! How long to wait before the next try.

use std::time::Duration;

/// Doubles from try to try, up to a bound.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

/// Short enough that a restart of a server is hardly noticed.
const FIRST: Duration = Duration::from_millis(100);
/// Long enough that a server which is down for hours is not bothered, short enough for whoever waits for its return.
const LAST: Duration = Duration::from_secs(5);

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LAST);
        wait
    }

    /// It worked: the next failure starts from the beginning.
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
