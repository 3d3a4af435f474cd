//! The command line's part of the configuration.
//!
//! Values stay text here, so that a wrong one is reported together with those of the environment and the file, and
//! not alone by the parser of flags.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

/// The environment variable that `--config` stands for.
pub(super) const CONFIG_VARIABLE: &str = "DOORBELL_CONFIG";
/// The environment variable that `--database-url` stands for.
pub(super) const DATABASE_VARIABLE: &str = "DATABASE_URL";
/// The environment variable with the file that holds what `DATABASE_URL` would.
pub(super) const DATABASE_FILE_VARIABLE: &str = "DATABASE_URL_FILE";
/// The password, which the driver reads itself.
pub(super) const PASSWORD_VARIABLE: &str = "PGPASSWORD";
/// The environment variable with the file that holds what `PGPASSWORD` would.
pub(super) const PASSWORD_FILE_VARIABLE: &str = "PGPASSWORD_FILE";
/// The environment variable that stands for `token_file` in `[kafka]`.
pub(super) const TOKEN_FILE_VARIABLE: &str = "KAFKA_TOKEN_FILE";
/// The token that allows to retry and drop dead letters by HTTP.
pub(super) const HTTP_TOKEN_VARIABLE: &str = "DOORBELL_HTTP_TOKEN";
/// The environment variable with the file that holds it: `token_file` in `[http]`.
pub(super) const HTTP_TOKEN_FILE_VARIABLE: &str = "DOORBELL_HTTP_TOKEN_FILE";
/// The environment variable that `--kafka-brokers` stands for.
pub(super) const BROKERS_VARIABLE: &str = "KAFKA_BROKERS";

/// The collector's address, by the name that all of OpenTelemetry has for it.
pub(super) const OTLP_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The same for traces alone, with the whole path.
pub(super) const OTLP_TRACES_VARIABLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// The environment variable that `--listen` stands for.
pub(super) const LISTEN_VARIABLE: &str = "DOORBELL_LISTEN";

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Flags of every command.
    pub global: GlobalFlags,
    /// Flags of the commands that work on outboxes.
    pub outbox: OutboxFlags,
    /// Flags of the HTTP port.
    pub http: HttpFlags,
}

/// Flags of every command, before or after its name.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct GlobalFlags {
    /// Read this TOML file [env: DOORBELL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Find the outboxes there: postgres://user:password@host:5432/database, or host1,host2 for a cluster
    /// [env: DATABASE_URL, or DATABASE_URL_FILE for a file that holds it: neither is seen in the list of processes]
    #[arg(long, global = true, value_name = "URL", value_parser = secret)]
    pub database_url: Option<SecretString>,

    /// Send the events there: host:9092, or several with commas [env: KAFKA_BROKERS]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub kafka_brokers: Option<String>,

    /// Wait this long for events in flight when stopping [default: 30s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub stop_timeout: Option<String>,

    /// Take a leader that says nothing for this long for frozen, end its sessions, and take over [default: 2m]
    #[arg(long, global = true, value_name = "DURATION")]
    pub leader_timeout: Option<String>,
}

/// Flags of one outbox: the keys of `[[outbox]]`, for a configuration that has no more than one.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Outbox")]
pub struct OutboxFlags {
    /// Relay this table, written as in SQL: outbox, app.outbox [default: outbox]
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,

    /// Send rows that name no topic there; {table} and {type} are filled in [default: {table}]
    #[arg(long, value_name = "TEMPLATE")]
    pub topic: Option<String>,

    /// Look the table over this often although nothing rang [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub sweep: Option<String>,

    /// Use the column NAME as id, type, payload, created_at, key, topic or headers; may be repeated
    #[arg(long, value_name = "KEY=NAME")]
    pub column: Vec<String>,

    /// What becomes of a row that Kafka can never take: park moves it to the dead letters, hold-key has later rows of its key wait behind it,
    /// stop ends the relay [default: park]
    #[arg(long, value_name = "POLICY")]
    pub poison: Option<String>,

    /// Hold at most this many rows between fetch and delete [default: 20000]
    #[arg(long, value_name = "ROWS")]
    pub in_flight_rows: Option<String>,

    /// Hold at most this many bytes between fetch and delete [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    pub in_flight_bytes: Option<String>,

    /// Let at most this many rows leave in a second, evenly; or off [default: off]
    #[arg(long, value_name = "ROWS")]
    pub max_rate: Option<String>,

    /// How often a consumer may see an event: at-least-once, or exactly-once for those that read committed records only
    /// [default: at-least-once]
    #[arg(long, value_name = "MODE")]
    pub delivery: Option<String>,

    /// The producer's transactional.id in the mode exactly-once [default: doorbell. and the outbox's UUID]
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,

    /// The topic for the receipts of that mode [default: doorbell.receipts.{table}]
    #[arg(long, value_name = "TEMPLATE")]
    pub receipts: Option<String>,
}

/// Flags of the HTTP port: the keys of `[http]`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpFlags {
    /// Answer by HTTP there, or nowhere: off [env: DOORBELL_LISTEN] [default: 127.0.0.1:8686]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Call the relay stuck, and not ready, when rows wait and none got through for so long [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub stuck_after: Option<String>,
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::defaults;
    use super::super::values;
    use super::*;
    use clap::{CommandFactory, Parser};
    use secrecy::ExposeSecret;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        global: GlobalFlags,
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        Run(Run),
    }

    #[derive(Debug, clap::Args)]
    struct Run {
        #[command(flatten)]
        outbox: OutboxFlags,
        #[command(flatten)]
        http: HttpFlags,
    }

    #[test]
    fn flags_stand_before_or_after_the_command_and_are_not_judged_here() {
        let cli = Cli::try_parse_from([
            "doorbell",
            "--config",
            "a.toml",
            "run",
            "--database-url",
            "postgres://u:HUNTER2@h",
            "--sweep",
            "never",
            "--column",
            "key=k",
            "--column",
            "id=i",
            "--in-flight-rows",
            "0",
            "--listen",
            "nowhere",
        ])
        .expect("flags are only text");
        let shown = format!("{cli:?}");
        assert!(!shown.contains("HUNTER2"), "{shown}");
        assert_eq!(cli.global.config, Some("a.toml".into()));
        let url = cli.global.database_url.expect("it is given");
        assert_eq!(url.expose_secret(), "postgres://u:HUNTER2@h");
        let Command::Run(Run { outbox, http }) = cli.command;
        assert_eq!(http.listen.as_deref(), Some("nowhere"));
        assert_eq!(outbox.sweep.as_deref(), Some("never"));
        assert_eq!(outbox.column, ["key=k", "id=i"]);
    }

    #[test]
    fn the_help_tells_the_variables_and_the_true_defaults() {
        let mut command = Cli::command();
        command.build();
        let run = command
            .find_subcommand_mut("run")
            .expect("the only command");
        let help = run.render_long_help().to_string();
        let defaults_of = |flag: &str| {
            let after = help.split_once(flag).expect(flag).1;
            after
                .split_once("[default: ")
                .expect(flag)
                .1
                .split_once("]\n")
                .expect(flag)
                .0
                .to_owned()
        };
        let size = values::size(
            &defaults_of("--in-flight-bytes"),
            defaults::IN_FLIGHT_BYTES_BOUNDS,
        );
        assert_eq!(size, Ok(defaults::IN_FLIGHT_BYTES));
        assert_eq!(
            defaults_of("--in-flight-rows"),
            defaults::IN_FLIGHT_ROWS.to_string()
        );
        assert_eq!(
            values::duration(&defaults_of("--sweep"), defaults::SWEEP_BOUNDS),
            Ok(defaults::SWEEP)
        );
        let stop = values::duration(
            &defaults_of("--stop-timeout"),
            defaults::STOP_TIMEOUT_BOUNDS,
        );
        assert_eq!(stop, Ok(defaults::STOP_TIMEOUT));
        assert_eq!(defaults_of("--listen"), defaults::LISTEN);
        let stuck = values::duration(&defaults_of("--stuck-after"), defaults::STUCK_AFTER_BOUNDS);
        assert_eq!(stuck, Ok(defaults::STUCK_AFTER));
        let leader = values::duration(
            &defaults_of("--leader-timeout"),
            defaults::LEADER_TIMEOUT_BOUNDS,
        );
        assert_eq!(leader, Ok(defaults::LEADER_TIMEOUT));
        assert_eq!(
            defaults_of("--topic"),
            super::super::Route::default().to_string()
        );
        assert_eq!(defaults_of("--receipts"), defaults::RECEIPTS);
        assert_eq!(
            defaults_of("--table"),
            super::super::TableName::default().to_string()
        );
        for (flag, variable) in [
            ("--config", CONFIG_VARIABLE),
            ("--database-url", DATABASE_VARIABLE),
            ("--kafka-brokers", BROKERS_VARIABLE),
            ("--listen", LISTEN_VARIABLE),
        ] {
            let after = help.split_once(flag).expect(flag).1;
            assert!(
                after
                    .split("\n  ")
                    .any(|line| line.contains(&format!("[env: {variable}"))),
                "{flag}: {help}"
            );
        }
    }
}
