//! `doorbell status --watch`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval as ticks};

use super::Asking;
use super::text::{block, line};
use crate::app::failure::Outcome;
use crate::app::terminal::{self, BAD, styled};
use crate::config::Settings;
use crate::postgres::{Error, Status};

/// Each turn counts rows: more often than this would be a load.
const SHORTEST: Duration = Duration::from_millis(100);

/// A distance between two turns.
pub(in crate::app) fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match interval < SHORTEST {
        true => Err("the shortest is 100ms".into()),
        false => Ok(interval),
    }
}

/// Says it at each turn until it is interrupted: over the last one at a terminal, else in lines.
pub(super) async fn watch(settings: &Settings, json: bool, every: Duration) -> Outcome {
    let mut asking = Asking::new(settings);
    let mut turn = ticks(every);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let redraw = !json && std::io::stdout().is_terminal();
    let mut first = true;
    loop {
        turn.tick().await;
        match asking.ask().await {
            // At the first time it may be a slip of the hand; afterwards it passes.
            Err(error) if first => return Err(error.into()),
            answer if redraw => draw(&answer, every)?,
            Ok(all) if json => {
                let mut out = std::io::stdout().lock();
                serde_json::to_writer(&mut out, &all)?;
                writeln!(out)?;
            }
            Ok(all) => write_lines(&all)?,
            Err(error) => anstream::eprintln!("{} {error}", styled(BAD, "doorbell:")),
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

/// From the corner on, each line to its end, then what is left below: nothing flickers.
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
