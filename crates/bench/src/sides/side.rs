//! Who is measured.

use serde::Serialize;

use crate::fixture::Rows;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// The limit: the same libraries with nothing around them.
    Bare,
    Relay,
    /// The relay of an earlier version, from a program that the user names.
    EarlierRelay,
    /// The relay in this process, where its stages can be seen.
    Embedded,
    /// The peer with its defaults.
    DebeziumDefault,
    /// With batches and queues for throughput, and a short poll.
    DebeziumTuned,
    /// Tuned, and never waiting: the lowest latency, at the price of CPU while idle.
    DebeziumEager,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Relay | Self::Embedded => "relay",
            Self::EarlierRelay => "relay, earlier",
            Self::DebeziumDefault => "Debezium, default",
            Self::DebeziumTuned => "Debezium, tuned",
            Self::DebeziumEager => "Debezium, lowest latency",
        }
    }

    pub(crate) fn is_debezium(self) -> bool {
        matches!(
            self,
            Self::DebeziumDefault | Self::DebeziumTuned | Self::DebeziumEager
        )
    }

    pub(crate) fn rows(self) -> Rows {
        if self.is_debezium() {
            Rows::Peer
        } else {
            Rows::Plain(200)
        }
    }
}
