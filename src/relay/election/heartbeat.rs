//! Keeps a leader's session active while it waits for Kafka. Without that, standbys would take the
//! leader for unresponsive, and it would not notice the loss of its session.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::postgres::{Leader, Result};
use crate::relay::sessions::Pings;

/// When the next ping of the leader's session is due.
pub(crate) struct Heartbeat {
    interval: Duration,
    next: Instant,
}

impl Heartbeat {
    /// Starts with a session that was active just now.
    pub(crate) fn new(pings: Pings) -> Self {
        let interval = pings.interval();
        Self {
            interval,
            next: Instant::now() + interval,
        }
    }

    /// Waits for something that needs no session, pings the leader's, and ends with its loss.
    pub(crate) async fn during<T>(
        &mut self,
        leader: &mut Leader,
        wait: impl Future<Output = T>,
    ) -> Result<T> {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                () = sleep_until(self.next) => {
                    leader.session.ping().await?;
                    self.next = Instant::now() + self.interval;
                }
            }
        }
    }
}
