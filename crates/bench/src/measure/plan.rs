//! What is to be measured, as the flags of `doorbell bench` say.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::fixture::Delivery;
use crate::sides::Side;
use crate::sides::backlog::Backlog;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// Commits a second without a trigger, with one that always notifies, and with the bell
    Writers,
    /// Rows a second until a backlog is empty
    Drain,
    /// From a commit to a consumer
    Latency,
    /// What a relay costs while nothing happens
    Idle,
}

/// The flags of `doorbell bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// Measure only these
    #[arg(value_enum, value_name = "PART")]
    pub(crate) parts: Vec<Part>,
    /// A run of seconds that shows that everything works; its figures say little
    #[arg(long)]
    pub(crate) quick: bool,
    /// Do not ask before it starts
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report with plots to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Repeat comparisons so often [default: 7 for writers, 3 for drain]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// Write so long in each measurement of `writers`, and at each rate of `latency` [default: 5s
    /// and 10s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    duration: Option<Duration>,
    /// Write from so many sessions at once, with commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(default_value = "1,8,32,64", default_value_if("quick", "true", "1,4"))]
    pub(crate) clients: Vec<u32>,
    /// Make each commit of the writers wait, as a slower disk would: 2ms (superusers only)
    #[arg(long, value_name = "DURATION", value_parser = commit_delay)]
    pub(crate) commit_delay: Option<Duration>,
    /// Insert so many rows with one statement
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(default_value = "1000000", default_value_if("quick", "true", "5000"))]
    pub(crate) insert_rows: u64,
    /// Drain backlogs of rows with payloads of so many bytes, with commas
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(32..=100_000_000))]
    #[arg(default_value = "100,200,1000,10000")]
    payload: Vec<u32>,
    /// Drain backlogs of so many rows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(default_value = "500000", default_value_if("quick", "true", "2000"))]
    rows: u64,
    /// ... but of no more bytes of payload than this
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "500MB")]
    backlog: u64,
    /// Insert so many rows a second for `latency`, with commas
    #[arg(long, value_name = "RATE", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(
        default_value = "100,1000,5000,10000",
        default_value_if("quick", "true", "100,1000")
    )]
    pub(crate) rates: Vec<u32>,
    /// Insert so many single rows into an idle outbox for `latency`
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value = "60", default_value_if("quick", "true", "5"))]
    pub(crate) single_rows: u32,
    /// ... with so much time between two, with commas
    #[arg(long, value_name = "DURATION", value_delimiter = ',', value_parser = span)]
    #[arg(default_value = "1s", default_value_if("quick", "true", "50ms"))]
    pub(crate) single_gap: Vec<Duration>,
    /// Watch an idle relay for so long
    #[arg(long, value_name = "DURATION", value_parser = span)]
    #[arg(default_value = "60s", default_value_if("quick", "true", "1s"))]
    pub(crate) idle: Duration,
    /// Measure `drain` and `latency` in these delivery modes, with a comma, round by round
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        value_delimiter = ',',
        default_value = "at-least-once"
    )]
    pub(crate) delivery: Vec<Delivery>,
    /// Make topics with so many partitions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000), default_value = "6")]
    pub(crate) partitions: i32,
}

fn span(text: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(24 * 3_600);
    within(text, Duration::from_millis(10), day)
}

/// What PostgreSQL takes.
fn commit_delay(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_micros(1), Duration::from_millis(100))
}

fn within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "must be a number and a unit, such as 500ms, 30s or 2m")?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    let [least, most] = [least, most].map(humantime::format_duration);
    Err(format!("must be from {least} to {most}"))
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.0).map_err(|_| {
        "must be a number of bytes, or one with a unit, such as 500MB or 2GB".to_owned()
    })
}

/// Between the commits ahead of a load.
pub(crate) const WARM_UP_GAP: Duration = Duration::from_millis(5);

impl Plan {
    /// In the order in which they are measured: all, unless some are named.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        all.filter(|part| self.wants(*part)).collect()
    }

    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// The usual mode first.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        let all = Delivery::value_variants().iter().copied();
        all.filter(|mode| self.delivery.contains(mode)).collect()
    }

    fn unless_quick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn millis(&self, full: u64, quick: u64) -> Duration {
        Duration::from_millis(self.unless_quick(full, quick))
    }

    /// Of the pairs of `writers`.
    pub(crate) fn writer_rounds(&self) -> u32 {
        self.rounds.unwrap_or(self.unless_quick(7, 1))
    }

    pub(crate) fn drain_rounds(&self) -> u32 {
        self.rounds.unwrap_or(self.unless_quick(3, 1))
    }

    pub(crate) fn writing(&self) -> Duration {
        self.duration.unwrap_or(self.millis(5_000, 300))
    }

    pub(crate) fn at_rate(&self) -> Duration {
        self.duration.unwrap_or(self.millis(10_000, 500))
    }

    /// Of the writers.
    pub(crate) fn warm_up(&self) -> Duration {
        self.millis(1_000, 100)
    }

    /// Commits ahead of each load, not counted: connections to the leaders of partitions, plans,
    /// caches, and on fresh brokers the compilation of what they do in a transaction.
    pub(crate) fn warm_up_rows(&self) -> u32 {
        self.unless_quick(1_000, 20)
    }

    /// Sessions that start at once on a sleeping relay.
    pub(crate) fn cold_clients(&self) -> u32 {
        self.unless_quick(64, 8)
    }

    /// The number of clients whose pairs are repeated: 32, or 64 with a delay, or the most there
    /// are.
    pub(crate) fn pair_clients(&self) -> u32 {
        let wanted = if self.commit_delay.is_some() { 64 } else { 32 };
        let has = self.clients.contains(&wanted);
        if has { wanted } else { self.most_clients() }
    }

    fn most_clients(&self) -> u32 {
        self.clients.iter().copied().max().unwrap_or(1)
    }

    /// In each delivery mode. The drain of 200 bytes is repeated with an old snapshot held, or that
    /// of the first payload there is.
    pub(crate) fn backlogs(&self) -> Vec<Backlog> {
        let usual = self.payload.iter().find(|bytes| **bytes == 200);
        let repeated = usual.or(self.payload.first());
        let mut all = Vec::new();
        for bytes in &self.payload {
            let most = self.backlog / u64::from(*bytes);
            let (rows, payload_bytes) = (self.rows.min(most).max(1) as i64, *bytes);
            let held = [false, true].into_iter();
            for snapshot_held in held.filter(|held| !held || Some(bytes) == repeated) {
                let in_mode = |delivery| Backlog {
                    payload_bytes,
                    snapshot_held,
                    delivery,
                    ..Backlog::of(Side::Relay, rows)
                };
                all.extend(self.deliveries().into_iter().map(in_mode));
            }
        }
        all
    }

    /// Sessions at one time, those of the relay included.
    pub(crate) fn sessions(&self) -> u32 {
        let most = match self.wants(Part::Writers) {
            true => self.most_clients().max(self.cold_clients()),
            false => 32,
        };
        most + 6
    }

    /// What is measured, all decided.
    pub(crate) fn summary(&self) -> Value {
        let gaps = self.single_gap.iter().map(Duration::as_secs_f64);
        json!({
            "parts": self.parts(), "quick": self.quick, "writer_rounds": self.writer_rounds(), "drain_rounds": self.drain_rounds(),
            "writer_seconds": self.writing().as_secs_f64(), "warm_up_seconds": self.warm_up().as_secs_f64(), "clients": self.clients,
            "insert_rows": self.insert_rows, "ramp_clients": self.cold_clients(), "payloads": self.payload, "rows": self.rows,
            "backlog_bytes": self.backlog, "rates": self.rates, "rate_seconds": self.at_rate().as_secs_f64(),
            "single_rows": self.single_rows, "warm_up_rows": self.warm_up_rows(), "single_gaps_seconds": gaps.collect::<Vec<_>>(),
            "idle_seconds": self.idle.as_secs_f64(), "partitions": self.partitions, "deliveries": self.deliveries(),
        })
    }
}

pub(crate) fn shown_bytes(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        plan: Plan,
    }

    fn parse(arguments: &[&str]) -> Result<Plan, clap::Error> {
        let arguments = [&["bench"], arguments].concat();
        Cli::try_parse_from(arguments).map(|cli| cli.plan)
    }

    fn plan(arguments: &[&str]) -> Plan {
        parse(arguments).expect("flags")
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in [
            &["--clients", "0"][..],
            &["--duration", "0s"],
            &["--commit-delay", "1s"],
            &["--payload", "1"],
            &["--backlog", "much"],
            &["nothing"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn all_parts_are_measured_unless_some_are_named() {
        assert_eq!(plan(&[]).parts().len(), 4);
        // In the order in which they are measured.
        assert_eq!(plan(&["idle", "drain"]).parts(), [Part::Drain, Part::Idle]);
    }

    #[test]
    fn a_flag_wins_over_quick() {
        let plan = plan(&["--quick", "--rows", "7", "--clients", "3,5"]);
        assert_eq!((plan.rows, plan.clients.as_slice()), (7, &[3, 5][..]));
        assert_eq!((plan.insert_rows, plan.writer_rounds()), (5_000, 1));
        assert_eq!(plan.pair_clients(), 5);
    }

    #[test]
    fn backlogs_are_bounded_in_bytes_and_the_estimate_follows_them() {
        let of = |backlog| {
            let flags = "drain --payload 1000 --rows 1000000 --backlog";
            let flags: Vec<&str> = flags.split(' ').chain([backlog]).collect();
            plan(&flags)
        };
        let (small, large) = (of("1MB"), of("1GB"));
        let held = |backlog: &Backlog| (backlog.payload_bytes, backlog.rows, backlog.snapshot_held);
        let both = [false, true].map(|held| (1_000, 1_000, held));
        assert_eq!(small.backlogs().iter().map(held).collect::<Vec<_>>(), both);
        assert_eq!(large.cost().disk, 1_000 * small.cost().disk);
        assert!(large.cost().disk >= 2_000_000_000);
        assert!(large.cost().brokers >= 6_000_000_000);
    }

    #[test]
    fn each_delivery_mode_is_counted_in_the_estimate() {
        let both = ["--delivery", "at-least-once,exactly-once"];
        for part in ["drain", "latency"] {
            let one = plan(&[part]).cost();
            let two = plan(&[part, both[0], both[1]]).cost();
            assert!(two.time >= 2 * one.time, "{part}");
            assert_eq!(two.brokers, 2 * one.brokers, "{part}");
            assert_eq!(two.disk, one.disk, "{part}");
        }
    }
}
