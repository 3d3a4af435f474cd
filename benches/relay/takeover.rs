//! A leader that is killed, or stopped, at random moments under a light load, beside a standby that takes over.

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
/// From the moment that leader and standby are both there until the leader's end, at most: as long as a few of the pauses that a relay makes by itself.
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

/// How a leader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    ends: u32,
    rows_per_second: u32,
    modes: Vec<Mode>,
}

/// What one mode came to. Raw figures are in the order of the leaders' ends.
#[derive(Debug, Serialize)]
struct Mode {
    delivery: Delivery,
    end: End,
    /// All that were written, each seen by a reader of committed records.
    rows: usize,
    /// How many of the records are of a row that was there already.
    doubled: u64,
    raw_to_leading_us: Samples,
    raw_to_first_record_us: Samples,
    raw_longest_silence_us: Samples,
}

/// Both modes and both ways to end, with so many ends each.
pub(crate) async fn measure(stage: &mut Stage, ends: u32) -> anyhow::Result<Results> {
    let mut modes = Vec::new();
    for end in [End::Kill, End::Stop] {
        for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
            modes.push(measure_mode(stage, delivery, end, ends).await?);
        }
    }
    Ok(Results {
        ends,
        rows_per_second: ROWS_PER_SECOND,
        modes,
    })
}

async fn measure_mode(
    stage: &mut Stage,
    delivery: Delivery,
    end: End,
    ends: u32,
) -> anyhow::Result<Mode> {
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
        end,
        rows: 0,
        doubled: 0,
        raw_to_leading_us: Samples::default(),
        raw_to_first_record_us: Samples::default(),
        raw_longest_silence_us: Samples::default(),
    };
    for round in 1..=ends {
        eprintln!(
            "takeover {}, {} {round}/{ends}",
            delivery.name(),
            end.name()
        );
        standby.stood_by().await?;
        let last = peace(&mut consumer).await?;
        let mut stopping = None;
        let ended = match end {
            End::Kill => leader.kill()?,
            End::Stop => {
                let at = leader.terminate();
                stopping = Some(leader);
                at
            }
        };
        leader = standby;
        standby = process::start(stage, &topic, flags)?;
        let led = leader.led().await?;
        let (first, silence) = follow(&mut consumer, &writer, last, ended, led).await?;
        mode.raw_to_leading_us.push(ended, led);
        mode.raw_to_first_record_us.push(ended, first);
        mode.raw_longest_silence_us.add(silence);
        if let Some(former) = stopping {
            former.ended().await?;
        }
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
        (delivery, end) == (Delivery::AtLeastOnce, End::Kill) || mode.doubled == 0,
        "{} of {} rows were doubled: {}",
        mode.doubled,
        mode.rows,
        mode.name()
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

/// When the first record of a row came that was written after the end of a leader, and the longest time without a record until the new one has sent a row
/// that was written while it led.
async fn follow(
    consumer: &mut Consumer,
    writer: &Writer,
    mut last: Instant,
    ended: Instant,
    led: Instant,
) -> anyhow::Result<(Instant, Duration)> {
    let (mut first, mut silence) = (None, Duration::ZERO);
    loop {
        let (number, at) = consumer.next().await?;
        if at > ended {
            silence = silence.max(at - last);
        }
        last = at;
        if writer.has_written_since(ended, number) {
            let first = *first.get_or_insert(at);
            if writer.has_written_since(led, number) {
                return Ok((first, silence));
            }
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

impl Mode {
    fn name(&self) -> String {
        format!("{}, {}", self.delivery.name(), self.end.name())
    }
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> anyhow::Result<String> {
        let modes = self.modes.iter().map(|mode| {
            let latency = mode.raw_to_first_record_us.latency()?;
            let (name, p99) = (mode.name(), latency.p99);
            anyhow::Ok(format!("{name} p99 {p99:.0} ms"))
        });
        let modes: Vec<String> = modes.collect::<Result<_, _>>()?;
        Ok(format!(
            "end of a leader to first new record: {}",
            modes.join(", ")
        ))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "in each mode {} leaders were killed (SIGKILL) and as many stopped (SIGTERM), at {} rows a second from one session; milliseconds from the signal\n",
            self.ends, self.rows_per_second
        )?;
        writeln!(f, "| | {} |\n|{}", head(), "---|".repeat(6))?;
        for mode in &self.modes {
            let name = mode.name();
            for (what, samples) in [
                ("until the standby leads", &mode.raw_to_leading_us),
                (
                    "until a consumer has a row that was written after the signal",
                    &mode.raw_to_first_record_us,
                ),
                (
                    "longest time without a record",
                    &mode.raw_longest_silence_us,
                ),
            ] {
                let latency = samples.latency().map_err(|_| fmt::Error)?;
                writeln!(f, "| {name}: {what} | {} |", cells(&latency))?;
            }
        }
        writeln!(f, "\n| | rows | lost | doubled |\n|{}", "---|".repeat(4))?;
        for mode in &self.modes {
            let name = mode.name();
            writeln!(f, "| {name} | {} | 0 | {} |", mode.rows, mode.doubled)?;
        }
        Ok(())
    }
}
