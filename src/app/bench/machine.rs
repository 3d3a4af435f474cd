//! What it ran on: figures without it say nothing.

use std::fmt;

use serde::Serialize;

use crate::kafka::librdkafka_version;
use crate::postgres::ServerFacts;

/// The machine that measures, and the versions of all that took part.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    /// How many processes wanted a core on average in the minute before: more than 0.5 or so, and something else was at work.
    load: String,
    doorbell: &'static str,
    librdkafka: String,
    postgresql: ServerFacts,
}

impl Machine {
    /// This one.
    pub fn here(postgresql: ServerFacts) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: cpu.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("unknown")
                .to_owned(),
            doorbell: env!("CARGO_PKG_VERSION"),
            librdkafka: librdkafka_version(),
            postgresql,
        }
    }
}

/// A file of the kernel; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "measured from {} cores ({}), Linux {}, load {} before; doorbell {}, librdkafka {}; PostgreSQL {} with synchronous_commit {}, fsync {}",
            self.cores,
            self.cpu,
            self.kernel,
            self.load,
            self.doorbell,
            self.librdkafka,
            self.postgresql.version,
            self.postgresql.synchronous_commit,
            self.postgresql.fsync
        )
    }
}
