//! `doorbell health`: asks the relay of this host whether it is well.

use std::io::Write;

use clap::Args;

use crate::cli::exit::{Failure, Outcome};
use crate::cli::session::runtime;
use crate::config::{Overrides, Settings};
use crate::http::Probe;

#[derive(Debug, Args)]
pub(crate) struct HealthFlags {
    /// Ask whether rows flow through the relay, or it stands by, as /readyz says: the default
    #[arg(long, conflicts_with = "live")]
    ready: bool,
    /// Ask whether the process answers, as /healthz says: for a supervisor that restarts it
    #[arg(long)]
    live: bool,
    /// Ask at this address [default: the one that the configuration gives the relay]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl HealthFlags {
    pub(crate) fn overrides(&self) -> Overrides {
        let listen = self.listen.iter();
        Overrides::of(listen.map(|address| ("--listen", address.clone())))
    }
}

/// Prints what the relay says of itself. Every failure has exit code 1, also a configuration that
/// cannot be used: container engines give 2 a meaning of their own.
pub(crate) fn health(settings: Result<Settings, Failure>, flags: &HealthFlags) -> Outcome {
    let settings = settings.map_err(|failure| match failure {
        Failure::Usage(text) => Failure::Failed(anyhow::anyhow!(text)),
        failed => failed,
    })?;
    let probe = if flags.live {
        Probe::LIVE
    } else {
        Probe::READY
    };
    let answer = runtime()?.block_on(probe.ask(&settings.http.listen));
    let said = answer.map_err(anyhow::Error::msg)?;
    write!(std::io::stdout(), "{said}")?;
    Ok(())
}
