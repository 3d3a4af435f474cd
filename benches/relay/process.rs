//! The relay as users run it: a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::Stage;

/// Ticks per second in /proc/PID/stat: fixed by the kernel's interface, whatever the hardware.
const USER_HZ: f64 = 100.0;

/// A relay that leads.
pub(crate) struct Relay {
    child: Child,
    log: Option<JoinHandle<()>>,
    /// When it said that it leads.
    pub(crate) leading: Instant,
}

impl Relay {
    /// Starts it with its defaults, and waits until it leads.
    pub(crate) fn lead(stage: &Stage, topic: &str) -> anyhow::Result<Self> {
        let mut child = doorbell(&stage.database_url)
            .args(["run", "--topic", topic])
            .env("KAFKA_BROKERS", &stage.brokers)
            .stderr(Stdio::piped())
            .spawn()
            .context("the relay does not start")?;
        let mut lines = BufReader::new(child.stderr.take().context("no pipe")?).lines();
        let leads = lines
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| eprintln!("    {line}"))
            .any(|line| line.contains("leading"));
        let leading = Instant::now();
        // Read on: a full pipe would stop the relay.
        let log = std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| eprintln!("    {line}"));
        });
        let mut relay = Self {
            child,
            log: Some(log),
            leading,
        };
        if !leads {
            bail!("the relay ended before it led: {}", relay.child.wait()?);
        }
        Ok(relay)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM; anything but an orderly end is an error.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if let Some(log) = self.log.take() {
            log.join().ok();
        }
        if !status.success() {
            bail!("the relay: {status}");
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// CPU seconds, user and system, of a process (`self` or its id).
pub(crate) fn cpu(process: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before it is in brackets and may hold spaces; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / USER_HZ)
}

/// Peak resident memory of a process so far, in MiB.
pub(crate) fn peak_memory(process: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next())
        .context("no VmHWM")?
        .parse()?;
    Ok(kib / 1024.0)
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
