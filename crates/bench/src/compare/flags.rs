//! What is to be measured, as the flags of `doorbell bench compare` say.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// The flags of `doorbell bench compare`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CompareFlags {
    /// Rows of one drain
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) rows: i64,
    /// Rows of the large backlog; the small one has a hundredth
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(i64).range(100..))]
    pub(super) scale_rows: i64,
    /// How often everything is measured, in another order each time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Rows inserted one by one, for each side and all rounds together
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) samples: u32,
    /// Milliseconds from the arrival of such a row to the next: long enough for the relay to be
    /// asleep again
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) gap_ms: u64,
    /// Length of a steady stream of rows, for each side and rate in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) seconds: u32,
    /// Rows a second of the steady streams, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 30, 100, 1_000, 3_000], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rates: Vec<u32>,
    /// Also measure this `doorbell`, of an earlier version: drain, latency, steady rates
    #[arg(long, value_name = "PATH")]
    pub(super) earlier: Option<PathBuf>,
    /// How often the leader is killed, and how often it is stopped, in each delivery mode
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) kills: u32,
    /// Length of the idleness that is measured while the relay is observed and while it is not
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) idle_seconds: u32,
    /// How the relay is observed where that is measured, each in turn with a relay that is not
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Watcher::Http, Watcher::Traces, Watcher::Both])]
    pub(super) watch: Vec<Watcher>,
    /// Also measure Debezium
    #[arg(long)]
    pub(super) peers: bool,
    /// Measure only this
    #[arg(long, value_enum)]
    pub(super) only: Option<Comparison>,
    /// A run of seconds that shows that the bench works; its numbers say nothing
    #[arg(long)]
    pub(super) quick: bool,
    /// Write the tables, the plots and the raw figures there
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    #[serde(skip)]
    pub(super) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Comparison {
    /// A backlog
    Drain,
    /// One row now and then
    Latency,
    /// Rows at steady rates
    Steady,
    /// A large backlog and a small one
    Scale,
    /// A backlog beside a held snapshot
    Xmin,
    /// A leader that is killed, or stopped
    Takeover,
    /// A backlog, observed and not
    Observed,
}

/// How the relay is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Watcher {
    /// Not at all: what the others are compared with.
    #[value(skip)]
    #[serde(rename = "nobody")]
    Alone,
    /// Metrics, health and status every second, and one open page.
    Http,
    /// A collector takes a span for each fetch, sending and delete: every batch is sampled.
    Traces,
    Both,
}

impl CompareFlags {
    pub(super) fn obey_quick(&mut self) {
        if self.quick {
            (self.rows, self.scale_rows) = (5_000, 20_000);
            (self.rounds, self.samples, self.seconds) = (1, 20, 1);
            (self.kills, self.idle_seconds) = (2, 1);
            self.rates = vec![10, 1_000];
        }
    }

    /// Rows that Debezium carries before any that count.
    pub(super) fn warm_up(&self) -> i64 {
        self.rows.min(50_000)
    }
}

impl Watcher {
    pub(super) fn asks(self) -> bool {
        matches!(self, Self::Http | Self::Both)
    }

    pub(super) fn traces(self) -> bool {
        matches!(self, Self::Traces | Self::Both)
    }
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "alone",
            Self::Http => "metrics, health and page",
            Self::Traces => "traces",
            Self::Both => "all of it",
        })
    }
}
