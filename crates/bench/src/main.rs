//! The command `doorbell-bench`, which `doorbell bench` runs.
//!
//! | folder | what |
//! |---|---|
//! | `measure` | what it measures on the user's own database and brokers |
//! | `compare` | the relay beside a bare loop and Debezium: `doorbell bench compare`, `scripts/bench` |
//! | `sides` | who is measured, and at what work |
//! | `fixture` | where everything is measured: a scratch outbox, topics, relays, writers, consumers |
//! | `report` | figures, tables, plots |

mod compare;
mod fixture;
mod measure;
mod report;
mod sides;

use clap::{CommandFactory, Parser, Subcommand};
use doorbell::bench_support::{
    Failure, GlobalFlags, end, leave, load_settings, obey_no_color, usage_error,
};

/// Measures on your own database and brokers: what the trigger costs writers, draining, latency, an
/// idle relay
#[derive(Debug, Parser)]
#[command(
    name = "doorbell bench",
    bin_name = "doorbell bench",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(flatten)]
    measure: measure::Plan,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the relay beside a bare loop of the same libraries, and beside Debezium
    Compare(compare::CompareFlags),
}

fn main() -> ! {
    obey_no_color();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => leave(usage_error(&error, Cli::command())),
    };
    end(run(cli))
}

fn run(cli: Cli) -> Result<(), Failure> {
    let settings = load_settings(cli.global)?;
    // Relays end with the thread that started them, which must be this one: it runs the future
    // below.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = match cli.command {
        None => runtime.block_on(Box::pin(measure::run(&settings, &cli.measure))),
        Some(Command::Compare(flags)) => runtime.block_on(Box::pin(compare::run(&settings, flags))),
    };
    runtime.shutdown_background();
    done
}
