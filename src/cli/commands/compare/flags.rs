//! Flags of `doorbell compare`.

use std::time::Duration;

use clap::Args;

use crate::cli::arg_errors::duration;

#[derive(Debug, Args)]
pub(crate) struct CompareFlags {
    /// Topics of the relay that runs today
    #[arg(required = true, value_name = "OLD_TOPIC")]
    pub(super) old: Vec<String>,
    /// A topic of the relay that is to replace it; repeat it for each
    #[arg(long, required = true, value_name = "NEW_TOPIC")]
    pub(super) with: Vec<String>,
    /// Pair records by this header
    #[arg(long, value_name = "HEADER", default_value = "id")]
    pub(super) by: String,
    /// Do not compare this header; may be repeated, and `*` at the end stands for any end
    #[arg(long, value_name = "HEADER")]
    pub(super) ignore_header: Vec<String>,
    /// Fail also for values of other bytes that are the same JSON
    #[arg(long)]
    pub(super) bytes: bool,
    /// Count duplicates of the new relay without failing: at least once permits them
    #[arg(long)]
    pub(super) allow_doubles: bool,
    /// Count records of the new relay alone without failing
    #[arg(long)]
    pub(super) allow_extra: bool,
    /// Count records without the header of --by without failing
    #[arg(long)]
    pub(super) allow_foreign: bool,
    /// Judge records of the last DURATION only [default: all]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) since: Option<Duration>,
    /// Do not judge records without a pair that are younger than this: the other relay may still
    /// send them
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(super) settle: Duration,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
