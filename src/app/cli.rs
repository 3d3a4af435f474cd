//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::bench::{self, BenchFlags};
use super::check::{self, CheckFlags};
use super::failure::{Failure, Outcome};
use super::pause::{self, PauseFlags, ResumeFlags};
use super::telemetry::LogFlags;
use super::verify::{self, VerifyFlags};
use super::{config, dead, drain, emit, manual, migrate, receipts, run, status, terminal, usage};
use crate::config::{Faults, GlobalFlags, HttpFlags, Needs, OutboxFlags, Overrides, Settings};
use crate::kafka;

/// Carries the rows of a PostgreSQL outbox table to Kafka.
#[derive(Debug, Parser)]
#[command(
    name = "doorbell",
    version,
    max_term_width = 100,
    arg_required_else_help = false
)]
struct Cli {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the table an outbox: table, trigger, and what a queue needs. Safe to repeat
    Migrate(Migrate),
    /// Relay rows until a signal comes: the first one finishes what is in flight, a second one leaves at once
    Run(Run),
    /// Relay until the table is empty, then end: before a move, or to be done with a backlog. Refuses where another relay leads
    Drain(Drain),
    /// Say how many rows wait, since when, who leads, and whether the trigger is in place
    Status(Status),
    /// Let no row leave before `resume`, whichever relays run: what is on its way is finished, writers go on
    Pause(PauseFlags),
    /// End a pause
    Resume(ResumeFlags),
    /// Say what is wrong with this database, these rights and these topics, why it matters and what cures it
    Check(Check),
    /// Look after rows that Kafka could not take: list, show, retry, drop
    Dead(Dead),
    /// Look after the receipts of the delivery mode exactly-once
    Receipts(Receipts),
    /// Insert one event
    Emit(Emit),
    /// Prove from the topics and the table that no event is missing, doubled or out of order
    #[command(after_long_help = verify::PROVES, after_help = "--help says what this proves, and what it cannot know")]
    Verify(Verify),
    /// Print what is in force and where each value came from, as a file that says the same; secrets are hidden
    Config(Config),
    /// Print completions for a shell: doorbell completions bash > /etc/bash_completion.d/doorbell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, or write one for each command into a folder
    Man {
        /// The folder
        #[arg(value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
    },
    /// Measure on your own database and brokers: what the trigger costs writers, draining, latency, an idle relay
    Bench(BenchFlags),
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    outbox: OutboxFlags,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    http: HttpFlags,
    /// Give up when PostgreSQL or Kafka does not answer for this long at the start [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    start_timeout: Option<std::time::Duration>,
    /// Fetch at this distance, whatever rings: the comparison that the benchmarks need
    #[arg(long, hide = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    poll: Option<std::time::Duration>,
    /// Stop when the program that started it has ended, however it did: the benchmarks leave no relay behind
    #[arg(long, hide = true)]
    end_with_parent: bool,
    /// The same as --log-format json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
struct Drain {
    #[command(flatten)]
    outbox: OutboxFlags,
    /// Give up when PostgreSQL or Kafka does not answer for this long at the start [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    start_timeout: Option<std::time::Duration>,
    /// Say at the end as JSON what became of the rows
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    outbox: OutboxFlags,
    /// Say it again and again until it is interrupted: over the last one at a terminal, else in lines [default: every 2s]
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = status::interval)]
    watch: Option<std::time::Duration>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Config {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    http: HttpFlags,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    flags: CheckFlags,
}

/// `emit`'s flags. Its `--topic` is the event's own, so the flags of an outbox's route are not among them.
#[derive(Debug, Args)]
struct Emit {
    /// Insert into this table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Use the column NAME as id, type, payload, created_at, key, topic or headers; may be repeated
    #[arg(long, value_name = "KEY=NAME")]
    column: Vec<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    event: emit::EventFlags,
}

/// `verify`'s flags. Its `--topic` may be repeated, so those of an outbox's route are not among them.
#[derive(Debug, Args)]
struct Verify {
    /// Judge this outbox [default: outbox]
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Use the column NAME as id, type, payload, created_at, key, topic or headers; may be repeated
    #[arg(long, value_name = "KEY=NAME")]
    column: Vec<String>,
    #[command(flatten)]
    flags: VerifyFlags,
}

/// `dead`'s flags, before or after the name of what is to be done.
#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
struct Dead {
    /// Of this table [default: all that are configured, or outbox]
    #[arg(long, global = true, value_name = "NAME")]
    table: Option<String>,
    /// Use the column NAME as id, type, payload, created_at, key, topic or headers; may be repeated
    #[arg(long, global = true, value_name = "KEY=NAME")]
    column: Vec<String>,
    /// Answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: dead::DeadCommand,
}

/// `receipts`' flags.
#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
struct Receipts {
    /// Of this table [default: all that are configured, or outbox]
    #[arg(long, global = true, value_name = "NAME")]
    table: Option<String>,
    /// Use the column NAME as id, type, payload, created_at, key, topic or headers; may be repeated
    #[arg(long, global = true, value_name = "KEY=NAME")]
    column: Vec<String>,
    #[command(subcommand)]
    command: receipts::ReceiptsCommand,
}

/// Runs the program.
pub fn main() -> ExitCode {
    terminal::obey_no_color();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error),
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Migrate(args) => {
            let needs_database = !args.dry_run;
            migrate::migrate(
                &settings(global, args.outbox, Command::NO_KAFKA, needs_database)?,
                args.dry_run,
            )
        }
        Command::Run(args) => {
            let overrides = Overrides {
                global,
                outbox: args.outbox,
                http: args.http,
            };
            let settings = load(overrides, Needs { kafka: true }, true)?;
            args.log.settle(args.json)?.begin(std::io::stderr);
            if args.end_with_parent {
                run::end_with_parent()?;
            }
            run::run(settings, args.start_timeout, args.poll)
        }
        Command::Drain(args) => {
            let settings = settings(global, args.outbox, Needs { kafka: true }, true)?;
            let log = args.log.settle(false)?;
            drain::drain(settings, args.start_timeout, log, args.json)
        }
        Command::Status(args) => status::status(
            &settings(global, args.outbox, Command::NO_KAFKA, true)?,
            args.json,
            args.watch,
        ),
        Command::Config(args) => {
            let overrides = Overrides {
                global,
                outbox: args.outbox,
                http: args.http,
            };
            config::config(overrides, args.json)
        }
        Command::Completions { shell } => manual::completions(Cli::command(), shell),
        Command::Man { folder } => manual::man(Cli::command(), folder.as_deref()),
        Command::Check(args) => check::check(
            &settings(global, args.outbox, Needs { kafka: true }, true)?,
            &args.flags,
        ),
        Command::Bench(flags) => {
            let outbox = OutboxFlags::default();
            let settings = settings(global, outbox, Needs { kafka: true }, true)?;
            bench::bench(&settings, &flags)
        }
        Command::Verify(args) => {
            let outbox = OutboxFlags {
                table: args.table,
                column: args.column,
                ..OutboxFlags::default()
            };
            let settings = settings(global, outbox, Needs { kafka: true }, true)?;
            verify::verify(&settings, &args.flags)
        }
        Command::Pause(flags) => {
            let outbox = OutboxFlags::default();
            pause::pause(&settings(global, outbox, Command::NO_KAFKA, true)?, flags)
        }
        Command::Resume(flags) => {
            let outbox = OutboxFlags::default();
            pause::resume(&settings(global, outbox, Command::NO_KAFKA, true)?, &flags)
        }
        Command::Dead(args) => {
            let outbox = OutboxFlags {
                table: args.table,
                column: args.column,
                ..OutboxFlags::default()
            };
            let settings = settings(global, outbox, Command::NO_KAFKA, true)?;
            dead::dead(&settings, args.command, args.json)
        }
        Command::Receipts(args) => {
            let outbox = OutboxFlags {
                table: args.table,
                column: args.column,
                ..OutboxFlags::default()
            };
            let settings = settings(global, outbox, Command::NO_KAFKA, true)?;
            receipts::receipts(&settings, &args.command)
        }
        Command::Emit(args) => {
            let outbox = OutboxFlags {
                table: args.table,
                column: args.column,
                ..OutboxFlags::default()
            };
            emit::emit(
                &settings(global, outbox, Command::NO_KAFKA, true)?,
                args.event,
                args.json,
            )
        }
    }
}

impl Command {
    const NO_KAFKA: Needs = Needs { kafka: false };
}

/// What is configured for a command that does not listen.
fn settings(
    global: GlobalFlags,
    outbox: OutboxFlags,
    needs: Needs,
    needs_database: bool,
) -> Result<Settings, Failure> {
    let overrides = Overrides {
        global,
        outbox,
        ..Overrides::default()
    };
    load(overrides, needs, needs_database)
}

/// What is configured, or all that is wrong with it.
fn load(overrides: Overrides, needs: Needs, needs_database: bool) -> Result<Settings, Failure> {
    let env = |name: &str| {
        let value = std::env::var(name).ok();
        // SQL can be printed without a database.
        value.or_else(|| {
            let is_missing =
                name == "DATABASE_URL" && std::env::var_os("DATABASE_URL_FILE").is_none();
            (is_missing && !needs_database).then(|| "postgres://localhost".to_owned())
        })
    };
    let settings = Settings::load(overrides, &env, needs)
        .map_err(|faults: Faults| Failure::Usage(faults.to_string()))?;
    if needs.kafka {
        kafka::check(&settings.kafka).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

#[cfg(test)]
#[path = "cli_test.rs"]
mod cli_test;
