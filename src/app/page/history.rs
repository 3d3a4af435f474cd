//! The last five minutes of one outbox: bounded, and a sample a second.

use std::collections::VecDeque;
use std::time::Instant;

use crate::relay::{BellState, Role, Snapshot, Stages, Timing};

/// Samples that are kept.
pub(super) const KEPT: usize = 300;
/// The stages that are drawn.
pub(super) const STAGES: [&str; 4] = ["wake", "fetch", "acknowledge", "delete"];

/// One second.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Rows a second that Kafka acknowledged.
    pub(super) rate: f64,
    /// Rows in the table; `None`: not known, or another relay's.
    pub(super) backlog: Option<f64>,
    /// Mean milliseconds of each stage, of the rows of this second.
    pub(super) stages: [Option<f64>; STAGES.len()],
    /// `None` where it does not lead.
    pub(super) bell: Option<BellState>,
}

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) samples: VecDeque<Sample>,
    last: Option<(Instant, u64, Stages)>,
}

impl History {
    /// One more second is over. The first reading gives no rate: there is nothing before it.
    pub(super) fn add(&mut self, relay: &Snapshot, now: Instant) {
        let published = relay.rows.published;
        let before = self.last.replace((now, published, relay.stages.clone()));
        let Some((then, earlier, stages)) = before else {
            return;
        };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
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

    /// Rows a second, now.
    pub(super) fn rate(&self) -> f64 {
        self.samples.back().map_or(0.0, |sample| sample.rate)
    }
}

/// Mean milliseconds of what came between.
fn mean(now: &Timing, then: &Timing) -> Option<f64> {
    let new = now.since(then);
    (new.count > 0).then(|| (new.seconds / new.count as f64).max(0.0) * 1e3)
}
