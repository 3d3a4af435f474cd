//! The states of a relay, and the kinds of problems that it can have.

use serde::Serialize;

/// Role of the relay of one outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It connects, or waits until PostgreSQL or Kafka is reachable.
    Starting,
    /// Another relay leads.
    Standby,
    /// It relays rows.
    Leading,
    /// It would lead, but the outbox is paused.
    Paused,
}

impl Role {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Standby, Self::Leading, Self::Paused];

    /// The name in metrics and texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Leading => "leading",
            Self::Paused => "paused",
        }
    }
}

/// Whether writers ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BellState {
    /// The relay polls, and writers are silent.
    Awake,
    /// Writers ring.
    Asleep,
    /// The relay waits for the end of a silent transaction, and new writers ring.
    Waiting,
}

impl BellState {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Awake, Self::Asleep, Self::Waiting];

    /// The name in metrics and texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Waiting => "waiting",
        }
    }
}

/// Kinds of problems of a relay that is alive. It has at most one problem of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// PostgreSQL or Kafka is unreachable, or something keeps the relay from starting.
    Start,
    /// A session that is no relay holds the leader's lock.
    Stranger,
    /// Another session holds the table locked.
    Locked,
    /// The outbox is paused.
    Pause,
    /// Acknowledged rows cannot be deleted.
    Delete,
    /// Refused rows cannot be moved to the dead letters.
    Park,
    /// The trigger is missing, disabled or of an earlier version.
    Trigger,
    /// The sweep found rows that nothing had announced.
    Unannounced,
}
