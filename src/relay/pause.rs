//! A pause: between two terms, with the sessions of a leader and no producer.
//!
//! Nobody holds the key of the bell meanwhile, so writers are silent, as they are while no relay runs; the term that follows begins, as each
//! does, with a fetch of everything. What ends the pause rings with a word, which the session that listens hears: nothing is polled.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::error::RelayError;
use super::fetcher::jittered;
use super::shared::{Counters, Pings};
use super::term::Sessions;
use super::vitals::{Ailment, Role};
use crate::postgres::{Entry, Ring, Table};

/// Waits as long as the outbox is paused, or until the relay is to stop; whether it did stop.
pub(crate) async fn while_paused(
    sessions: &mut Sessions,
    table: &Table,
    sweep: Duration,
    pings: Pings,
    stop: &CancellationToken,
    counters: &Counters,
) -> Result<bool, RelayError> {
    let mut told = false;
    // A leader that is paused says a word now and then, too: its standbys listen for it.
    let mut next_ping = Instant::now() + pings.interval();
    loop {
        let Entry { oid, pause, .. } = sessions.bell.entry(table).await?;
        if oid != Some(table.oid) {
            return Err(RelayError::TableChanged);
        }
        let Some(pause) = pause else {
            if told {
                info!("resumed");
                counters.became(Role::Leading, "resumed");
            }
            return Ok(false);
        };
        if told {
            debug!("swept: paused");
        } else {
            told = true;
            let by = pause.by.as_deref().unwrap_or("somebody");
            let reason = pause.reason.as_deref().unwrap_or("no reason given");
            let words = format!("paused by {by}: {reason}; `doorbell resume` ends it");
            counters.became(Role::Paused, "paused");
            counters.suffers(Ailment::Pause, &words);
            warn!(
                since = pause.since,
                by = pause.by,
                reason = pause.reason,
                "paused: no row is fetched before `doorbell resume`"
            );
            // Writers that find it taken would ring at nobody.
            sessions.key.release().await?;
        }
        let look = Instant::now() + jittered(sweep);
        if !until_a_look(sessions, look, pings, &mut next_ping, stop).await? {
            return Ok(true);
        }
    }
}

/// Waits until the flag is to be looked at; `false` when the relay is to stop.
async fn until_a_look(
    sessions: &mut Sessions,
    look: Instant,
    pings: Pings,
    next_ping: &mut Instant,
    stop: &CancellationToken,
) -> Result<bool, RelayError> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(false),
            error = sessions.leader.deposed() => return Err(error.into()),
            error = sessions.key.lost() => return Err(error.into()),
            ring = sessions.bell.rung() => if ring? == Ring::Flag {
                return Ok(true);
            },
            () = sleep_until(look) => return Ok(true),
            () = sleep_until(*next_ping) => {
                *next_ping = Instant::now() + pings.interval();
                sessions.bell.ping().await?;
                sessions.key.ping().await?;
                sessions.reader.ping().await?;
                sessions.leader.ping().await?;
            }
        }
    }
}
