//! A leader that waits for Kafka says a word now and then: its standbys would take it for frozen, and it would not learn that its own session is gone.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::shared::Pings;
use crate::postgres::{Leader, Result};

/// When the next word is due.
pub(crate) struct Voice {
    interval: Duration,
    next: Instant,
}

impl Voice {
    /// Its session has just said something.
    pub(crate) fn new(pings: Pings) -> Self {
        let interval = pings.interval();
        Self {
            interval,
            next: Instant::now() + interval,
        }
    }

    /// Waits for something that needs no session. When the leader's is lost, the wait is given up.
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
                    leader.ping().await?;
                    self.next = Instant::now() + self.interval;
                }
            }
        }
    }
}
