//! The relay beside its limit and its peer, on a real PostgreSQL and a real Kafka: `make bench`.
//!
//! | file | what |
//! |---|---|
//! | `stage` | a database and topics of the bench's own |
//! | `side` | who is measured, in which order, started and ended alike |
//! | `bare` | the limit: a bare loop of the same libraries |
//! | `process` | the relay as users run it |
//! | `debezium` | the peer: Debezium with its outbox event router |
//! | `topic`, `consumer` | what arrived, and when |
//! | `drain` | a backlog, until it is at the broker |
//! | `latency` | one row into an idle outbox, until a consumer has it |
//! | `steady` | 1,000 rows a second, until a consumer has each; then idleness |
//! | `takeover` | a leader that is killed or stopped, beside a standby |
//! | `observed` | the relay alone, and looked at: metrics, health, page, traces |
//! | `pairs` | the relay alone: a large backlog and a small one, a held snapshot and none |
//! | `machine` | what it ran on |
//! | `samples` | latencies one by one |
//! | `report` | the tables, the plots, the raw figures |

mod bare;
mod consumer;
mod debezium;
mod drain;
mod latency;
mod machine;
mod observed;
mod pairs;
mod process;
mod report;
mod samples;
mod side;
mod stage;
mod steady;
mod takeover;
mod topic;

use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use side::Side;
use stage::Stage;

#[derive(Debug, Parser, Serialize)]
#[command(
    about = "Measures the relay beside a bare loop of the same libraries, and beside Debezium"
)]
struct Arguments {
    /// Rows of one drain
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(i64).range(1..))]
    rows: i64,
    /// Rows of the large backlog; the small one has a hundredth
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(i64).range(100..))]
    scale_rows: i64,
    /// How often everything is measured, in another order each time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rows inserted one by one, for each side and all rounds together
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Milliseconds from the arrival of such a row to the next: long enough for the relay to be asleep again
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    gap_ms: u64,
    /// Length of a steady stream of rows, for each side in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How often the leader is killed, and how often it is stopped, in each mode of delivery
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Length of the idleness that is measured with and without somebody who looks
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    idle_seconds: u32,
    /// Who looks at the relay where that is measured: beside each of them, nobody does
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [observed::Watch::Http, observed::Watch::Traces, observed::Watch::Both])]
    watch: Vec<observed::Watch>,
    /// Also measures Debezium
    #[arg(long)]
    peers: bool,
    /// Measures only this
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// A run of seconds that shows that the bench works; its numbers say nothing
    #[arg(long)]
    quick: bool,
    /// Where the tables, the plots and the raw figures are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    #[serde(skip)]
    out: PathBuf,
    /// Cargo passes it
    #[arg(long, hide = true)]
    #[serde(skip)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// A backlog
    Drain,
    /// One row now and then
    Latency,
    /// 1,000 rows a second
    Steady,
    /// A large backlog and a small one
    Scale,
    /// A backlog beside a held snapshot
    Xmin,
    /// A leader that is killed, or stopped
    Takeover,
    /// A backlog, looked at and not
    Observed,
}

/// All that was measured.
#[derive(Serialize)]
struct Results {
    arguments: Arguments,
    machine: machine::Machine,
    drain: Option<drain::Results>,
    latency: Option<latency::Results>,
    steady: Option<steady::Results>,
    scale: Option<pairs::Results>,
    xmin: Option<pairs::Results>,
    takeover: Option<takeover::Results>,
    observed: Option<observed::Results>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rows, arguments.scale_rows) = (5_000, 20_000);
        (arguments.rounds, arguments.samples, arguments.seconds) = (1, 20, 1);
        arguments.kills = 2;
        arguments.idle_seconds = 1;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let results = runtime.block_on(Box::pin(run(arguments)))?;
    let markdown = report::markdown(&results);
    report::write(&results, &markdown)?;
    println!("{markdown}");
    println!("bench: {}", report::conclusion(&results)?);
    println!("bench: written to {}", results.arguments.out.display());
    Ok(())
}

/// Measures, and removes everything whatever came of it.
async fn run(arguments: Arguments) -> anyhow::Result<Results> {
    let (mut interrupted, mut terminated) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut stage = Stage::set().await?;
    let measured = tokio::select! {
        measured = Box::pin(measure(&mut stage, arguments)) => measured,
        _ = interrupted.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminated.recv() => Err(anyhow::anyhow!("terminated")),
    };
    let struck = stage.strike().await;
    let results = measured?;
    struck?;
    Ok(results)
}

async fn measure(stage: &mut Stage, arguments: Arguments) -> anyhow::Result<Results> {
    let debezium = match arguments.peers {
        true => {
            debezium::check(stage).await?;
            Some(debezium::version()?)
        }
        false => None,
    };
    let mut results = Results {
        machine: machine::Machine::here(stage, debezium).await?,
        arguments,
        drain: None,
        latency: None,
        steady: None,
        scale: None,
        xmin: None,
        takeover: None,
        observed: None,
    };
    let Arguments {
        rows,
        scale_rows,
        rounds,
        samples,
        gap_ms,
        seconds,
        kills,
        idle_seconds,
        peers,
        only,
        ..
    } = results.arguments;
    let sides = |ours: &[Side], peers_sides: &[Side]| match peers {
        true => [ours, peers_sides].concat(),
        false => ours.to_vec(),
    };
    let warm_up = rows.min(50_000);
    let wants = |part| only.is_none_or(|only| only == part);
    if wants(Part::Drain) {
        let sides = sides(
            &[Side::Bare, Side::Relay],
            &[Side::DebeziumTuned, Side::DebeziumDefault],
        );
        results.drain = Some(drain::measure(stage, &sides, rows, rounds).await?);
    }
    let peers = [
        Side::DebeziumEager,
        Side::DebeziumTuned,
        Side::DebeziumDefault,
    ];
    if wants(Part::Latency) {
        let sides = sides(&[Side::Bare, Side::Relay], &peers);
        let plan = latency::Plan {
            samples,
            rounds,
            warm_up,
            gap_ms,
        };
        results.latency = Some(latency::measure(stage, &sides, plan).await?);
    }
    if wants(Part::Steady) {
        // The bare loop would lose a row that commits after one with a higher id, and the bench would wait for it.
        let sides = sides(&[Side::Relay], &peers);
        results.steady = Some(steady::measure(stage, &sides, seconds, rounds, warm_up).await?);
    }
    if wants(Part::Scale) {
        results.scale = Some(pairs::scale(stage, scale_rows, rounds).await?);
    }
    if wants(Part::Xmin) {
        results.xmin = Some(pairs::xmin(stage, rows, rounds).await?);
    }
    if wants(Part::Takeover) {
        results.takeover = Some(takeover::measure(stage, kills).await?);
    }
    if wants(Part::Observed) {
        let (watch, idle) = (&results.arguments.watch, idle_seconds);
        results.observed = Some(observed::measure(stage, watch, rows, rounds, idle).await?);
    }
    Ok(results)
}
