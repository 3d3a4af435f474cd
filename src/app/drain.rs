//! `doorbell drain`: relays until the outboxes are empty.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use super::failure::{Failure, Outcome};
use super::run::{failure, heeding_signals};
use super::telemetry::Log;
use super::traces;
use crate::config::Settings;
use crate::postgres::{self, Server, Session, Table};
use crate::relay::{Relay, Vitals};

/// The bar moves this often...
const TICK: Duration = Duration::from_millis(200);
/// ... and where there is none, a line is said at each so-manyth time.
const LINE: u32 = 10;

/// What became of the rows of one outbox.
#[derive(Debug, Serialize)]
struct Drained {
    outbox: String,
    published: u64,
    deleted: u64,
    parked: u64,
    /// Rows that are there now: they came since, or Kafka cannot take them.
    left: u64,
}

/// Relays until no row is left of those that were visible at some moment after the start.
pub(super) fn drain(
    settings: Settings,
    start_timeout: Option<Duration>,
    log: Log,
    json: bool,
) -> Outcome {
    let traces = traces::begin(&settings.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let before = backlogs(&settings).await?;
        let total = before.iter().map(|(_, rows)| rows).sum();
        let progress = Progress::new(total);
        log.begin(Beside(progress.bar.clone()));
        let begun = Instant::now();
        let relay = Relay::new(settings.clone())
            .start_timeout(start_timeout)
            .trace(traces.tracer());
        let vitals = relay.vitals();
        let stop = CancellationToken::new();
        let draining = async {
            tokio::select! {
                drained = relay.drain(stop.clone()) => drained,
                never = progress.follow(&vitals) => match never {},
            }
        };
        let drained = heeding_signals(draining, &stop).await?;
        progress.end(&vitals);
        drained.map_err(failure)?;
        let after = backlogs(&settings).await?;
        let all: Vec<Drained> = after
            .into_iter()
            .zip(&vitals)
            .map(|((outbox, left), vitals)| {
                let rows = vitals.snapshot().rows;
                Drained {
                    outbox,
                    published: rows.published,
                    deleted: rows.deleted,
                    parked: rows.parked,
                    left,
                }
            })
            .collect();
        Ok(say(&all, begun.elapsed(), json)?)
    });
    // A broker that does not answer may hold a thread of the C library for seconds: it is of no more interest.
    runtime.shutdown_background();
    traces.end();
    result
}

/// Each outbox, and about how many rows it has.
async fn backlogs(settings: &Settings) -> Result<Vec<(String, u64)>, Failure> {
    let server = Server::find(&settings.database.url).await?;
    let mut session = Session::open(&server, "drain").await?;
    let mut all = Vec::new();
    for outbox in &settings.outboxes {
        let table = Table::find(&mut session, &outbox.table, &outbox.columns).await?;
        let rows = postgres::backlog(&mut session, &table).await?;
        all.push((table.quoted, rows));
    }
    Ok(all)
}

fn say(all: &[Drained], took: Duration, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let seconds = took.as_secs_f64();
        let summary = serde_json::json!({ "seconds": seconds, "outboxes": all });
        return writeln!(out, "{summary}");
    }
    let took = humantime::format_duration(Duration::from_millis(took.as_millis() as u64));
    for it in all {
        let sent = HumanCount(it.deleted);
        writeln!(out, "{}: drained, {sent} rows sent in {took}", it.outbox)?;
        if it.parked > 0 {
            let parked = HumanCount(it.parked);
            writeln!(
                out,
                "  {parked} rows went to the dead letters; see `doorbell dead list`"
            )?;
        }
        if it.left > 0 {
            let left = HumanCount(it.left);
            writeln!(
                out,
                "  {left} rows are there: they came since, or Kafka cannot take them or what they wait for"
            )?;
        }
    }
    Ok(())
}

/// A bar at a terminal, lines elsewhere.
struct Progress {
    bar: ProgressBar,
    total: u64,
    begun: Instant,
    lines: bool,
}

/// What never comes.
enum Never {}

impl Progress {
    fn new(total: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{bar:30} {human_pos} of {human_len} rows, {per_sec}, {eta} left",
        );
        let bar = ProgressBar::new(total)
            .with_style(style.expect("a template that is right"))
            .with_finish(indicatif::ProgressFinish::AndClear);
        Self {
            bar,
            total,
            begun: Instant::now(),
            lines: !std::io::stderr().is_terminal(),
        }
    }

    async fn follow(&self, vitals: &[Arc<Vitals>]) -> Never {
        let mut ticks = interval(TICK);
        loop {
            for _ in 0..LINE {
                ticks.tick().await;
                self.bar.set_position(gone(vitals));
            }
            self.line(gone(vitals));
        }
    }

    fn line(&self, gone: u64) {
        if !self.lines {
            return;
        }
        let rate = gone as f64 / self.begun.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(gone) as f64 / rate.max(1.0);
        let left = HumanDuration(Duration::from_secs_f64(left));
        let (gone, total): (&dyn Display, _) = (&HumanCount(gone), HumanCount(self.total));
        eprintln!("drained {gone} of about {total} rows, {rate:.0} a second, {left} left");
    }

    fn end(&self, vitals: &[Arc<Vitals>]) {
        self.bar.set_position(gone(vitals));
        self.bar.finish_and_clear();
    }
}

fn gone(vitals: &[Arc<Vitals>]) -> u64 {
    let rows = vitals.iter().map(|vitals| vitals.snapshot().rows);
    rows.map(|rows| rows.deleted + rows.parked).sum()
}

/// The log's lines, above the bar.
struct Beside(ProgressBar);

impl<'a> MakeWriter<'a> for Beside {
    type Writer = &'a Beside;

    fn make_writer(&'a self) -> &'a Beside {
        self
    }
}

impl Write for &Beside {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
