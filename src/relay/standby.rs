//! Standing by: a relay that waits for the leader's lock, and watches that the leader lives.

use std::time::Duration;

use tracing::{debug, warn};

use super::shared::Counters;
use super::spread::{Lead, Spread};
use super::vitals::Ailment;
use crate::postgres::{Candidate, Result, Silenced, Table, Waited};

/// Waits until the lock is ours.
pub(crate) async fn stand_by(
    candidate: &mut Candidate,
    table: &Table,
    spread: &Spread,
    leader_timeout: Duration,
    counters: &Counters,
) -> Result<Lead> {
    if let Some(stranger) = candidate.stranger(table).await? {
        let words = format!(
            "the leader's lock is held by a session that is no relay: {:?}, server process {}",
            stranger.application,
            stranger.pid.map_or("unknown".into(), |pid| pid.to_string())
        );
        counters.suffers(Ailment::Stranger, &words);
        warn!(
            application = stranger.application,
            pid = stranger.pid,
            "the leader's lock is held by a session that is no relay: nothing is delivered until it ends; ask `doorbell status`"
        );
    }
    loop {
        match candidate.wait(table, leader_timeout).await? {
            Waited::NotYet => {}
            Waited::Silenced(leader) => tell(&leader),
            Waited::Granted => match spread.keep(candidate, table).await? {
                Some(lead) => return Ok(lead),
                None => debug!("the lock is left to a relay that leads fewer outboxes"),
            },
        }
    }
}

fn tell(leader: &Silenced) {
    warn!(
        leader = leader.application,
        address = leader.address,
        sessions = leader.sessions,
        silent = ?leader.silent,
        "the leader has said nothing for leader_timeout, so it is frozen: its sessions are ended, and a standby takes over"
    );
}
