//! What a benchmark ran on: figures without it say nothing.

use std::fmt;

use serde::Serialize;

use crate::fixture::Session;

/// The machine that measures, and the versions of all that took part.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    /// How many processes wanted a core on average in the minute before: above 0.5 or so, other
    /// work was going on.
    load: String,
    doorbell: &'static str,
    librdkafka: String,
    postgresql: PostgreSql,
}

/// How the server is set up, as far as it bears on the figures.
#[derive(Debug, Serialize)]
struct PostgreSql {
    version: String,
    synchronous_commit: String,
    fsync: String,
}

impl Machine {
    pub(crate) async fn here(session: &mut Session) -> sqlx::Result<Self> {
        // A file of the kernel; empty where there is none.
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let mut cpu = cpu.lines();
        let cpu = cpu.find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
            doorbell: env!("CARGO_PKG_VERSION"),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
            postgresql: PostgreSql {
                version: session.value("SHOW server_version").await?,
                synchronous_commit: session.value("SHOW synchronous_commit").await?,
                fsync: session.value("SHOW fsync").await?,
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, cpu, kernel, load) = (self.cores, &self.cpu, &self.kernel, &self.load);
        let (doorbell, librdkafka, server) = (self.doorbell, &self.librdkafka, &self.postgresql);
        let (version, fsync) = (&server.version, &server.fsync);
        let synchronous_commit = &server.synchronous_commit;
        write!(
            f,
            "measured from {cores} cores ({cpu}), Linux {kernel}, load {load} before; doorbell {doorbell}, librdkafka {librdkafka}; \
             PostgreSQL {version} with synchronous_commit {synchronous_commit}, fsync {fsync}"
        )
    }
}
