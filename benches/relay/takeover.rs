//! A leader that is killed at random moments under a light load, beside a standby that takes over.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use doorbell::app::bench::process::Relay;
use serde::Serialize;
use sqlx::Executor;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::consumer::Consumer;
use crate::process;
use crate::samples::{Samples, cells, head};
use crate::side::Side;
use crate::stage::{Stage, connect};
use crate::topic;

const ROWS_PER_SECOND: u32 = 100;
/// From the moment that leader and standby are both there until the kill, at most: as long as a few of the pauses that a relay makes by itself.
const MOST_PEACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at least once",
            Self::ExactlyOnce => "exactly once",
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    kills: u32,
    rows_per_second: u32,
    modes: Vec<Mode>,
}

/// What one mode came to. Raw figures are in the order of the kills.
#[derive(Debug, Serialize)]
struct Mode {
    delivery: Delivery,
    /// All that were written, each seen by a reader of committed records.
    rows: usize,
    /// How many of the records are of a row that was there already.
    doubled: u64,
    raw_to_leading_us: Samples,
    raw_to_first_record_us: Samples,
    raw_longest_silence_us: Samples,
}

/// Both modes, with so many kills each.
pub(crate) async fn measure(stage: &mut Stage, kills: u32) -> anyhow::Result<Results> {
    let mut modes = Vec::new();
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        modes.push(measure_mode(stage, delivery, kills).await?);
    }
    Ok(Results {
        kills,
        rows_per_second: ROWS_PER_SECOND,
        modes,
    })
}

async fn measure_mode(stage: &mut Stage, delivery: Delivery, kills: u32) -> anyhow::Result<Mode> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let receipts = stage.receipts();
    let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
    let flags = match delivery {
        Delivery::AtLeastOnce => &[][..],
        Delivery::ExactlyOnce => &flags,
    };
    let mut consumer = Consumer::start(stage, &topic)?;
    let mut leader = process::start(stage, &topic, flags)?;
    leader.led().await?;
    let mut standby = process::start(stage, &topic, flags)?;
    let writer = Writer::start(stage).await?;
    let mut mode = Mode {
        delivery,
        rows: 0,
        doubled: 0,
        raw_to_leading_us: Samples::default(),
        raw_to_first_record_us: Samples::default(),
        raw_longest_silence_us: Samples::default(),
    };
    for kill in 1..=kills {
        eprintln!("takeover {}: kill {kill}/{kills}", delivery.name());
        standby.stood_by().await?;
        let mut last = peace(&mut consumer).await?;
        let killed = leader.kill()?;
        leader = standby;
        standby = process::start(stage, &topic, flags)?;
        let mut silence = Duration::ZERO;
        loop {
            let (number, at) = consumer.next().await?;
            if at > killed {
                silence = silence.max(at - last);
            }
            last = at;
            if writer.has_written_since(killed, number) {
                break;
            }
        }
        mode.raw_to_leading_us.push(killed, leader.led().await?);
        mode.raw_to_first_record_us.push(killed, last);
        mode.raw_longest_silence_us.add(silence);
    }
    mode.rows = writer.stop().await?;
    for number in 1..=mode.rows {
        consumer.arrival(number.try_into()?).await?;
    }
    for relay in [standby, leader] {
        stop(relay).await?;
    }
    mode.doubled = topic::doubles(stage, &topic, mode.rows)?;
    ensure!(
        delivery == Delivery::AtLeastOnce || mode.doubled == 0,
        "{} of {} rows were doubled in exactly-once mode",
        mode.doubled,
        mode.rows
    );
    Ok(mode)
}

/// A random time in which records come. When the last of them did.
async fn peace(consumer: &mut Consumer) -> anyhow::Result<Instant> {
    let end = Instant::now() + MOST_PEACE.mul_f64(fastrand::f64());
    loop {
        let (_, at) = consumer.next().await?;
        if at >= end {
            return Ok(at);
        }
    }
}

/// One that is only about to stand by is waited for: its end is then an orderly one.
async fn stop(mut relay: Relay) -> anyhow::Result<()> {
    relay.stood_by().await?;
    relay.stop().await
}

/// One session that writes rows at a steady rate.
struct Writer {
    /// When the statement of each row was sent.
    sent: Arc<Mutex<Vec<Instant>>>,
    enough: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

impl Writer {
    async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let mut session = connect(&stage.database_url).await?;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let enough = CancellationToken::new();
        let (times, stop) = (Arc::clone(&sent), enough.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut turns = interval(Duration::from_secs(1) / ROWS_PER_SECOND);
            for number in 1_i64.. {
                turns.tick().await;
                if stop.is_cancelled() {
                    break;
                }
                let now = Instant::now();
                times
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(now);
                let query = sqlx::query(Side::Relay.insert()).bind(number).bind(number);
                session.execute(query).await?;
            }
            Ok(())
        });
        Ok(Self { sent, enough, task })
    }

    /// Whether this row was written, and so committed, after that moment.
    fn has_written_since(&self, moment: Instant, number: i64) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number - 1).ok();
        index
            .and_then(|index| sent.get(index))
            .is_some_and(|at| *at >= moment)
    }

    /// How many rows it wrote.
    async fn stop(mut self) -> anyhow::Result<usize> {
        self.enough.cancel();
        let ended = self.task.join_next().await;
        ended
            .context("the writer is gone")??
            .context("a row cannot be written")?;
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sent.len())
    }
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> anyhow::Result<String> {
        let modes = self.modes.iter().map(|mode| {
            let latency = mode.raw_to_first_record_us.latency()?;
            let (name, p99) = (mode.delivery.name(), latency.p99);
            anyhow::Ok(format!("{name} p99 {p99:.0} ms"))
        });
        let modes: Vec<String> = modes.collect::<Result<_, _>>()?;
        Ok(format!("kill to first new record, {}", modes.join(", ")))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} kills (SIGKILL) of the leader in each mode, {} rows a second from one session; milliseconds\n",
            self.kills, self.rows_per_second
        )?;
        writeln!(f, "| | {} |\n|{}", head(), "---|".repeat(6))?;
        for mode in &self.modes {
            let name = mode.delivery.name();
            for (what, samples) in [
                (
                    "from the kill until the standby leads",
                    &mode.raw_to_leading_us,
                ),
                (
                    "from the kill until a consumer has a row that was written after it",
                    &mode.raw_to_first_record_us,
                ),
                (
                    "longest time around a kill without a record",
                    &mode.raw_longest_silence_us,
                ),
            ] {
                let latency = samples.latency().map_err(|_| fmt::Error)?;
                writeln!(f, "| {name}: {what} | {} |", cells(&latency))?;
            }
        }
        writeln!(f, "\n| | rows | lost | doubled |\n|{}", "---|".repeat(4))?;
        for mode in &self.modes {
            let name = mode.delivery.name();
            writeln!(f, "| {name} | {} | 0 | {} |", mode.rows, mode.doubled)?;
        }
        Ok(())
    }
}
