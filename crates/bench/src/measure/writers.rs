//! What a trigger costs writers.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::clients::{POLL, relay_beside, write};
use super::plan::Plan;
use super::{bulk_insert, cold_start};
use crate::fixture::{Fixture, Ringing, Writers};
use crate::report::figures::{Latency, Samples, thousands};
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table, plot};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Variant {
    /// No trigger; the relay polls.
    NoTrigger,
    /// A trigger that notifies in each transaction.
    PlainNotify,
    /// The bell, from the first transaction on a sleeping relay.
    BellAsleep,
    /// The bell, after a warm-up.
    BellSteady,
    /// The same, with the order of commits kept for each key (`sql/strict_order.sql`).
    StrictOrder,
}

/// Each with its name and how its commits reach the relay.
const VARIANTS: [(Variant, &str, Ringing); 5] = [
    (Variant::NoTrigger, "no trigger", Ringing::None),
    (Variant::PlainNotify, "plain NOTIFY", Ringing::Notify),
    (
        Variant::BellAsleep,
        "bell, relay asleep at the start",
        Ringing::Bell,
    ),
    (Variant::BellSteady, "bell, steady load", Ringing::Bell),
    (
        Variant::StrictOrder,
        "bell and strict order, steady load",
        Ringing::Ordered,
    ),
];

impl Variant {
    fn name(self) -> &'static str {
        VARIANTS[self as usize].1
    }
}

#[derive(Debug, Serialize)]
struct Run {
    clients: u32,
    variant: Variant,
    commits_per_second: f64,
    /// Over the run without a trigger of the same round.
    ratio: f64,
    /// Milliseconds of a whole transaction.
    transaction_ms: Latency,
    commit_ms: Latency,
    /// Rows that the relay had yet to delete at the end.
    backlog: i64,
    /// Whether the relay was seen asleep before the first transaction, where it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_slept: Option<bool>,
    #[serde(skip)]
    commits: Samples,
}

/// The number of clients, the round, and what they meet.
fn schedule(plan: &Plan) -> Vec<(u32, u32, Variant)> {
    let mut all = Vec::new();
    for clients in &plan.clients {
        let is_repeated = *clients == plan.pair_clients();
        for round in 1..=if is_repeated { plan.writer_rounds() } else { 1 } {
            // The ratio to a plain NOTIFY needs no further pair.
            let variants = VARIANTS.into_iter().map(|(variant, ..)| variant);
            let variants = variants.filter(|it| round == 1 || *it != Variant::PlainNotify);
            all.extend(variants.map(|variant| (*clients, round, variant)));
        }
    }
    all
}

pub(super) async fn measure(fixture: &mut Fixture, plan: &Plan) -> anyhow::Result<Measured> {
    let topic = fixture.topics.make("writers").await?;
    let mut rounds = Rounds::new();
    let mut clients = Writers::connect(&fixture.scratch, 0, None).await?;
    for (count, round, variant) in schedule(plan) {
        if clients.count() != count as usize {
            // The sessions of the smaller number go first.
            drop(clients);
            clients = Writers::connect(&fixture.scratch, count, plan.commit_delay).await?;
        }
        let name = variant.name();
        let step = format!("writers: {count} clients, {name}, round {round}");
        fixture.progress.step(step);
        let mut run = run(fixture, plan, &mut clients, &topic, variant).await?;
        run.clients = count;
        let rate = |run: &Run| run.commits_per_second;
        let baseline = rounds.figure(round, (count, Variant::NoTrigger), rate);
        if !baseline.is_nan() {
            run.ratio = rate(&run) / baseline;
        }
        rounds.push(round, (count, variant), run);
    }
    drop(clients);
    let insert = bulk_insert::measure(fixture, plan).await?;
    let start = cold_start::measure(fixture, plan, &topic).await?;
    let measured = report(plan, &rounds)?;
    Ok(measured.with("insert", insert).with("ramp", start))
}

async fn run(
    fixture: &mut Fixture,
    plan: &Plan,
    clients: &mut Writers,
    topic: &str,
    variant: Variant,
) -> anyhow::Result<Run> {
    let relay = relay_beside(fixture, topic, VARIANTS[variant as usize].2).await?;
    let (mut relay_slept, mut warm_up) = (None, plan.warm_up());
    if variant == Variant::BellAsleep {
        relay_slept = Some(fixture.relay_sleeps().await?);
        clients.rehearse().await?;
        warm_up = Duration::ZERO;
    }
    let written = write(clients, warm_up, plan.writing()).await?;
    let backlog = fixture.scratch.backlog().await?;
    relay.stop(fixture).await?;
    Ok(Run {
        clients: 0,
        variant,
        commits_per_second: written.returned.len() as f64 / plan.writing().as_secs_f64(),
        ratio: 1.0,
        transaction_ms: written.transactions.latency(),
        commit_ms: written.commits.latency(),
        backlog,
        relay_slept,
        commits: written.commits,
    })
}

fn report(plan: &Plan, rounds: &Rounds<(u32, Variant), Run>) -> anyhow::Result<Measured> {
    let rate = |run: &Run| run.commits_per_second;
    let mut table = Table::new(
        "clients | trigger | rounds | commits/s | / no trigger | lowest | highest | commit p50, ms | p90 | p99 | p99.9 | max",
    );
    let mut summary = Vec::new();
    for kind in rounds.kinds() {
        let (rates, ratio) = (
            rounds.spread(kind, rate),
            rounds.spread(kind, |it| it.ratio),
        );
        let mut commits = Samples::default();
        rounds.of(kind).for_each(|run| commits.extend(&run.commits));
        let (commits, times) = (commits.latency(), rounds.of(kind).count());
        let (name, rate) = (kind.1.name().to_owned(), thousands(rates.median));
        let row = [name, times.to_string(), rate].into_iter();
        let ratios = ratio.cells(|figure| format!("{figure:.3}"));
        table.row(kind.0.to_string(), row.chain(ratios).chain(commits.cells()));
        summary.push(json!({
            "clients": kind.0, "variant": kind.1, "rounds": times,
            "commits_per_second": rates, "ratio": ratio, "commit_ms": commits,
        }));
    }
    let series = VARIANTS.map(|(variant, name, _)| {
        let of = |clients: &u32| rounds.spread((*clients, variant), rate).median;
        (name.to_owned(), plan.clients.iter().map(of).collect())
    });
    let clients = plan.clients.iter().map(u32::to_string).collect();
    let title = "Commits a second by number of clients";
    let svg = plot::bars(title, "commits/s", clients, series.to_vec())?;
    let delay = plan.commit_delay.map(|delay| delay.as_secs_f64() * 1e3);
    let json = json!({ "commit_delay_ms": delay, "runs": rounds.json(), "summary": summary });
    let what = "transactions of several clients at once, as fast as they can; one large INSERT; and a sudden start on a sleeping relay";
    let mut measured = Measured::new("writers", what, json)
        .table(table)
        .note(format!("Each transaction is one business row and one event in two round trips, its COMMIT the second. Without a trigger the same relay polls every {POLL}, so that its work is on both sides. Each client has a key of its own, so with strict order clients wait for each other only where keys share a lock."))
        .note("The ratios are those of pairs, one run after the other; clients and relay share the machine that measures.")
        .plot("writers", svg);
    if let Some(delay) = delay {
        measured = measured.note(format!("Each commit of the writers waits {delay} ms before it is flushed (commit_delay, commit_siblings = 0)."));
    }
    if rounds.runs().any(|run| run.relay_slept == Some(false)) {
        measured = measured.note("The relay was not seen asleep: the trigger that is installed is an earlier one, and rings at each insert.");
    }
    Ok(measured)
}
