//! What a relay knows of itself, and whether that is well.

use serde::Serialize;

use super::Source;
use crate::app::status::held;
use crate::relay::{Readiness, Snapshot};

/// Times the bound from which on rows that do not move are stuck: a report or a backup may take some minutes.
const OLD_SNAPSHOT: u32 = 5;

/// An outbox's relay, and whether it is well.
#[derive(Debug, Serialize)]
pub(in crate::app) struct Judged {
    #[serde(flatten)]
    pub(in crate::app) relay: Snapshot,
    pub(in crate::app) readiness: Readiness,
}

impl Source {
    /// Each outbox with its judgement.
    pub(super) fn judged(&self) -> Vec<Judged> {
        let judge = |relay: Snapshot| {
            let mut readiness = Readiness::of(&relay, self.stuck_after);
            readiness.warnings.extend(self.old_snapshot(&relay));
            Judged { relay, readiness }
        };
        self.vitals.iter().map(|it| judge(it.snapshot())).collect()
    }

    /// Who keeps dead rows from being cleaned up, and for so long that it slows everything down one day.
    fn old_snapshot(&self, relay: &Snapshot) -> Option<String> {
        let old = (self.stuck_after * OLD_SNAPSHOT).as_secs_f64();
        let is_old = |seconds: Option<f64>| seconds.is_none_or(|seconds| seconds >= old);
        let pin = relay.pin.as_ref().filter(|pin| is_old(pin.seconds))?;
        let (held, end) = held(pin);
        Some(format!(
            "{held}: rows that were sent since cannot be cleaned up, and looking into the table becomes slow; {end}"
        ))
    }
}
