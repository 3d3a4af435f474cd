//! Flags and help of `doorbell verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    /// Read this topic; repeat it for each topic of the outbox [default: the outbox's route]
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Vec<String>,
    /// Read the ids of committed rows from FILE, one per line, `-` for standard input: an id that
    /// is in no topic, not in the table and not in the dead letters is missing
    #[arg(long, value_name = "FILE")]
    pub(super) ids: Option<PathBuf>,
    /// Fail also for what may have a harmless reason: without --ids, an id between the lowest and
    /// the highest that is nowhere; with --ids, an event that the file does not list
    #[arg(long)]
    pub(super) strict: bool,
    /// Count duplicates without failing: at least once permits them around a crash
    #[arg(long)]
    pub(super) allow_doubles: bool,
    /// Count events that follow one of their key with a higher id without failing: transactions
    /// that commit late cause them
    #[arg(long)]
    pub(super) allow_late: bool,
    /// Skip and count records without the headers `id` and `seq`, which other programs wrote
    #[arg(long)]
    pub(super) allow_foreign: bool,
    /// Read with isolation.level=read_committed
    #[arg(long)]
    pub(super) committed: bool,
    /// Start at this offset in each partition [default: the first]
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) from: Option<i64>,
    /// Stop before this offset in each partition [default: the current end]
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) until: Option<i64>,
    /// Start with events that were created in the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::arg_errors::duration, conflicts_with = "from")]
    pub(super) since: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Text after the flags in `--help`.
pub(in crate::cli) const PROVES: &str = "\
What it proves: no event is in the topics twice (by the header `id`); the events of each key ascend by the header `seq` in \
each partition; with --ids, each listed row is in a topic, still in the table, or in the dead letters. The table is read before the \
topics, so a relay may run meanwhile. Rows in the table are waiting and dead letters are parked: neither is missing.

What it cannot know: without --ids, an id that is nowhere was rolled back, sent to a topic that was not read, deleted by hand, or \
lost. Records that retention or compaction removed from a topic count as missing too. --ids must list only what was committed before verify \
starts; what came later counts as not listed. A late commit looks like a wrong order, and so does a dead letter that was retried; use \
--allow-late if transactions of one key overlap. A repetition of an earlier event is a duplicate, not a wrong order. Records without a key have no order.

It changes nothing. Memory: at most 150 bytes per event, and the keys of one topic. Exit code 1: something was found; 2: it could not look.";
