//! Many writers that start at once while the relay sleeps: until they run at full speed.

use std::time::Duration;

use serde::Serialize;

use super::clients::Clients;
use super::figures::{Spread, thousands};
use super::plan::Plan;
use super::plot::{self, Lines};
use super::report::Table;
use super::stage::Stage;
use super::writers::POLL;
use crate::postgres::Ringing;

/// Commits are counted in pieces of this.
const BUCKET: Duration = Duration::from_millis(20);
/// So many pieces in a row must be at full speed, on average: commits come in groups, and one piece may be lucky.
const LASTING: usize = 5;
/// This share of the steady rate is full speed.
const FULL: f64 = 0.9;
/// How long a commit takes where the user did not say.
const COMMIT: Duration = Duration::from_millis(2);

#[derive(Debug, Serialize)]
pub(super) struct Results {
    clients: u32,
    /// What each commit waited; none where our role may not set it.
    commit_delay_ms: Option<f64>,
    starts: Vec<Start>,
    /// Of the starts on a sleeping relay, and of those without a trigger.
    bell_milliseconds: Option<Spread>,
    no_trigger_milliseconds: Option<Spread>,
}

#[derive(Debug, Serialize)]
struct Start {
    /// With the bell; else without a trigger, and with a relay that fetches by the clock.
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

fn starts(plan: &Plan) -> u32 {
    plan.writer_rounds.min(5)
}

fn length(plan: &Plan) -> Duration {
    Duration::from_millis(if plan.quick { 400 } else { 2_000 })
}

pub(super) fn steps(plan: &Plan) -> usize {
    2 * starts(plan) as usize
}

pub(super) async fn measure(stage: &mut Stage, topic: &str) -> anyhow::Result<Results> {
    let count = stage.plan.ramp_clients;
    let delay = match stage.plan.commit_delay {
        Some(delay) => Some(delay),
        None => stage.scratch.may_delay_commits().await?.then_some(COMMIT),
    };
    let mut clients = Clients::connect(&stage.scratch, count, delay).await?;
    let all = starts(&stage.plan);
    let mut starts = Vec::new();
    for number in 1..=all {
        for bell in [false, true] {
            let on = if bell {
                "a sleeping relay"
            } else {
                "no trigger"
            };
            stage
                .progress
                .step(format!("writers: {count} start on {on}, {number} of {all}"));
            starts.push(start(stage, &mut clients, topic, bell).await?);
        }
    }
    let spread = |bell: bool| {
        let same = starts.iter().filter(|start| start.bell == bell);
        Spread::of(same.filter_map(|start| start.milliseconds))
    };
    Ok(Results {
        clients: count,
        commit_delay_ms: delay.map(|delay| delay.as_secs_f64() * 1e3),
        bell_milliseconds: spread(true),
        no_trigger_milliseconds: spread(false),
        starts,
    })
}

async fn start(
    stage: &mut Stage,
    clients: &mut Clients,
    topic: &str,
    bell: bool,
) -> anyhow::Result<Start> {
    let (ringing, flags) = if bell {
        (Ringing::Bell, &[][..])
    } else {
        (Ringing::None, &["--poll", POLL][..])
    };
    stage.scratch.empty().await?;
    stage.scratch.ring_by(ringing).await?;
    let relay = stage.relay(topic, flags).await?;
    let relay_slept = bell && stage.relay_sleeps().await?;
    clients.rehearse().await?;
    let length = length(&stage.plan);
    let commits = clients.burst(length).await?;
    relay.stop().await?;
    let (rates, steady, milliseconds) = judge(&commits, length);
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
    let buckets = (length.as_millis() / BUCKET.as_millis()) as usize;
    let mut counts = vec![0_u32; buckets];
    for at in commits {
        let bucket = (at.as_millis() / BUCKET.as_millis()) as usize;
        if let Some(count) = counts.get_mut(bucket) {
            *count += 1;
        }
    }
    let rates: Vec<f64> = counts
        .iter()
        .map(|count| f64::from(*count) / BUCKET.as_secs_f64())
        .collect();
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let steady = mean(&rates[buckets / 2..]);
    let enough = |rates: &[f64]| rates[0] >= FULL * steady && mean(rates) >= FULL * steady;
    let reached = rates.windows(LASTING).position(enough);
    let milliseconds = reached.map(|bucket| bucket as f64 * BUCKET.as_secs_f64() * 1e3);
    (rates, steady, milliseconds.filter(|_| steady > 0.0))
}

impl Start {
    /// Starts come in pairs.
    fn name(&self, number: usize) -> String {
        let on = if self.bell {
            "bell, relay asleep"
        } else {
            "no trigger"
        };
        format!("{}, {on}", number / 2 + 1)
    }
}

impl Results {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["start", "steady commits/s", "ms until 90 % of it"]);
        for (number, start) in self.starts.iter().enumerate() {
            let reached = start.milliseconds;
            table.push([
                start.name(number),
                thousands(start.steady),
                reached.map_or("not reached".into(), |millis| format!("{millis:.0}")),
            ]);
        }
        table
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let delay = match self.commit_delay_ms {
            Some(delay) => format!("each commit waits {delay} ms"),
            None => {
                "commits are as fast as the disk, since our role may not set commit_delay".into()
            }
        };
        vec![format!(
            "Start: {} clients begin at the same moment, {delay}; commits are counted in pieces of 20 ms, and full speed is reached with the first piece that \
             has 90 % of the steady rate and stays there on average for 100 ms.",
            self.clients
        )]
    }

    pub(super) fn plot(&self) -> anyhow::Result<String> {
        let curve = |(number, start): (usize, &Start)| {
            let points = start.rates.iter().enumerate();
            let at = |(bucket, rate): (usize, &f64)| {
                ((bucket as f64 + 0.5) * BUCKET.as_secs_f64() * 1e3, *rate)
            };
            (start.name(number), points.map(at).collect())
        };
        Ok(plot::lines(&Lines {
            title: "A sudden start on a sleeping relay".into(),
            x: "milliseconds since the start".into(),
            y: "commits/s".into(),
            logarithmic: false,
            // Two of each tell enough.
            series: self.starts.iter().enumerate().take(4).map(curve).collect(),
        })?)
    }
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
        assert_eq!((rates.len(), steady, reached), (50, 10_000.0, Some(0.0)));
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
