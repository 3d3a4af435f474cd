//! `doorbell status`: prints the status of each configured outbox, once or at an interval.

mod query;
mod text;
mod watch;

use std::time::Duration;

use crate::cli::exit::Outcome;
use crate::cli::session::runtime;
use crate::cli::terminal;
use crate::config::Settings;
use query::query;

pub(in crate::cli) use watch::interval;

/// Prints the status of each configured outbox.
pub(crate) fn status(settings: &Settings, json: bool, every: Option<Duration>) -> Outcome {
    runtime()?.block_on(async {
        if let Some(every) = every {
            return watch::watch(settings, json, every).await;
        }
        let all = query(settings, &mut None).await?;
        if json {
            return Ok(terminal::print_json(&all)?);
        }
        let blocks: String = all.iter().map(text::block).collect();
        Ok(terminal::write(&mut std::io::stdout().lock(), &blocks)?)
    })
}
