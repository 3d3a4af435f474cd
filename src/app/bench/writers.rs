//! What a trigger costs those who write.

use serde::Serialize;

use super::clients::Clients;
use super::figures::{Durations, Latency, Spread, thousands};
use super::plan::Plan;
use super::plot::{self, Bars};
use super::report::{Section, Table};
use super::stage::Stage;
use super::{ramp, single};
use crate::postgres::Ringing;

/// The relay of the baseline fetches so often, so that its work is on both sides.
pub(super) const POLL: &str = "5ms";

/// What writers meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Variant {
    /// No trigger; the relay fetches by the clock.
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

impl Variant {
    const ALL: [Self; 5] = [
        Self::NoTrigger,
        Self::PlainNotify,
        Self::BellAsleep,
        Self::BellSteady,
        Self::StrictOrder,
    ];
    /// What is repeated for the ratios that count.
    const REPEATED: [Self; 4] = [
        Self::NoTrigger,
        Self::BellAsleep,
        Self::BellSteady,
        Self::StrictOrder,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NoTrigger => "no trigger",
            Self::PlainNotify => "plain NOTIFY",
            Self::BellAsleep => "bell, relay asleep at the start",
            Self::BellSteady => "bell, steady load",
            Self::StrictOrder => "bell and strict order, steady load",
        }
    }

    fn ringing(self) -> Ringing {
        match self {
            Self::NoTrigger => Ringing::None,
            Self::PlainNotify => Ringing::Notify,
            Self::BellAsleep | Self::BellSteady => Ringing::Bell,
            Self::StrictOrder => Ringing::Ordered,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Spec {
    clients: u32,
    round: u32,
    rounds: u32,
    variant: Variant,
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Each commit of the writers was made to wait so long.
    commit_delay_ms: Option<f64>,
    runs: Vec<Run>,
    summary: Vec<Summary>,
    insert: single::Results,
    ramp: ramp::Results,
}

#[derive(Debug, Clone, Serialize)]
struct Run {
    clients: u32,
    round: u32,
    variant: Variant,
    commits_per_second: f64,
    /// Over the run without a trigger of the same round.
    ratio: f64,
    /// Milliseconds of a whole transaction.
    transaction_ms: Option<Latency>,
    /// Milliseconds of its COMMIT.
    commit_ms: Option<Latency>,
    /// Rows that the relay had yet to delete at the end.
    backlog: i64,
    /// Whether the relay was seen asleep before the first transaction, where it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_slept: Option<bool>,
    #[serde(skip)]
    commits: Durations,
}

#[derive(Debug, Serialize)]
struct Summary {
    clients: u32,
    variant: Variant,
    rounds: usize,
    commits_per_second: Spread,
    ratio: Spread,
    commit_ms: Option<Latency>,
}

fn schedule(plan: &Plan) -> Vec<Spec> {
    let mut specs = Vec::new();
    for clients in &plan.clients {
        let repeated = *clients == plan.pair_clients();
        let rounds = if repeated { plan.writer_rounds } else { 1 };
        for round in 1..=rounds {
            let variants = if round == 1 {
                &Variant::ALL[..]
            } else {
                &Variant::REPEATED
            };
            specs.extend(variants.iter().map(|variant| Spec {
                clients: *clients,
                round,
                rounds,
                variant: *variant,
            }));
        }
    }
    specs
}

pub(super) fn steps(plan: &Plan) -> usize {
    schedule(plan).len() + single::steps(plan) + ramp::steps(plan)
}

pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let topic = stage.topics.make("writers").await?;
    let mut runs: Vec<Run> = Vec::new();
    let mut clients: Option<(u32, Clients)> = None;
    for spec in schedule(&stage.plan) {
        if clients
            .as_ref()
            .is_none_or(|(count, _)| *count != spec.clients)
        {
            // The sessions of the smaller number go first.
            drop(clients.take());
            let delay = stage.plan.commit_delay;
            let connected = Clients::connect(&stage.scratch, spec.clients, delay).await?;
            clients = Some((spec.clients, connected));
        }
        if let Some((_, clients)) = &mut clients {
            let mut run = run(stage, clients, &topic, spec).await?;
            let baseline = runs.iter().find(|base| {
                (base.clients, base.round, base.variant)
                    == (spec.clients, spec.round, Variant::NoTrigger)
            });
            run.ratio =
                baseline.map_or(1.0, |base| run.commits_per_second / base.commits_per_second);
            runs.push(run);
        }
    }
    drop(clients);
    let insert = single::measure(stage).await?;
    let ramp = ramp::measure(stage, &topic).await?;
    stage.topics.remove(&topic).await?;
    Ok(Results {
        commit_delay_ms: stage
            .plan
            .commit_delay
            .map(|delay| delay.as_secs_f64() * 1e3),
        summary: summary(&runs),
        runs,
        insert,
        ramp,
    })
}

async fn run(
    stage: &mut Stage,
    clients: &mut Clients,
    topic: &str,
    spec: Spec,
) -> anyhow::Result<Run> {
    let Spec {
        clients: count,
        round,
        rounds,
        variant,
    } = spec;
    let name = variant.name();
    stage.progress.step(format!(
        "writers: {count} clients, {name}, round {round} of {rounds}"
    ));
    stage.scratch.empty().await?;
    stage.scratch.ring_by(variant.ringing()).await?;
    let poll = ["--poll", POLL];
    let flags = if variant == Variant::NoTrigger {
        &poll[..]
    } else {
        &[]
    };
    let relay = stage.relay(topic, flags).await?;
    let mut relay_slept = None;
    let mut warm_up = stage.plan.warm_up;
    if variant == Variant::BellAsleep {
        relay_slept = Some(stage.relay_sleeps().await?);
        clients.rehearse().await?;
        warm_up = std::time::Duration::ZERO;
    }
    let written = clients.write(warm_up, stage.plan.writing).await?;
    let backlog = stage.scratch.backlog().await?;
    relay.stop().await?;
    Ok(Run {
        clients: count,
        round,
        variant,
        commits_per_second: written.rate,
        ratio: 1.0,
        transaction_ms: written.transactions.latency(),
        commit_ms: written.commits.latency(),
        backlog,
        relay_slept,
        commits: written.commits,
    })
}

fn summary(runs: &[Run]) -> Vec<Summary> {
    let mut kinds: Vec<(u32, Variant)> =
        runs.iter().map(|run| (run.clients, run.variant)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let of = |(clients, variant)| {
        let same: Vec<&Run> = runs
            .iter()
            .filter(|run| (run.clients, run.variant) == (clients, variant))
            .collect();
        let mut commits = Durations::default();
        same.iter().for_each(|run| commits.merge(&run.commits));
        Some(Summary {
            clients,
            variant,
            rounds: same.len(),
            commits_per_second: Spread::of(same.iter().map(|run| run.commits_per_second))?,
            ratio: Spread::of(same.iter().map(|run| run.ratio))?,
            commit_ms: commits.latency(),
        })
    };
    kinds.into_iter().filter_map(of).collect()
}

impl Results {
    pub(super) fn section(&self) -> anyhow::Result<Section> {
        let mut head = vec![
            "clients",
            "trigger",
            "rounds",
            "commits/s",
            "/ no trigger",
            "lowest",
            "highest",
        ];
        head.extend(["commit p50, ms", "p90", "p99", "p99.9", "max"]);
        let mut table = Table::new(head);
        for one in &self.summary {
            let mut row = vec![
                one.clients.to_string(),
                one.variant.name().to_owned(),
                one.rounds.to_string(),
                thousands(one.commits_per_second.median),
                format!("{:.3}", one.ratio.median),
                format!("{:.3}", one.ratio.min),
                format!("{:.3}", one.ratio.max),
            ];
            row.extend(one.commit_ms.iter().flat_map(Latency::cells));
            table.push(row);
        }
        let (insert, ramp) = (self.insert.table(), self.ramp.table());
        let mut notes = vec![
            format!("Each transaction is one business row and one event in two round trips, its COMMIT the second. Without a trigger the same relay fetches every {POLL}, so that its work is on both sides. Each client has a key of its own, so with strict order clients wait for each other only where keys share a lock."),
            "The ratios are those of pairs, one run after the other; clients and relay share the machine that measures.".to_owned(),
        ];
        notes.extend(self.commit_delay_ms.map(|delay| format!("Each commit of the writers waits {delay} ms before it is flushed (commit_delay, commit_siblings = 0).")));
        if self.runs.iter().any(|run| run.relay_slept == Some(false)) {
            notes.push("The relay was not seen asleep: the trigger that is installed is an earlier one, and rings at each insert.".into());
        }
        notes.extend(self.ramp.notes());
        Ok(Section {
            title: "writers",
            what: "transactions of several clients at once, as fast as they can; one large INSERT; and a sudden start on a sleeping relay".into(),
            tables: vec![table, insert, ramp],
            notes,
            plots: vec![self.plot()?, self.ramp.plot()?],
        })
    }

    fn plot(&self) -> anyhow::Result<String> {
        let mut counts: Vec<u32> = self.summary.iter().map(|one| one.clients).collect();
        counts.dedup();
        let series = Variant::ALL.map(|variant| {
            let of = |clients: &u32| {
                let same = |one: &&Summary| (one.clients, one.variant) == (*clients, variant);
                let found = self.summary.iter().find(same);
                found.map_or(f64::NAN, |one| one.commits_per_second.median)
            };
            (variant.name().to_owned(), counts.iter().map(of).collect())
        });
        Ok(plot::bars(&Bars {
            title: "Commits a second by number of clients".into(),
            unit: "commits/s".into(),
            groups: counts.iter().map(u32::to_string).collect(),
            series: series.to_vec(),
            reference: None,
        })?)
    }
}
