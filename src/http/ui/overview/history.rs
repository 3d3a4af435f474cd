//! The last five minutes of one outbox: a bounded number of samples, one a second.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::relay::{BellState, Role, Snapshot, Stages, Timing};

pub(crate) const KEPT: usize = 300;
pub(crate) const STAGES: [&str; 4] = ["wake", "fetch", "acknowledge", "delete"];

/// Values of one second.
#[derive(Debug, Clone)]
pub(crate) struct HistoryPoint {
    /// Seconds since 1970.
    pub(crate) at: f64,
    /// Acknowledged rows per second.
    pub(crate) rate: f64,
    /// Rows in the table; `None` if unknown, also because another relay leads.
    pub(crate) backlog: Option<f64>,
    /// Mean milliseconds of each stage, for the rows of this second.
    pub(crate) stages: [Option<f64>; STAGES.len()],
    /// `None` while this relay is paused or does not lead.
    pub(crate) bell: Option<BellState>,
}

/// Samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) samples: VecDeque<HistoryPoint>,
    last: Option<(Instant, u64, Stages)>,
}

impl History {
    /// Adds a sample. The first reading yields none, since rates need an earlier one.
    pub(crate) fn add(&mut self, relay: &Snapshot, now: Instant) {
        let published = relay.rows.published;
        let before = self.last.replace((now, published, relay.stages.clone()));
        let Some((then, earlier, stages)) = before else {
            return;
        };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        self.samples.push_back(HistoryPoint {
            at: at.unwrap_or_default().as_secs_f64(),
            rate: published.saturating_sub(earlier) as f64 / seconds.max(0.001),
            backlog: relay.backlog.as_ref().map(|it| it.rows as f64),
            stages: [
                mean(&relay.stages.wake, &stages.wake),
                mean(&relay.stages.fetch, &stages.fetch),
                mean(&relay.stages.acknowledge, &stages.acknowledge),
                mean(&relay.stages.delete, &stages.delete),
            ],
            bell: (relay.role == Role::Leading).then_some(relay.bell.state),
        });
    }

    pub(crate) fn rate(&self) -> f64 {
        self.samples.back().map_or(0.0, |sample| sample.rate)
    }
}

/// Returns the mean milliseconds between two readings.
fn mean(now: &Timing, then: &Timing) -> Option<f64> {
    let new = now.since(then);
    (new.count > 0).then(|| (new.seconds / new.count as f64).max(0.0) * 1e3)
}
