//! Rows on their way: from the writer's commit through the relay's stations to a consumer, all in this process and by one clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use crate::kafka::Arrivals;
use crate::relay::{Observer, Relay, RelayError, Step};

/// A row that has not arrived after so long is lost for the measurement.
const PATIENCE: Duration = Duration::from_secs(60);

const STEPS: [Step; 4] = [
    Step::Woken,
    Step::Fetched,
    Step::Acknowledged,
    Step::Deleted,
];

/// Rows by their ids, and when each commit had returned.
pub(super) type Committed = HashMap<i64, Instant>;
/// When each row passed the relay's stations.
pub(super) type Stations = HashMap<i64, [Option<Instant>; 4]>;

/// A relay in this process, and a consumer behind it.
pub(super) struct Watch {
    relay: JoinSet<Result<(), RelayError>>,
    stop: CancellationToken,
    seen: Arc<Seen>,
    arrivals: Arrivals,
    arrived: HashMap<i64, Instant>,
}

/// What the relay told, as it came: it is sorted when nobody waits for it.
#[derive(Default)]
struct Seen(Mutex<Vec<(Step, Vec<i64>, Instant)>>);

impl Observer for Seen {
    fn passed(&self, step: Step, rows: &mut dyn Iterator<Item = i64>, at: Instant) {
        let rows = rows.collect();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((step, rows, at));
    }
}

impl Watch {
    pub(super) fn begin(
        stage: &Stage,
        topic: &str,
        receipts: Option<&str>,
    ) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let stop = CancellationToken::new();
        let settings = stage.relay_settings(topic, receipts)?;
        let kafka = settings.kafka.clone();
        let observer = Arc::clone(&seen) as Arc<dyn Observer>;
        let mut relay = JoinSet::new();
        relay.spawn(Relay::new(settings).observe(observer).run(stop.clone()));
        Ok(Self {
            relay,
            stop,
            seen,
            arrivals: Arrivals::of(&kafka, topic, stage.topics.partitions())?,
            arrived: HashMap::new(),
        })
    }

    /// Waits until the consumer has all of these rows.
    pub(super) async fn until_all(&mut self, committed: &Committed) -> anyhow::Result<()> {
        let mut missing = committed
            .keys()
            .filter(|id| !self.arrived.contains_key(id))
            .count();
        while missing > 0 {
            let arrival = tokio::select! {
                arrival = timeout(PATIENCE, self.arrivals.next()) => arrival,
                ended = self.relay.join_next() => {
                    ended.context("no relay")???;
                    bail!("the relay ended by itself");
                }
            };
            let Ok(Some((id, at))) = arrival else {
                bail!(
                    "{missing} of {} rows did not arrive within {PATIENCE:?}",
                    committed.len()
                );
            };
            // The first time counts, should a row come twice.
            if self.arrived.insert(id, at).is_none() && committed.contains_key(&id) {
                missing -= 1;
            }
        }
        Ok(())
    }

    /// Stops the relay, which deletes what is left.
    pub(super) async fn end(mut self) -> anyhow::Result<(HashMap<i64, Instant>, Stations)> {
        self.stop.cancel();
        while let Some(ended) = self.relay.join_next().await {
            ended??;
        }
        let told = std::mem::take(&mut *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stations = Stations::new();
        for (step, rows, at) in told {
            let Some(station) = STEPS.iter().position(|known| *known == step) else {
                continue;
            };
            for row in rows {
                stations.entry(row).or_default()[station].get_or_insert(at);
            }
        }
        Ok((self.arrived, stations))
    }
}

/// The time between stations. What came before the station ahead of it counts as nothing: a fetch that was on its way when the commit
/// returned, an acknowledgement that is told late.
pub(super) fn spans(committed: Instant, passed: [Option<Instant>; 4]) -> [Duration; 4] {
    let mut before = committed;
    passed.map(|at| {
        let at = at.map_or(before, |at| at.max(before));
        let span = at - before;
        before = at;
        span
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_add_up_and_what_came_early_counts_as_nothing() {
        let begun = Instant::now();
        let at = |millis| Some(begun + Duration::from_millis(millis));
        let millis = |spans: [Duration; 4]| spans.map(|span| span.as_millis());
        let in_order = [at(11), at(13), at(17), at(40)];
        let committed = begun + Duration::from_millis(10);
        assert_eq!(millis(spans(committed, in_order)), [1, 2, 4, 23]);
        // fetched before the writer heard of its commit
        let early = [at(5), at(9), at(17), at(40)];
        assert_eq!(millis(spans(committed, early)), [0, 0, 7, 23]);
        assert_eq!(millis(spans(committed, [None; 4])), [0; 4]);
    }
}
