//! A leader that is killed, or stopped, at random moments under a light load, beside a standby that
//! takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::fixture::consumer::Consumer;
use crate::fixture::relay::Relay;
use crate::fixture::{self, Delivery, Fixture};
use crate::report::figures::{Latency, Samples};
use crate::report::{Measured, Table};
use crate::sides::Side;
use crate::sides::audit::audit;

const ROWS_PER_SECOND: u32 = 100;
/// From the moment that leader and standby are both there until the leader's end, at most: as long
/// as a few of the pauses that a relay makes by itself.
const MOST_PEACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum End {
    /// SIGKILL.
    #[default]
    Kill,
    /// SIGTERM.
    Stop,
}

/// What one mode came to. Raw figures are in the order of the leaders' ends.
#[derive(Debug, Default, Serialize)]
struct Mode {
    #[serde(skip)]
    name: String,
    delivery: Delivery,
    end: End,
    /// All that were written, each seen by a reader of committed records.
    rows: i64,
    /// How many of the records are of a row that was there already.
    doubled: i64,
    raw_to_leading_us: Samples,
    raw_to_first_record_us: Samples,
    raw_longest_silence_us: Samples,
}

/// Both modes and both ways to end, with so many ends each.
pub(super) async fn measure(fixture: &mut Fixture, ends: u32) -> anyhow::Result<Measured> {
    let mut modes = Vec::new();
    for (end, ending) in [(End::Kill, "kill"), (End::Stop, "stop")] {
        for delivery in Delivery::value_variants() {
            let mut mode = Mode {
                name: format!("{}, {ending}", delivery.name()),
                delivery: *delivery,
                end,
                ..Mode::default()
            };
            mode.measure(fixture, ends).await?;
            modes.push(mode);
        }
    }
    report(ends, &modes)
}

impl Mode {
    async fn measure(&mut self, fixture: &mut Fixture, ends: u32) -> anyhow::Result<()> {
        let topic = fixture.topics.make("takeover").await?;
        fixture.scratch.empty().await?;
        let receipts = fixture.topics.receipts();
        let flags = self.delivery.flags(&receipts);
        let mut consumer = Consumer::start(&fixture.topics, &topic)?;
        let mut leader = fixture.start_relay(&topic, &flags, &[]).await?;
        leader.led().await?;
        let mut standby = fixture.start_relay(&topic, &flags, &[]).await?;
        let writer = Writer::start(fixture).await?;
        for round in 1..=ends {
            let step = format!("takeover {} {round}/{ends}", self.name);
            fixture.progress.step(step);
            standby.stood_by().await?;
            let last = peace(&mut consumer).await?;
            let (ended, stopping) = match self.end {
                End::Kill => (leader.kill()?, None),
                End::Stop => (leader.terminate(), Some(leader)),
            };
            let before = writer.sent();
            leader = standby;
            standby = fixture.start_relay(&topic, &flags, &[]).await?;
            let led = leader.led().await?;
            let rows = [before, writer.sent()];
            let (first, silence) = follow(&mut consumer, rows, last, ended).await?;
            self.raw_to_leading_us.between(ended, led);
            self.raw_to_first_record_us.between(ended, first);
            self.raw_longest_silence_us.add(silence);
            if let Some(former) = stopping {
                former.ended().await?;
            }
        }
        self.rows = writer.stop().await?;
        for number in 1..=self.rows {
            consumer.arrival(number).await?;
        }
        for relay in [standby, leader] {
            stop(relay).await?;
        }
        (self.doubled, _) = audit(fixture, &topic, self.rows, &[])?;
        let may_double = (self.delivery, self.end) == (Delivery::AtLeastOnce, End::Kill);
        let Self {
            name,
            rows,
            doubled,
            ..
        } = self;
        ensure!(
            may_double || *doubled == 0,
            "{doubled} of {rows} rows were doubled: {name}"
        );
        Ok(())
    }
}

/// A random time in which records come. When the last of them did.
async fn peace(consumer: &mut Consumer) -> anyhow::Result<Instant> {
    let end = Instant::now() + MOST_PEACE.mul_f64(fastrand::f64());
    loop {
        let record = consumer.next().await?;
        if record.at >= end {
            return Ok(record.at);
        }
    }
}

/// When the first record of a row came that was sent after the end of a leader, and the longest
/// time without a record until the new one has sent a row that was written while it led. `sent` are
/// the last rows before these two moments.
async fn follow(
    consumer: &mut Consumer,
    sent: [i64; 2],
    mut last: Instant,
    ended: Instant,
) -> anyhow::Result<(Instant, Duration)> {
    let (mut first, mut silence) = (None, Duration::ZERO);
    loop {
        let record = consumer.next().await?;
        if record.at > ended {
            silence = silence.max(record.at - last);
        }
        last = record.at;
        if record.number > sent[0] {
            let first = *first.get_or_insert(record.at);
            if record.number > sent[1] {
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
    /// The number of the last row whose statement was sent.
    sent: Arc<AtomicI64>,
    enough: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

impl Writer {
    async fn start(fixture: &Fixture) -> anyhow::Result<Self> {
        let mut session = fixture::Writer::open(&fixture.scratch, 0, None).await?;
        let (sent, enough) = (Arc::new(AtomicI64::new(0)), CancellationToken::new());
        let (last, stop) = (Arc::clone(&sent), enough.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut turns = interval(Duration::from_secs(1) / ROWS_PER_SECOND);
            for number in 1_i64.. {
                turns.tick().await;
                if stop.is_cancelled() {
                    break;
                }
                last.store(number, Ordering::SeqCst);
                session.insert(Side::Relay.rows(), number..=number).await?;
            }
            Ok(())
        });
        Ok(Self { sent, enough, task })
    }

    fn sent(&self) -> i64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// How many rows there are.
    async fn stop(mut self) -> anyhow::Result<i64> {
        self.enough.cancel();
        let ended = self.task.join_next().await;
        let ended = ended.context("the writer is gone")??;
        ended.context("a row cannot be written")?;
        Ok(self.sent())
    }
}

fn report(ends: u32, modes: &[Mode]) -> anyhow::Result<Measured> {
    let mut times = Table::new(&format!(" | {}", Latency::COLUMNS));
    let mut rows = Table::new(" | rows | lost | doubled");
    let mut conclusions = Vec::new();
    for mode in modes {
        let name = &mode.name;
        let to_record = "until a consumer has a row that was written after the signal";
        for (what, samples) in [
            ("until the standby leads", &mode.raw_to_leading_us),
            (to_record, &mode.raw_to_first_record_us),
            (
                "longest time without a record",
                &mode.raw_longest_silence_us,
            ),
        ] {
            times.row(format!("{name}: {what}"), samples.latency().cells());
        }
        let p99 = mode.raw_to_first_record_us.latency().p99;
        conclusions.push(format!("{name} p99 {p99:.0} ms"));
        rows.row(
            name,
            [mode.rows, 0, mode.doubled].map(|count| count.to_string()),
        );
    }
    let what = format!(
        "in each mode {ends} leaders were killed (SIGKILL) and as many stopped (SIGTERM), at {ROWS_PER_SECOND} rows a second from one session; milliseconds from the signal"
    );
    let json = json!({ "ends": ends, "rows_per_second": ROWS_PER_SECOND, "modes": modes });
    let title = "Takeover from a leader that is killed or stopped";
    let conclusions = conclusions.join(", ");
    Ok(Measured::new(title, what, json)
        .table(times)
        .table(rows)
        .concluding(format!(
            "end of a leader to first new record: {conclusions}"
        )))
}
