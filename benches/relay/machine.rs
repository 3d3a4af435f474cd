//! What it ran on: numbers without it say nothing.

use std::fmt;
use std::process::Command;

use serde::Serialize;
use sqlx::{Executor, Row};

use crate::stage::Stage;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    /// How many processes wanted a core on average in the minute before: more than 0.5 or so, and something else was at work.
    load: String,
    postgresql: String,
    kafka: String,
    librdkafka: String,
    rustc: String,
    /// Of this repository, with `-dirty` where the files were others.
    commit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    debezium: Option<String>,
}

impl Machine {
    pub(crate) async fn here(stage: &mut Stage, debezium: Option<String>) -> anyhow::Result<Self> {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let postgresql = stage.session.fetch_one("SHOW server_version").await?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: cpu.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("unknown")
                .to_owned(),
            postgresql: postgresql.try_get(0)?,
            // The protocol does not tell it: whoever starts the broker knows.
            kafka: std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "unknown".into()),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
            rustc: said_by("rustc", &["--version"]),
            commit: said_by("git", &["describe", "--always", "--dirty"]),
            debezium,
        })
    }
}

/// A file of the kernel; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores ({}), Linux {}, load {}; PostgreSQL {}, Kafka {}, librdkafka {}, {}{}; all on this machine; commit {}",
            self.cores,
            self.cpu,
            self.kernel,
            self.load,
            self.postgresql,
            self.kafka,
            self.librdkafka,
            self.rustc,
            self.debezium
                .as_ref()
                .map_or(String::new(), |debezium| format!(", {debezium}")),
            self.commit
        )
    }
}
