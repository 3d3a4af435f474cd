//! The sessions of a leader, and when the idle ones are asked whether they are still there.

use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::{Leader, Listener, Reader, Result, WakeLock};

/// The bound on how long a relay does not notice that an idle session is gone: each one that only
/// listens or holds a lock is asked this often.
const PING_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct Sessions {
    pub(crate) listener: Listener,
    pub(crate) wake_lock: WakeLock,
    pub(crate) reader: Reader,
    pub(crate) leader: Leader,
}

impl Sessions {
    pub(crate) fn pids(&self) -> Vec<i32> {
        vec![
            self.listener.session.pid(),
            self.wake_lock.session.pid(),
            self.reader.session.pid(),
            self.leader.session.pid(),
        ]
    }

    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.listener.session.ping().await?;
        self.wake_lock.session.ping().await?;
        self.reader.session.ping().await?;
        self.leader.session.ping().await
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings(Duration);

/// The sessions that are asked during a term. They take turns, so that one of them notices a server
/// that vanished in a third of the interval.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Listener = 1,
    WakeLock = 2,
    Leader = 3,
}

impl Pings {
    /// Pings often enough for a standby to see a live leader active twice within `leader_timeout`.
    pub(crate) fn within(leader_timeout: Duration) -> Self {
        Self(PING_INTERVAL.min(leader_timeout / 2))
    }

    pub(crate) fn interval(self) -> Duration {
        self.0
    }

    /// The first ping of a session after a term has begun.
    pub(crate) fn first(self, asked: Asked) -> Instant {
        Instant::now() + self.0 / 3 * asked as u32
    }
}
