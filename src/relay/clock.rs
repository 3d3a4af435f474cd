//! Points in time and waits that several files need.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

/// Whether a time of creation is a point in time: PostgreSQL also has `infinity` and `-infinity`.
pub(crate) fn is_finite(created_at: i64) -> bool {
    created_at != i64::MAX && created_at != i64::MIN
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn unix_micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| micros(since) as i64)
}

/// A tenth more or less, so that relays that were started together do not sweep together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    interval.mul_f64(0.9 + f64::from(nanos % 1_000) / 5_000.0)
}

/// Rests of more than this are no longer than twice the work.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long work rests that took so long and may take one part in `share` of the time: a stall of
/// the server must not stop it for minutes.
pub(crate) fn rest_after(took: Duration, share: u32) -> Duration {
    (took * share).min(LONGEST_REST.max(took * 2))
}

/// Sleeps until then, or for ever.
pub(crate) async fn at_time(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_stop_work_for_long() {
        let rest = |millis| rest_after(Duration::from_millis(millis), 20).as_millis();
        let rests = [1, 100, 250, 1_000, 6_000, 60_000].map(rest);
        assert_eq!(rests, [20, 2_000, 5_000, 5_000, 12_000, 120_000]);
    }
}
