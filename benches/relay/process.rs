//! Doorbell as users run it: a process of its own.

use std::process::{Command, Stdio};

use anyhow::bail;
use doorbell::app::bench::process::Relay;

use crate::stage::Stage;

/// Starts a relay with its defaults, and waits until it leads.
pub(crate) async fn lead(stage: &Stage, topic: &str) -> anyhow::Result<Relay> {
    let mut relay = start(stage, topic, &[])?;
    relay.led().await?;
    Ok(relay)
}

/// Starts one with `flags` that may become a standby.
pub(crate) fn start(stage: &Stage, topic: &str, flags: &[&str]) -> anyhow::Result<Relay> {
    let mut command = run(stage, topic, "off");
    command.args(flags);
    Relay::start(command, "")
}

/// A relay with its defaults that answers by HTTP there, and sends no spans.
pub(crate) fn run(stage: &Stage, topic: &str, listen: &str) -> Command {
    let mut command = doorbell(&stage.database_url);
    command
        .args(["run", "--listen", listen, "--topic", topic])
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .env_remove("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .env("KAFKA_BROKERS", &stage.brokers);
    command
}

pub(crate) fn migrate(database_url: &str) -> anyhow::Result<()> {
    let output = doorbell(database_url).arg("migrate").output()?;
    if !output.status.success() {
        bail!(
            "doorbell migrate: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The binary that Cargo built beside the bench, or the one that DOORBELL names.
fn doorbell(database_url: &str) -> Command {
    let binary =
        std::env::var_os("DOORBELL").unwrap_or_else(|| env!("CARGO_BIN_EXE_doorbell").into());
    let mut command = Command::new(binary);
    command
        .env("DATABASE_URL", database_url)
        .env_remove("DOORBELL_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}
