//! The flags of `doorbell bench`, and what they may say.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::plan::{Mode, Part};

/// The flags of `doorbell bench`.
#[derive(Debug, Args)]
pub(in crate::app) struct BenchFlags {
    /// Measure only these
    #[arg(value_enum, value_name = "PART")]
    pub(super) parts: Vec<Part>,
    /// A run of seconds that shows that everything works; its figures say little
    #[arg(long)]
    pub(super) quick: bool,
    /// Do not ask before it starts
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Also write a report with plots to this file
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Repeat comparisons so often [default: 7 for writers, 3 for drain]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) rounds: Option<u32>,
    /// Write so long in each measurement of `writers`, and at each rate of `latency` [default: 5s and 10s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(super) duration: Option<Duration>,
    /// Write from so many sessions at once, with commas [default: 1,8,32,64]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) clients: Vec<u32>,
    /// Make each commit of the writers wait, as a slower disk would: 2ms (superusers only)
    #[arg(long, value_name = "DURATION", value_parser = commit_delay)]
    pub(super) commit_delay: Option<Duration>,
    /// Insert so many rows with one statement [default: 1000000]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) insert_rows: Option<u64>,
    /// Drain backlogs of rows with payloads of so many bytes, with commas [default: 100,200,1000,10000]
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(32..=100_000_000))]
    pub(super) payload: Vec<u32>,
    /// Drain backlogs of so many rows [default: 500000]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rows: Option<u64>,
    /// ... but of no more bytes of payload than this [default: 500MB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) backlog: Option<u64>,
    /// Insert so many rows a second for `latency`, with commas [default: 100,1000,5000,10000]
    #[arg(long, value_name = "RATE", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rates: Vec<u32>,
    /// Insert so many single rows into an idle outbox for `latency` [default: 60]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) single_rows: Option<u32>,
    /// ... with so much time between two, with commas [default: 1s]
    #[arg(long, value_name = "DURATION", value_delimiter = ',', value_parser = span)]
    pub(super) single_gap: Vec<Duration>,
    /// Watch an idle relay for so long [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(super) idle: Option<Duration>,
    /// Measure `drain` and `latency` in these delivery modes, with a comma, round by round [default: at-least-once]
    #[arg(long, value_enum, value_name = "MODE", value_delimiter = ',')]
    pub(super) delivery: Vec<Mode>,
    /// Make topics with so many partitions [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(super) partitions: Option<i32>,
}

fn span(text: &str) -> Result<Duration, String> {
    within(
        text,
        Duration::from_millis(10),
        Duration::from_secs(24 * 3_600),
    )
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: BenchFlags,
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
            let arguments = [&["bench"], wrong].concat();
            let parsed = Cli::try_parse_from(arguments).map(|cli| cli.flags);
            assert!(parsed.is_err(), "{wrong:?}");
        }
    }
}
