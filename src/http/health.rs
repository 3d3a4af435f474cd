//! Health of each outbox: the snapshot of its relay, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::describe::held;
use crate::relay::{Monitor, Readiness, Snapshot};

/// Multiple of `stuck_after` from which on an old snapshot is reported: a report or a backup may
/// take some minutes.
const OLD_SNAPSHOT: u32 = 5;

/// Snapshot of an outbox's relay, with its readiness and its warnings.
#[derive(Debug, Serialize)]
pub(crate) struct OutboxHealth {
    #[serde(flatten)]
    pub(crate) relay: Snapshot,
    pub(crate) readiness: Readiness,
}

pub(super) fn assess(all: &[Arc<Monitor>], stuck_after: Duration) -> Vec<OutboxHealth> {
    let assess = |relay: Snapshot| {
        let mut readiness = Readiness::of(&relay, stuck_after);
        readiness.warnings.extend(old_snapshot(&relay, stuck_after));
        OutboxHealth { relay, readiness }
    };
    all.iter().map(|it| assess(it.snapshot())).collect()
}

/// Warns of a snapshot that keeps vacuum from removing dead rows, once it is old.
fn old_snapshot(relay: &Snapshot, stuck_after: Duration) -> Option<String> {
    let old = (stuck_after * OLD_SNAPSHOT).as_secs_f64();
    let is_old = |seconds: Option<f64>| seconds.is_none_or(|seconds| seconds >= old);
    let pin = relay.pin.as_ref().filter(|pin| is_old(pin.seconds))?;
    let (held, end) = held(pin);
    Some(format!(
        "{held}: vacuum cannot remove rows that were deleted since, so the table grows; fetches stay fast, but sweeps and a takeover take longer; {end}"
    ))
}
