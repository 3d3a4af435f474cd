//! What is to be measured, and what that will write.

use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use serde::Serialize;

use super::flags::BenchFlags;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// Commits a second without a trigger, with one that always notifies, and with the bell
    Writers,
    /// Rows a second until a backlog is empty
    Drain,
    /// From a commit to a consumer
    Latency,
    /// What a relay costs while nothing happens
    Idle,
}

impl Part {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Writers => "writers",
            Self::Drain => "drain",
            Self::Latency => "latency",
            Self::Idle => "idle",
        }
    }
}

/// How often a consumer may see an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// More than once around a crash
    AtLeastOnce,
    /// Once, for readers of committed records
    ExactlyOnce,
}

impl Mode {
    /// Behind what was measured; nothing for the usual one.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "",
            Self::ExactlyOnce => ", exactly once",
        }
    }
}

/// What is measured, all decided.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) quick: bool,
    /// Of the pairs of `writers`.
    pub(super) writer_rounds: u32,
    pub(super) drain_rounds: u32,
    #[serde(rename = "writer_seconds", serialize_with = "seconds")]
    pub(super) writing: Duration,
    #[serde(rename = "warm_up_seconds", serialize_with = "seconds")]
    pub(super) warm_up: Duration,
    pub(super) clients: Vec<u32>,
    #[serde(skip)]
    pub(super) commit_delay: Option<Duration>,
    pub(super) insert_rows: u64,
    /// Sessions that start at once on a sleeping relay.
    pub(super) ramp_clients: u32,
    pub(super) payloads: Vec<u32>,
    pub(super) rows: u64,
    pub(super) backlog_bytes: u64,
    pub(super) rates: Vec<u32>,
    #[serde(rename = "rate_seconds", serialize_with = "seconds")]
    pub(super) at_rate: Duration,
    pub(super) single_rows: u32,
    /// Commits ahead of each load, not counted: connections to the leaders of partitions, plans, caches, and on fresh brokers the compilation of what
    /// they do in a transaction.
    pub(super) warm_up_rows: u32,
    #[serde(rename = "single_gaps_seconds", serialize_with = "all_seconds")]
    pub(super) single_gaps: Vec<Duration>,
    #[serde(rename = "idle_seconds", serialize_with = "seconds")]
    pub(super) idle: Duration,
    pub(super) partitions: i32,
    pub(super) deliveries: Vec<Mode>,
}

/// Around each row: its header, key, index entry.
const ROW_OVERHEAD: u64 = 150;
/// The payload of the writers' events.
const EVENT_BYTES: u64 = 200;
/// Between the commits ahead of a load.
pub(super) const WARM_UP_GAP: Duration = Duration::from_millis(5);
/// More than two cores do; the estimate of what is written must not be too low.
const COMMITS_A_SECOND: u64 = 20_000;

impl Plan {
    /// The flags' word, and defaults where they say nothing.
    pub(super) fn of(flags: &BenchFlags) -> Self {
        let quick = flags.quick;
        let list = |given: &[u32], full: &[u32], small: &[u32]| match (given, quick) {
            ([], false) => full.to_vec(),
            ([], true) => small.to_vec(),
            (given, _) => given.to_vec(),
        };
        let seconds = |full, small| Duration::from_millis(if quick { small } else { full });
        let parts = match flags.parts.as_slice() {
            [] => Part::value_variants().to_vec(),
            parts => Part::value_variants()
                .iter()
                .copied()
                .filter(|part| parts.contains(part))
                .collect(),
        };
        let rounds = |full| flags.rounds.unwrap_or(if quick { 1 } else { full });
        let rows =
            |given: Option<u64>, full, small| given.unwrap_or(if quick { small } else { full });
        Self {
            parts,
            quick,
            writer_rounds: rounds(7),
            drain_rounds: rounds(3),
            writing: flags.duration.unwrap_or(seconds(5_000, 300)),
            warm_up: seconds(1_000, 100),
            clients: list(&flags.clients, &[1, 8, 32, 64], &[1, 4]),
            commit_delay: flags.commit_delay,
            insert_rows: rows(flags.insert_rows, 1_000_000, 5_000),
            ramp_clients: if quick { 8 } else { 64 },
            payloads: list(
                &flags.payload,
                &[100, 200, 1_000, 10_000],
                &[100, 200, 1_000, 10_000],
            ),
            rows: rows(flags.rows, 500_000, 2_000),
            backlog_bytes: flags.backlog.unwrap_or(500_000_000),
            rates: list(&flags.rates, &[100, 1_000, 5_000, 10_000], &[100, 1_000]),
            at_rate: flags.duration.unwrap_or(seconds(10_000, 500)),
            single_rows: flags.single_rows.unwrap_or(if quick { 5 } else { 60 }),
            warm_up_rows: if quick { 20 } else { 1_000 },
            single_gaps: match flags.single_gap.as_slice() {
                [] => vec![seconds(1_000, 50)],
                gaps => gaps.to_vec(),
            },
            idle: flags.idle.unwrap_or(seconds(60_000, 1_000)),
            partitions: flags.partitions.unwrap_or(6),
            deliveries: match flags.delivery.as_slice() {
                [] => vec![Mode::AtLeastOnce],
                modes => {
                    let mut modes = modes.to_vec();
                    modes.sort_unstable();
                    modes.dedup();
                    modes
                }
            },
        }
    }

    pub(super) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The number of clients whose pairs are repeated: 32, or 64 with a delay, or the most there are.
    pub(super) fn pair_clients(&self) -> u32 {
        let wanted = if self.commit_delay.is_some() { 64 } else { 32 };
        let most = self.clients.iter().copied().max().unwrap_or(wanted);
        let has = self.clients.contains(&wanted);
        if has { wanted } else { most }
    }

    /// Rows of a backlog of payloads of so many bytes.
    pub(super) fn backlog_rows(&self, payload: u32) -> u64 {
        self.rows
            .min(self.backlog_bytes / u64::from(payload))
            .max(1)
    }

    /// The payload whose drain is repeated with an old snapshot held: 200 bytes, or the first there is.
    pub(super) fn held_payload(&self) -> u32 {
        let first = self.payloads.first().copied().unwrap_or(200);
        if self.payloads.contains(&200) {
            200
        } else {
            first
        }
    }

    /// The most bytes that PostgreSQL has on its disk for it at one time: tables are emptied in between. Twice, because of the WAL.
    pub(super) fn postgres_bytes(&self) -> u64 {
        let mut most = 0;
        if self.wants(Part::Writers) {
            let commits = COMMITS_A_SECOND
                .saturating_mul(self.writing.as_secs() + self.warm_up.as_secs() + 1);
            // the business row as well
            let rows = commits.saturating_mul(2).max(self.insert_rows);
            most = rows.saturating_mul(EVENT_BYTES + ROW_OVERHEAD);
        }
        if self.wants(Part::Drain) {
            most = most.max(self.backlogs().max().unwrap_or(0));
        }
        if self.wants(Part::Latency) {
            most = most.max(self.rate_rows().saturating_mul(EVENT_BYTES + ROW_OVERHEAD));
        }
        most.saturating_mul(2)
    }

    /// The bytes that the brokers get, in one replica. Topics are deleted in between, but their files stay for a while.
    pub(super) fn broker_bytes(&self) -> u64 {
        let modes = self.deliveries.len() as u64;
        let mut all: u64 = 0;
        if self.wants(Part::Writers) {
            let runs = 4 * self.clients.len() as u64 + 3 * u64::from(self.writer_rounds);
            let seconds = self.writing.as_secs() + self.warm_up.as_secs() + 1;
            let rows = runs * seconds;
            all += rows.saturating_mul(COMMITS_A_SECOND * (EVENT_BYTES + ROW_OVERHEAD));
        }
        if self.wants(Part::Drain) {
            let held = self.backlog_rows(self.held_payload())
                * (u64::from(self.held_payload()) + ROW_OVERHEAD);
            let once = self.backlogs().fold(held, u64::saturating_add);
            all = all.saturating_add(
                once.saturating_mul(u64::from(self.drain_rounds))
                    .saturating_mul(modes),
            );
        }
        if self.wants(Part::Latency) {
            let rows = self.rate_rows().saturating_mul(modes);
            all = all.saturating_add(rows.saturating_mul(EVENT_BYTES + ROW_OVERHEAD));
        }
        all
    }

    /// About how long it takes.
    pub(super) fn time(&self) -> Duration {
        // A relay starts, a table is emptied: about a second around each measurement.
        let around = Duration::from_secs(1);
        // Inserts and drains of a million rows, on a machine that is not fast.
        let rows = |rows: u64| Duration::from_micros(rows.saturating_mul(15));
        let modes = self.deliveries.len() as u32;
        let mut time = Duration::ZERO;
        if self.wants(Part::Writers) {
            let runs = 4 * self.clients.len() as u32 + 3 * (self.writer_rounds - 1);
            time += runs * (self.writing + self.warm_up + around);
            time += self.writer_rounds * rows(self.insert_rows) + 5 * 8 * around;
        }
        if self.wants(Part::Drain) {
            let round: u64 = self
                .payloads
                .iter()
                .map(|payload| self.backlog_rows(*payload))
                .sum();
            let drains = self.payloads.len() as u32 + 1;
            time += modes * self.drain_rounds * (rows(round + self.rows) + drains * around);
        }
        if self.wants(Part::Latency) {
            let rates = self.rates.len() as u32;
            let around = around + self.warm_up_rows * WARM_UP_GAP;
            let single = |gap: &Duration| self.single_rows * *gap + around;
            let singles: Duration = self.single_gaps.iter().map(single).sum();
            time += modes * (rates * (self.at_rate + around) + singles);
        }
        if self.wants(Part::Idle) {
            time += self.idle + around;
        }
        Duration::from_secs(time.as_secs().max(1))
    }

    /// Sessions at one time, those of the relay included.
    pub(super) fn sessions(&self) -> u32 {
        let writers = self.clients.iter().copied().max().unwrap_or(1);
        let most = if self.wants(Part::Writers) {
            writers.max(self.ramp_clients)
        } else {
            32
        };
        most + 6
    }

    fn backlogs(&self) -> impl Iterator<Item = u64> {
        self.payloads.iter().map(|payload| {
            self.backlog_rows(*payload)
                .saturating_mul(u64::from(*payload) + ROW_OVERHEAD)
        })
    }

    fn rate_rows(&self) -> u64 {
        let rates: u64 = self.rates.iter().map(|rate| u64::from(*rate)).sum();
        let gaps = self.single_gaps.len() as u64;
        let warm_up = (self.rates.len() as u64 + gaps) * u64::from(self.warm_up_rows);
        rates.saturating_mul(self.at_rate.as_secs() + 1)
            + gaps * u64::from(self.single_rows)
            + warm_up
    }
}

/// A number of bytes for people.
pub(super) fn shown_bytes(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

fn all_seconds<S: serde::Serializer>(all: &[Duration], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(Duration::as_secs_f64))
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: BenchFlags,
    }

    fn plan(arguments: &[&str]) -> Plan {
        let arguments = [&["bench"], arguments].concat();
        Plan::of(&Cli::try_parse_from(arguments).expect("flags").flags)
    }

    #[test]
    fn all_parts_are_measured_unless_some_are_named() {
        assert_eq!(plan(&[]).parts.len(), 4);
        // in the order in which they are measured
        assert_eq!(plan(&["idle", "drain"]).parts, [Part::Drain, Part::Idle]);
    }

    #[test]
    fn a_flag_wins_over_quick() {
        let plan = plan(&["--quick", "--rows", "7", "--clients", "3,5"]);
        assert_eq!((plan.rows, plan.clients.as_slice()), (7, &[3, 5][..]));
        assert_eq!(plan.writer_rounds, 1);
        assert_eq!(plan.pair_clients(), 5);
    }

    #[test]
    fn backlogs_are_bounded_in_bytes_and_the_estimate_follows_them() {
        let small = plan(&[
            "drain",
            "--payload",
            "1000",
            "--rows",
            "1000000",
            "--backlog",
            "1MB",
        ]);
        assert_eq!(small.backlog_rows(1_000), 1_000);
        let large = plan(&[
            "drain",
            "--payload",
            "1000",
            "--rows",
            "1000000",
            "--backlog",
            "1GB",
        ]);
        assert_eq!(large.postgres_bytes(), 1_000 * small.postgres_bytes());
        assert!(large.postgres_bytes() >= 2_000_000_000);
        assert!(large.broker_bytes() >= 6_000_000_000);
    }

    #[test]
    fn each_delivery_mode_is_counted_in_the_estimate() {
        let both = ["--delivery", "at-least-once,exactly-once"];
        for part in ["drain", "latency"] {
            let (one, two) = (plan(&[part]), plan(&[&[part][..], &both].concat()));
            assert!(two.time() >= 2 * one.time(), "{part}");
            assert_eq!(two.broker_bytes(), 2 * one.broker_bytes(), "{part}");
            assert_eq!(two.postgres_bytes(), one.postgres_bytes(), "{part}");
        }
    }
}
