//! What a run is asked for: flags in the variable `DOORBELL_CHAOS`, which `scripts/chaos` sets.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use serde::Serialize;

const VARIABLE: &str = "DOORBELL_CHAOS";

/// Throws faults at relays, PostgreSQL and Kafka under load, and proves that nothing is lost
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "scripts/chaos")]
pub(crate) struct Plan {
    /// Choose faults and rows by this number, which repeats a run [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Number of faults
    #[arg(long, default_value_t = 12)]
    pub(crate) faults: usize,
    /// End after so many minutes, even if faults are left
    #[arg(long)]
    pub(crate) minutes: Option<u64>,
    /// How the relays deliver
    #[arg(long, value_enum, default_value_t = Delivery::AtLeastOnce)]
    pub(crate) delivery: Delivery,
    /// Nodes of Kafka, 1 or 3
    #[arg(long, value_enum, default_value_t = Nodes::One)]
    pub(crate) nodes: Nodes,
    /// Relays, each a process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) relays: u8,
    /// Sessions that write, each with keys of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) writers: u8,
    /// Only faults of this kind; may be repeated
    #[arg(long, value_enum)]
    pub(crate) only: Vec<super::schedule::Kind>,
    /// Write the report there, as text and as JSON
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Keep there all that the report was made of: each fault, each duplicate, ids, the output of
    /// `doorbell verify`, logs of the relays
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Nodes {
    #[value(name = "1")]
    #[serde(rename = "1")]
    One,
    #[value(name = "3")]
    #[serde(rename = "3")]
    Three,
}

/// The seed of the short run among all tests is fixed, so that a change meets the same faults as
/// the one before it.
const USUAL_SEED: u64 = 5;

impl Plan {
    /// Combines the test's defaults with the flags of the variable. `--help` and wrong flags end
    /// the process.
    pub(crate) fn of(flags: &[&str]) -> Self {
        let said = std::env::var(VARIABLE).unwrap_or_default();
        let words = said.split_whitespace();
        let all = ["scripts/chaos"].into_iter().chain(flags.iter().copied());
        let mut plan = Self::parse_from(all.chain(words));
        plan.seed.get_or_insert_with(|| {
            if said.is_empty() {
                return USUAL_SEED;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.expect("a clock").subsec_micros())
        });
        plan
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }

    /// Returns the name of its report.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", word(&self.delivery), word(&self.nodes))
    }

    /// Returns the flags that repeat the run.
    pub(crate) fn flags(&self) -> String {
        let only = self.only.iter().map(|kind| format!(" --only {kind}"));
        format!(
            "--seed {} --faults {} --delivery {} --nodes {} --relays {} --writers {}{}",
            self.seed(),
            self.faults,
            word(&self.delivery),
            word(&self.nodes),
            self.relays,
            self.writers,
            only.collect::<String>()
        )
    }
}

/// Returns the name as written on the command line.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
