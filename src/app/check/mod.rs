//! `doorbell check`: what is wrong with this database, these rights and these topics, and what to do about it.
//!
//! | file | what |
//! |---|---|
//! | `finding` | what a finding is, and the codes |
//! | `examine` | asks everybody, and goes on as far as the answers allow |
//! | `server`, `table`, `ids`, `rights`, `traffic`, `topics`, `settings`, `once` | from answers to findings (pure) |
//! | `fix` | what `--fix` does |
//! | `print` | findings as text |

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, Outcome};
use super::terminal;
use crate::config::Settings;
use examine::Report;
use finding::Severity;

mod examine;
mod finding;
mod fix;
mod ids;
mod once;
mod print;
mod rights;
mod server;
mod settings;
mod table;
mod topics;
mod traffic;

/// `check`'s flags.
#[derive(Debug, Args)]
pub(super) struct CheckFlags {
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// Put right what can be put right without taking anything away; asks before each change
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(long, requires = "fix")]
    yes: bool,
    /// Call a transaction, a snapshot or a row that waits old from this age on
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    old: Duration,
}

#[derive(Serialize)]
struct Answer<'a> {
    errors: usize,
    warnings: usize,
    notes: usize,
    #[serde(flatten)]
    report: &'a Report,
}

/// Looks, says, and fixes if it was asked to.
pub(super) fn check(settings: &Settings, flags: &CheckFlags) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        let report = examine::examine(settings, flags.old).await?;
        if !flags.fix || !fix::fix(settings, &report, flags.yes).await? {
            return Ok(report);
        }
        // What is left is the answer.
        examine::examine(settings, flags.old).await
    });
    // A broker that does not answer may hold a thread of the C library for seconds.
    runtime.shutdown_background();
    let report = report?;
    let count = |severity| {
        let found = report.findings.iter();
        found.filter(|it| it.severity == severity).count()
    };
    let answer = Answer {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        notes: count(Severity::Note),
        report: &report,
    };
    let mut out = std::io::stdout().lock();
    if flags.json {
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
    } else {
        terminal::write(&mut out, &print::text(&report))?;
    }
    match answer.errors {
        0 => Ok(()),
        errors => Err(Failure::Failed(anyhow::anyhow!(
            "{errors} of the findings keep events from being delivered"
        ))),
    }
}
