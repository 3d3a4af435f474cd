//! `doorbell check`: examines database, privileges, topics and activity, and reports problems with
//! their remedies.
//!
//! | file | what |
//! |---|---|
//! | `finding` | findings and their codes |
//! | `examine` | queries the database and the brokers |
//! | `server`, `table`, `hazards`, `ids`, `privileges`, `traffic`, `topics`, `settings`, `once` | from answers to findings (pure) |
//! | `fix` | what `--fix` does |
//! | `print` | findings as text |

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::runtime;
use crate::cli::terminal;
use crate::config::Settings;
use crate::numbers::counted_verb;
use examine::Report;
use finding::{Code, Severity};

mod examine;
mod finding;
mod fix;
mod hazards;
mod ids;
mod once;
mod print;
mod privileges;
mod server;
mod settings;
mod table;
mod topics;
mod traffic;

/// `check`'s flags.
#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// Repair what can be repaired without removing anything; asks before each change
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(long, requires = "fix")]
    yes: bool,
    /// Report a transaction, a snapshot or a waiting row from this age on
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = crate::cli::arg_errors::duration)]
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

/// Examines, reports, and repairs with `--fix`.
pub(crate) fn check(settings: &Settings, flags: &CheckFlags) -> Outcome {
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let report = examine::examine(settings, flags.old).await?;
        if !flags.fix || !fix::fix(settings, &report, flags.yes).await? {
            return Ok(report);
        }
        // What is left is reported.
        examine::examine(settings, flags.old).await
    });
    // A broker that does not answer may hold a thread of the C library for seconds.
    runtime.shutdown_background();
    let report = report.map_err(Failure::unable)?;
    let count = |severity| {
        let found = report.findings.iter();
        found.filter(|it| it.severity == severity).count()
    };
    let away = report
        .findings
        .iter()
        .filter(|it| it.code == Code::PostgresAway);
    let unreachable = away.filter(|it| it.severity == Severity::Error).count();
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
        // Nothing of the database could be examined.
        errors if errors == unreachable => Err(Failure::Unable(anyhow::anyhow!(
            "PostgreSQL could not be asked; follow the remedy"
        ))),
        errors => Err(Failure::Failed(anyhow::anyhow!(
            counted_verb(errors, "error", "keep")
                + " events from being delivered; follow each remedy"
        ))),
    }
}
