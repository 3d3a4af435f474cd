//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::commands::adopt::{self, AdoptFlags};
use super::commands::check::{self, CheckFlags};
use super::commands::compare::{self, CompareFlags};
use super::commands::health::{self, HealthFlags};
use super::commands::pause::{self, PauseFlags, ResumeFlags};
use super::commands::preview::{self, PreviewFlags};
use super::commands::verify::{self, VerifyFlags};
use super::commands::{
    bench, completions, config, dead_letters, drain, emit, held, migrate, receipts, replay, run,
    status, tail,
};
use super::config_flags::{GlobalFlags, HttpFlags, OutboxFlags, with_own_flags};
use super::exit::{self, Failure, Outcome};
use super::logging::LogFlags;
use super::{arg_errors, terminal};
use crate::config::{ConfigErrors, Needs, Overrides, Settings, check_properties};
use crate::kafka;

/// Carry the rows of a PostgreSQL outbox table to Kafka.
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
    /// Create the outbox table, or make an existing one an outbox: trigger and storage parameters.
    /// Safe to repeat
    Migrate(Migrate),
    /// Print, or with --apply run, the SQL that lets this relay serve the table of another while
    /// writers go on; and print the configuration for it
    Adopt(AdoptFlags),
    /// Relay rows until a signal: the first one finishes rows in flight, a second one exits at once
    Run(Run),
    /// Relay until the table is empty, then exit: before a migration, or for a backlog. Fails if
    /// another relay leads
    Drain(Drain),
    /// Show backlog, age of the oldest row, leader, standbys and trigger
    Status(Status),
    /// Stop all relays from sending rows until `resume`: rows in flight are finished, writers go on
    Pause(PauseFlags),
    /// End a pause
    Resume(ResumeFlags),
    /// Check database, privileges and topics, and report problems with their remedies
    Check(Check),
    /// List, show, retry or drop dead letters: rows that Kafka rejected
    Dead(Dead),
    /// List or show the rows that keep their key or their topic waiting
    Held(Held),
    /// Ask the relay of this host whether rows flow (--ready) or whether it answers (--live): exit
    /// code 0 or 1, for health checks of containers
    Health(HealthFlags),
    /// Manage the receipts of the delivery mode exactly-once
    Receipts(Receipts),
    /// Insert one event
    Emit(Emit),
    /// Show the records that the next rows would become, and why a row would be refused. Sends and
    /// changes nothing
    Preview(Preview),
    /// Show records as they arrive, or with --pending where the events of a key are
    Tail(Tail),
    /// Verify that no event in topics and table is missing, duplicated or out of order
    #[command(after_long_help = verify::PROVES, after_help = "See --help for what this proves, and what it cannot know")]
    Verify(Verify),
    /// Send records of a topic again, with the same ids, to another topic or to the same
    Replay(Replay),
    /// Compare the topics of the relay that runs today with those of another that saw the same
    /// rows, and say whether one can switch. Changes nothing
    Compare(CompareFlags),
    /// Print the effective configuration and the source of each value, as a configuration file;
    /// secrets are hidden
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
    /// Measure on your own database and brokers: what the trigger costs writers, draining, latency,
    /// an idle relay
    #[command(disable_help_flag = true)]
    Bench {
        /// Those of `doorbell-bench`
        #[arg(
            value_name = "ARGUMENTS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        _arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    flags: migrate::MigrateFlags,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    http: HttpFlags,
    /// Fail if PostgreSQL or Kafka is unreachable for this long at the start [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = arg_errors::duration)]
    start_timeout: Option<std::time::Duration>,
    /// Fetch at this interval, regardless of notifications: for comparison in benchmarks
    #[arg(long, hide = true, value_name = "DURATION", value_parser = arg_errors::duration)]
    poll: Option<std::time::Duration>,
    /// Stop when the parent process has ended: benchmarks leave no relay behind
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
    /// Fail if PostgreSQL or Kafka is unreachable for this long at the start [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = arg_errors::duration)]
    start_timeout: Option<std::time::Duration>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    flags: replay::ReplayFlags,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    outbox: OutboxFlags,
    /// Repeat until interrupted, in place at a terminal, else in lines [default: every 2s]
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = status::interval)]
    watch: Option<std::time::Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Config {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    http: HttpFlags,
    /// Print JSON
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

/// Flags of the commands that do not relay: those of an outbox's route are not among them, and some
/// of these commands have a `--topic` of their own. They stand before or after a subcommand.
#[derive(Debug, Args)]
struct TableFlags {
    /// Select this table [default: all configured ones, or outbox]
    #[arg(long, global = true, value_name = "NAME")]
    table: Option<String>,
    /// Use the column NAME as id, type, payload, created_at, key, topic, headers, event_id,
    /// partition or not_before; none for a table without type or created_at; may be repeated
    #[arg(long, global = true, value_name = "KEY=NAME")]
    column: Vec<String>,
}

impl TableFlags {
    fn overrides(self) -> Overrides {
        let table = self.table.into_iter().map(|table| ("--table", table));
        let columns = self.column.into_iter().map(|column| ("--column", column));
        Overrides::of(table.chain(columns))
    }
}

#[derive(Debug, Args)]
#[command(mut_arg("table", |table| table.help("Insert into this table")))]
struct Emit {
    #[command(flatten)]
    outbox: TableFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    event: emit::EventFlags,
}

#[derive(Debug, Args)]
struct Preview {
    #[command(flatten)]
    outbox: OutboxFlags,
    #[command(flatten)]
    flags: PreviewFlags,
}

#[derive(Debug, Args)]
#[command(mut_arg("table", |table| table.help("Show the topic of this outbox [default: outbox]")))]
struct Tail {
    #[command(flatten)]
    outbox: TableFlags,
    #[command(flatten)]
    flags: tail::TailFlags,
}

#[derive(Debug, Args)]
#[command(mut_arg("table", |table| table.help("Verify this outbox [default: outbox]")))]
struct Verify {
    #[command(flatten)]
    outbox: TableFlags,
    #[command(flatten)]
    flags: VerifyFlags,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
struct Held {
    #[command(flatten)]
    outbox: TableFlags,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: held::HeldCommand,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
struct Dead {
    #[command(flatten)]
    outbox: TableFlags,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: dead_letters::DeadCommand,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
#[command(mut_arg("table", |table| table.help("Select this table; needed if several are configured [default: outbox]")))]
struct Receipts {
    #[command(flatten)]
    outbox: TableFlags,
    #[command(subcommand)]
    command: receipts::ReceiptsCommand,
}

/// Runs the program.
pub fn main() -> ! {
    terminal::obey_no_color();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => exit::leave(arg_errors::answer(&error, Cli::command())),
    };
    exit::end(dispatch(cli))
}

fn dispatch(cli: Cli) -> Outcome {
    let global = cli.global.overrides;
    match cli.command {
        Command::Migrate(args) => {
            let overrides = global.and(args.outbox.overrides);
            let settings = load(
                overrides,
                Needs { kafka: false },
                args.flags.dry_run.is_none(),
            )?;
            migrate::migrate(&settings, &args.flags)
        }
        Command::Adopt(flags) => adopt::adopt(&without_kafka(global)?, &flags),
        Command::Run(args) => {
            let flags = args.outbox.overrides.and(args.http.overrides);
            let settings = with_kafka(global.and(flags))?;
            args.log.settle(args.json)?.begin(std::io::stderr);
            if args.end_with_parent {
                run::end_with_parent()?;
            }
            run::run(settings, args.start_timeout, args.poll)
        }
        Command::Drain(args) => {
            let settings = with_kafka(global.and(args.outbox.overrides))?;
            let log = args.log.settle(false)?;
            drain::drain(settings, args.start_timeout, log, args.json)
        }
        Command::Status(args) => {
            let settings = without_kafka(global.and(args.outbox.overrides))?;
            status::status(&settings, args.json, args.watch)
        }
        Command::Config(args) => {
            let flags = args.outbox.overrides.and(args.http.overrides);
            config::config(global.and(flags), args.json)
        }
        Command::Completions { shell } => {
            completions::completions(with_own_flags(Cli::command()), shell)
        }
        Command::Man { folder } => {
            completions::man(with_own_flags(Cli::command()), folder.as_deref())
        }
        Command::Check(args) => {
            let settings = with_kafka(global.and(args.outbox.overrides))?;
            check::check(&settings, &args.flags)
        }
        Command::Bench { .. } => bench::bench(),
        Command::Verify(args) => {
            let settings = with_kafka(global.and(args.outbox.overrides()))?;
            verify::verify(&settings, &args.flags)
        }
        Command::Replay(args) => {
            let settings = load(global, Needs { kafka: true }, false)?;
            replay::replay(settings, args.flags, args.log.settle(false)?)
        }
        Command::Preview(args) => {
            let settings = with_kafka(global.and(args.outbox.overrides))?;
            preview::preview(&settings, &args.flags)
        }
        Command::Compare(flags) => {
            let settings = load(global, Needs { kafka: true }, false)?;
            compare::compare(&settings, &flags)
        }
        Command::Tail(args) => {
            let settings = with_kafka(global.and(args.outbox.overrides()))?;
            tail::tail(&settings, &args.flags)
        }
        Command::Pause(flags) => pause::pause(&without_kafka(global)?, flags),
        Command::Resume(flags) => pause::resume(&without_kafka(global)?, &flags),
        Command::Dead(args) => {
            let settings = without_kafka(global.and(args.outbox.overrides()))?;
            dead_letters::dead(&settings, args.command, args.json)
        }
        Command::Held(args) => {
            let settings = without_kafka(global.and(args.outbox.overrides()))?;
            held::held_rows(&settings, args.command, args.json)
        }
        Command::Health(flags) => {
            let overrides = global.and(flags.overrides());
            health::health(load(overrides, Needs { kafka: false }, false), &flags)
        }
        Command::Receipts(args) => {
            let settings = without_kafka(global.and(args.outbox.overrides()))?;
            receipts::receipts(&settings, &args.command)
        }
        Command::Emit(args) => {
            let settings = without_kafka(global.and(args.outbox.overrides()))?;
            emit::emit(&settings, args.event, args.json)
        }
    }
}

/// What is configured for a program that reaches PostgreSQL and Kafka and does not listen.
///
/// # Errors
/// For a configuration that cannot be used.
pub fn load_settings(global: GlobalFlags) -> Result<Settings, Failure> {
    with_kafka(global.overrides)
}

fn with_kafka(overrides: Overrides) -> Result<Settings, Failure> {
    load(overrides, Needs { kafka: true }, true)
}

fn without_kafka(overrides: Overrides) -> Result<Settings, Failure> {
    load(overrides, Needs { kafka: false }, true)
}

/// Loads the configuration, or returns all of its errors.
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
    let usage = |errors: ConfigErrors| Failure::Usage(errors.to_string());
    let settings = Settings::load(overrides.clone(), &env, needs).map_err(usage)?;
    if needs.kafka {
        check_properties(overrides, &env, &kafka::property_fault).map_err(usage)?;
        kafka::check(&settings.kafka).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    Ok(settings)
}

#[cfg(test)]
#[path = "args_test.rs"]
mod args_test;
