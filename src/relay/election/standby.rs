//! A standby: waits for the leader lock, and checks that the leader is active.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::balance::{Balance, LeadershipSlot};
use crate::postgres::{Candidate, Holder, Result, Table, Waited};
use crate::relay::monitor::ProblemKind;
use crate::relay::term_state::Counters;

/// The interval at which a standby without a broker looks for one.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until a broker is reachable: a relay without one must not keep the lock from others.
async fn await_kafka(candidate: &mut Candidate, counters: &Counters) -> Result<()> {
    let mut told = false;
    while let Some((_, reason)) = counters.kafka.unreachable_since() {
        if !std::mem::replace(&mut told, true) {
            warn!(
                error = reason,
                "standby: Kafka is unreachable, so this relay does not ask for the lock"
            );
        }
        sleep(LOOK).await;
        candidate.ping().await?;
    }
    if told {
        info!("standby: Kafka answers again");
    }
    Ok(())
}

/// Waits until this relay holds the leader lock.
pub(crate) async fn stand_by(
    candidate: &mut Candidate,
    table: &Table,
    balance: &Balance,
    leader_timeout: Duration,
    counters: &Counters,
) -> Result<LeadershipSlot> {
    let mut known = None;
    loop {
        await_kafka(candidate, counters).await?;
        let stranger = candidate.stranger(table).await?;
        tell_of(stranger.as_ref(), &mut known, counters);
        match candidate.wait(table, leader_timeout).await? {
            Waited::NotYet => {}
            Waited::Terminated(leader) => warn!(
                leader = leader.application,
                address = leader.address,
                sessions = leader.sessions,
                silent = ?leader.silent,
                "leader unresponsive for leader_timeout; terminating its sessions and taking over"
            ),
            Waited::Granted if counters.kafka.unreachable_since().is_some() => {
                candidate.yield_lead(table).await?;
            }
            Waited::Granted => match balance.keep(candidate, table).await? {
                Some(lead) => return Ok(lead),
                None => debug!("yielding the lock to a relay that leads fewer outboxes"),
            },
        }
    }
}

/// Warns of a holder of the lock that is not a relay, once for each.
fn tell_of(stranger: Option<&Holder>, known: &mut Option<Option<i32>>, counters: &Counters) {
    let Some(stranger) = stranger else {
        if known.take().is_some() {
            counters.resolve(ProblemKind::Stranger);
        }
        return;
    };
    if known.replace(stranger.pid) == Some(stranger.pid) {
        return;
    }
    let pid = stranger.pid;
    let user = stranger.user.as_deref().unwrap_or("unknown");
    let words = format!(
        "the leader lock is held by a session that is not a relay: {:?}, server process {}, role {user}",
        stranger.application,
        pid.map_or("unknown".into(), |pid| pid.to_string()),
    );
    counters.raise(ProblemKind::Stranger, &words);
    warn!(
        application = stranger.application,
        pid,
        user,
        "the leader lock is held by a session that is not a relay: nothing is delivered until that session ends; see `doorbell status`"
    );
}
