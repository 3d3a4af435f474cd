//! Many writers that start at once while the relay sleeps: until they run at full speed.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::clients::{relay_beside, write};
use super::plan::Plan;
use crate::fixture::{Fixture, Ringing, Writers};
use crate::report::figures::{Spread, thousands};
use crate::report::{Measured, Table, plot};

/// Commits are counted in pieces of this.
const BUCKET: Duration = Duration::from_millis(20);
/// So many pieces in a row must be at full speed, on average: commits come in groups, and one piece
/// may be lucky.
const LASTING: usize = 5;
/// This share of the steady rate is full speed.
const FULL: f64 = 0.9;
/// How long a commit takes unless a flag says otherwise.
const COMMIT: Duration = Duration::from_millis(2);

#[derive(Debug, Serialize)]
struct Start {
    /// With the bell; else without a trigger, and with a relay that polls.
    bell: bool,
    /// Whether the relay was seen asleep before.
    relay_slept: bool,
    /// Commits a second in the second half.
    steady: f64,
    /// Until 90 % of it; none if it was never reached in five pieces in a row.
    milliseconds: Option<f64>,
    /// Commits a second in each 20 ms from the start.
    rates: Vec<f64>,
}

pub(super) async fn measure(
    fixture: &mut Fixture,
    plan: &Plan,
    topic: &str,
) -> anyhow::Result<Measured> {
    let count = plan.cold_clients();
    let may_delay = fixture.scratch.may_delay_commits().await?;
    let delay = plan.commit_delay.or(may_delay.then_some(COMMIT));
    let mut clients = Writers::connect(&fixture.scratch, count, delay).await?;
    let length = Duration::from_millis(if plan.quick { 400 } else { 2_000 });
    let all = plan.writer_rounds().min(5);
    let mut starts = Vec::new();
    for number in 1..=all {
        for bell in [false, true] {
            let on = ["no trigger", "a sleeping relay"][usize::from(bell)];
            let step = format!("writers: {count} start on {on}, {number} of {all}");
            fixture.progress.step(step);
            starts.push(start(fixture, &mut clients, topic, bell, length).await?);
        }
    }
    let delay = delay.map(|delay| delay.as_secs_f64() * 1e3);
    report(&starts, count, delay)
}

async fn start(
    fixture: &mut Fixture,
    clients: &mut Writers,
    topic: &str,
    bell: bool,
    length: Duration,
) -> anyhow::Result<Start> {
    let ringing = if bell { Ringing::Bell } else { Ringing::None };
    let relay = relay_beside(fixture, topic, ringing).await?;
    let relay_slept = bell && fixture.relay_sleeps().await?;
    clients.rehearse().await?;
    let written = write(clients, Duration::ZERO, length).await?;
    relay.stop(fixture).await?;
    let (rates, steady, milliseconds) = judge(&written.returned, length);
    Ok(Start {
        bell,
        relay_slept,
        steady,
        milliseconds,
        rates,
    })
}

/// The rates, the steady one, and the milliseconds until it was reached for good.
fn judge(commits: &[Duration], length: Duration) -> (Vec<f64>, f64, Option<f64>) {
    let bucket = |at: Duration| (at.as_millis() / BUCKET.as_millis()) as usize;
    let mut rates = vec![0.0; bucket(length)];
    for at in commits {
        if let Some(rate) = rates.get_mut(bucket(*at)) {
            *rate += 1.0 / BUCKET.as_secs_f64();
        }
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let steady = mean(&rates[rates.len() / 2..]);
    let enough = |rates: &[f64]| rates[0] >= FULL * steady && mean(rates) >= FULL * steady;
    let reached = rates.windows(LASTING).position(enough);
    let milliseconds = reached.map(|bucket| bucket as f64 * BUCKET.as_secs_f64() * 1e3);
    let milliseconds = milliseconds.filter(|_| steady > 0.0);
    (rates, steady, milliseconds)
}

fn report(starts: &[Start], clients: u32, delay: Option<f64>) -> anyhow::Result<Measured> {
    let spread = |bell: bool| {
        let same = starts.iter().filter(|start| start.bell == bell);
        Spread::of(same.filter_map(|start| start.milliseconds)).known()
    };
    let mut table = Table::new("start | steady commits/s | ms until 90 % of it");
    let mut series = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        // Starts come in pairs.
        let on = ["no trigger", "bell, relay asleep"][usize::from(start.bell)];
        let name = format!("{}, {on}", index / 2 + 1);
        let reached = start.milliseconds;
        let reached = reached.map_or("not reached".into(), |millis| format!("{millis:.0}"));
        table.row(&name, [thousands(start.steady), reached]);
        let middle = |bucket: usize| (bucket as f64 + 0.5) * BUCKET.as_secs_f64() * 1e3;
        let points = start.rates.iter().enumerate();
        let points = points.map(|(bucket, rate)| (middle(bucket), *rate));
        series.push((name, points.collect()));
    }
    // Two of each tell enough.
    series.truncate(4);
    let axes = ["milliseconds since the start", "commits/s"];
    let svg = plot::lines("A sudden start on a sleeping relay", axes, series)?;
    let waits = match delay {
        Some(delay) => format!("each commit waits {delay} ms"),
        None => "commits are as fast as the disk, since our role may not set commit_delay".into(),
    };
    let json = json!({
        "clients": clients, "commit_delay_ms": delay, "starts": starts,
        "bell_milliseconds": spread(true), "no_trigger_milliseconds": spread(false),
    });
    let note = format!(
        "Start: {clients} clients begin at the same moment, {waits}; commits are counted in pieces of 20 ms, and full speed is reached with the first piece that \
         has 90 % of the steady rate and stays there on average for 100 ms."
    );
    Ok(Measured::new("", "", json)
        .table(table)
        .note(note)
        .plot("cold-start", svg))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits at an even rate, per millisecond, from one millisecond to another.
    fn evenly(per_milli: u64, from: u64, to: u64) -> impl Iterator<Item = Duration> {
        (from * per_milli..to * per_milli)
            .map(move |number| Duration::from_micros(number * 1_000 / per_milli))
    }

    #[test]
    fn full_speed_from_the_start_takes_no_time() {
        let commits: Vec<_> = evenly(10, 0, 1_000).collect();
        let (rates, steady, reached) = judge(&commits, Duration::from_secs(1));
        assert_eq!(
            (rates.len(), steady.round(), reached),
            (50, 10_000.0, Some(0.0))
        );
    }

    #[test]
    fn a_slow_beginning_counts_and_one_lucky_piece_does_not() {
        let slow = evenly(1, 0, 200).chain(evenly(20, 60, 80));
        let commits: Vec<_> = slow.chain(evenly(10, 200, 1_000)).collect();
        assert_eq!(judge(&commits, Duration::from_secs(1)).2, Some(200.0));
    }

    #[test]
    fn nothing_is_never_full_speed() {
        assert_eq!(judge(&[], Duration::from_secs(1)).2, None);
    }
}
