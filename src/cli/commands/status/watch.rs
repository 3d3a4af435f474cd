//! `doorbell status --watch`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval as ticks};

use super::query::query;
use super::text::{block, line};
use crate::cli::arg_errors::duration;
use crate::cli::exit::Outcome;
use crate::cli::terminal::{self, BAD, styled};
use crate::config::Settings;
use crate::postgres::{Error, Status};

/// Each turn counts rows: a shorter interval would be a load.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

pub(in crate::cli) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match interval < MIN_INTERVAL {
        true => Err("the shortest interval is 100ms".into()),
        false => Ok(interval),
    }
}

/// Prints the status at each turn until it is interrupted: in place at a terminal, else in lines.
pub(super) async fn watch(settings: &Settings, json: bool, every: Duration) -> Outcome {
    let mut session = None;
    let mut turn = ticks(every);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let redraw = !json && std::io::stdout().is_terminal();
    let mut first = true;
    loop {
        turn.tick().await;
        match query(settings, &mut session).await {
            // The first failure may be a mistake in the configuration; later ones may pass.
            Err(error) if first => return Err(error.into()),
            answer if redraw => draw(&answer, every)?,
            Ok(all) if json => terminal::print_json(&all)?,
            Ok(all) => write_lines(&all)?,
            Err(error) => {
                let error = error.to_string();
                let error = terminal::harmless(&std::io::stderr(), &error);
                anstream::eprintln!("{} {error}", styled(BAD, "doorbell:"));
            }
        }
        first = false;
    }
}

fn write_lines(all: &[Status]) -> std::io::Result<()> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let lines: String = all
        .iter()
        .map(|status| format!("{now} {}\n", line(status)))
        .collect();
    terminal::write(&mut std::io::stdout().lock(), &lines)
}

/// Redraws from the top left corner, line by line, and clears the rest: nothing flickers.
fn draw(answer: &Result<Vec<Status>, Error>, every: Duration) -> std::io::Result<()> {
    let text = match answer {
        Ok(all) => all.iter().map(block).collect(),
        Err(error) => format!("{}\n", styled(BAD, error)),
    };
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let every = humantime::format_duration(every);
    let text = format!("{text}\n{now}, every {every}; Ctrl-C ends\n");
    let mut out = std::io::stdout().lock();
    out.write_all(b"\x1b[H")?;
    for line in text.lines() {
        terminal::write(&mut out, line)?;
        out.write_all(b"\x1b[K\n")?;
    }
    out.write_all(b"\x1b[J")?;
    out.flush()
}
