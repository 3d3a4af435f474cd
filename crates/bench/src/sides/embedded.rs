//! The relay in this process, under an observer: the stations of rows on their way from the
//! writer's commit to a consumer, all by one clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use doorbell::Step::{Acknowledged, Deleted, Fetched, Woken};
use doorbell::{Observer, Relay, RelayError, Settings, Step};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const STEPS: [Step; 4] = [Woken, Fetched, Acknowledged, Deleted];

/// From each station of a row to the next.
pub(crate) const STAGES: [&str; 4] = [
    "commit → wake",
    "wake → fetch",
    "fetch → ack",
    "ack → delete",
];

/// Dropped, it ends where it is.
pub(crate) struct Embedded {
    relay: JoinSet<Result<(), RelayError>>,
    stop: CancellationToken,
    seen: Arc<Seen>,
}

/// What the relay told, as it came: it is sorted at the end.
#[derive(Default)]
struct Seen(Mutex<Vec<(Step, Vec<i64>, Instant)>>);

impl Observer for Seen {
    fn passed(&self, step: Step, rows: &mut dyn Iterator<Item = i64>, at: Instant) {
        let rows = rows.collect();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((step, rows, at));
    }
}

impl Embedded {
    pub(super) fn start(settings: Settings) -> Self {
        let seen = Arc::new(Seen::default());
        let stop = CancellationToken::new();
        let observer = Arc::clone(&seen) as Arc<dyn Observer>;
        let mut relay = JoinSet::new();
        relay.spawn(Relay::new(settings).observe(observer).run(stop.clone()));
        Self { relay, stop, seen }
    }

    /// Waits for its end, which does not come by itself.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match self.relay.join_next().await {
            Some(Ok(Err(error))) => error.into(),
            Some(Err(error)) => error.into(),
            _ => anyhow::anyhow!("the relay ended by itself"),
        }
    }

    /// Stops the relay, which deletes what is left.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Stations> {
        self.stop.cancel();
        self.relay.join_next().await.context("no relay")???;
        let mut told = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stations = Stations::default();
        for (step, rows, at) in told.drain(..) {
            let Some(station) = STEPS.iter().position(|known| *known == step) else {
                continue;
            };
            for row in rows {
                stations.0.entry(row).or_default()[station].get_or_insert(at);
            }
        }
        Ok(stations)
    }
}

/// When each row passed the relay's stations.
#[derive(Debug, Default)]
pub(crate) struct Stations(HashMap<i64, [Option<Instant>; 4]>);

impl Stations {
    pub(super) fn of_acknowledgements(all: impl IntoIterator<Item = (i64, Instant)>) -> Self {
        let all = all.into_iter();
        Self(
            all.map(|(row, at)| (row, [None, None, Some(at), None]))
                .collect(),
        )
    }

    pub(crate) fn acknowledged(&self, row: i64) -> Option<Instant> {
        self.0.get(&row)?[2]
    }

    /// The times between stations. What came before the station ahead of it counts as nothing: a
    /// fetch that was on its way when the commit returned, an acknowledgement that is told late.
    pub(crate) fn spans(&self, row: i64, committed: Instant) -> [Duration; 4] {
        let passed = self.0.get(&row).copied().unwrap_or_default();
        let mut before = committed;
        passed.map(|at| {
            let at = at.map_or(before, |at| at.max(before));
            let span = at - before;
            before = at;
            span
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_add_up_and_what_came_early_counts_as_nothing() {
        let begun = Instant::now();
        let at = |millis| Some(begun + Duration::from_millis(millis));
        let committed = begun + Duration::from_millis(10);
        let spans = |passed| {
            let stations = Stations(HashMap::from([(1, passed)]));
            stations.spans(1, committed).map(|span| span.as_millis())
        };
        assert_eq!(spans([at(11), at(13), at(17), at(40)]), [1, 2, 4, 23]);
        // fetched before the writer heard of its commit
        assert_eq!(spans([at(5), at(9), at(17), at(40)]), [0, 0, 7, 23]);
        assert_eq!(spans([None; 4]), [0; 4]);
    }
}
