//! The relay beside a bare loop of the same libraries, on a real PostgreSQL and a real Kafka: `make bench`.
//!
//! | file | what |
//! |---|---|
//! | `stage` | a database and topics of the bench's own |
//! | `bare` | the bare loop |
//! | `process` | the relay as a process, and what it cost |
//! | `drain` | a table full of rows, until it is empty |
//! | `latency` | one row into an idle outbox, until a consumer has it |
//! | `machine` | what it ran on |
//! | `figures` | medians, percentiles, and how they are printed |

mod bare;
mod drain;
mod figures;
mod latency;
mod machine;
mod process;
mod stage;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;

use stage::Stage;

#[derive(Debug, Parser, Serialize)]
#[command(about = "Measures the relay beside a bare loop of the same libraries")]
struct Arguments {
    /// Rows of one drain
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Pairs of bare loop and relay
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rows inserted one by one, for each side and all rounds together
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Measures only this
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// A run of seconds that shows that the bench works; its numbers say nothing
    #[arg(long)]
    quick: bool,
    /// Also writes what was measured to DIR/relay.json
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    out: Option<PathBuf>,
    /// Cargo passes it
    #[arg(long, hide = true)]
    #[serde(skip)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Drain,
    Latency,
}

/// All that was measured.
#[derive(Serialize)]
struct Results {
    arguments: Arguments,
    machine: machine::Machine,
    drain: Option<drain::Results>,
    latency: Option<latency::Results>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rows, arguments.rounds, arguments.samples) = (5_000, 1, 20);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let results = runtime.block_on(Box::pin(run(arguments)))?;
    println!("{}", results.machine);
    if let Some(drain) = &results.drain {
        println!("\n{drain}");
    }
    if let Some(latency) = &results.latency {
        println!("\n{latency}");
    }
    if let Some(folder) = &results.arguments.out {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("relay.json");
        let json = serde_json::to_string_pretty(&results)? + "\n";
        std::fs::write(&file, json)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let mut conclusions: Vec<String> = Vec::new();
    conclusions.extend(results.drain.as_ref().map(drain::Results::conclusion));
    conclusions.extend(results.latency.as_ref().map(latency::Results::conclusion));
    println!("\nbench: {}", conclusions.join("; "));
    Ok(())
}

async fn run(arguments: Arguments) -> anyhow::Result<Results> {
    let mut stage = Stage::set().await?;
    let measured = measure(&mut stage, arguments).await;
    stage.strike().await?;
    measured
}

async fn measure(stage: &mut Stage, arguments: Arguments) -> anyhow::Result<Results> {
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    let machine = machine::Machine::here(stage).await?;
    let mut drain = None;
    if wants(Part::Drain) {
        drain = Some(drain::measure(stage, arguments.rows, arguments.rounds).await?);
    }
    let mut latency = None;
    if wants(Part::Latency) {
        latency = Some(latency::measure(stage, arguments.samples, arguments.rounds).await?);
    }
    Ok(Results {
        arguments,
        machine,
        drain,
        latency,
    })
}
