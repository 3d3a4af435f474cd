//! The log, on standard error.

use std::str::FromStr;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::exit::Failure;
use super::terminal;

/// Targets that are silent by default. The pool behind the session that listens warns of a lost
/// session, as the relay does, without its consequences.
const QUIET: &str = "librdkafka=off,rdkafka=off,sqlx=warn,sqlx_core::pool=off";
/// Each change of state, but no line per row.
const USUAL: &str = "info";

const LEVEL_VARIABLES: [&str; 2] = ["DOORBELL_LOG", "RUST_LOG"];
const FORMAT_VARIABLE: &str = "DOORBELL_LOG_FORMAT";

/// Flags of the commands that log.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogFlags {
    /// Log level: off, error, warn, info, debug or trace; also per target, as in
    /// info,doorbell::relay=debug [env: DOORBELL_LOG, else RUST_LOG] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Log format: text, or json with one object per line [env: DOORBELL_LOG_FORMAT] [default:
    /// text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl LogFlags {
    pub(super) fn settle(self, json: bool) -> Result<Log, Failure> {
        let env = |name: &'static str| {
            let value = std::env::var(name).ok()?;
            (!value.trim().is_empty()).then_some((name, value))
        };
        let level = self.log.map(|level| ("--log", level));
        let (origin, level) = level
            .or_else(|| LEVEL_VARIABLES.into_iter().find_map(env))
            .unwrap_or(("the default", USUAL.to_owned()));
        let filter =
            filter(&level).map_err(|fault| Failure::Usage(format!("{origin}: {fault}")))?;
        let format = self.log_format.map(|format| ("--log-format", format));
        let json = match format.or_else(|| env(FORMAT_VARIABLE)) {
            None => json,
            Some((_, format)) if format == "json" => true,
            Some((_, format)) if format == "text" => json,
            Some((origin, format)) => {
                return Err(Failure::Usage(format!(
                    "{origin}: unknown format {format:?}; use text or json"
                )));
            }
        };
        Ok(Log { filter, json })
    }
}

pub(super) struct Log {
    filter: EnvFilter,
    json: bool,
}

impl Log {
    pub(super) fn begin<W>(self, writer: W)
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let log = tracing_subscriber::fmt()
            .with_env_filter(self.filter)
            .with_writer(writer)
            .with_target(false);
        if self.json {
            log.json().flatten_event(true).init();
        } else {
            log.with_ansi(terminal::coloured(&std::io::stderr())).init();
        }
    }
}

/// Parses a filter. To the library, a word that is no level is a target of which everything is
/// logged: a typing error would flood the log.
fn filter(text: &str) -> Result<EnvFilter, String> {
    for directive in text.split(',').map(str::trim) {
        // Filters of spans and fields contain commas.
        if directive.contains(['[', ']', '{', '}']) {
            continue;
        }
        let (part, level) = match directive.split_once('=') {
            Some((part, level)) => (Some(part), level),
            None if directive == "doorbell" || directive.contains("::") => continue,
            None => (None, directive),
        };
        let digits = level.chars().all(|c| c.is_ascii_digit());
        if part == Some("") || digits || LevelFilter::from_str(level).is_err() {
            return Err(format!(
                "{directive:?} is no log level: use off, error, warn, info, debug or trace, or a target with one of them, such as doorbell::relay=debug"
            ));
        }
    }
    EnvFilter::try_new(format!("{QUIET},{text}"))
        .map_err(|error| format!("invalid filter {text:?}: {error}; use a level such as info"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_parts_are_taken_and_slips_are_refused() {
        let right = "info|WARN|off|debug,librdkafka=off|info,doorbell::relay=trace|doorbell|\
                     info,[outbox{outbox=a}]=debug";
        for text in right.split('|') {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in "inof||info,|info,sqlx|sqlx=loud|7|=info|a b".split('|') {
            let fault = filter(text).expect_err(text);
            assert!(fault.contains("is no log level"), "{text}: {fault}");
            assert_eq!(fault.lines().count(), 1);
        }
    }
}
