//! The relay as a process, and what it costs.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Ticks per second in /proc/PID/stat: fixed by the kernel's interface, whatever the hardware.
const USER_HZ: f64 = 100.0;

/// Longer than any relay needs to connect, and to settle what is in flight.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of its log that are kept to explain an end.
const KEPT: usize = 20;

/// A relay that leads. Killed when dropped.
pub struct Relay {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    /// When it said that it leads.
    pub leading: Instant,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Relay {
    /// Starts `doorbell run`, gives it `input` on standard input, and waits until it leads.
    ///
    /// To be called on a thread that lives as long as the program: a child that ends with its parent ends with the thread that started it.
    pub async fn lead(mut command: Command, input: &str) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the relay does not start")?;
        let (leads, led) = oneshot::channel();
        let log = Log::default();
        let stderr = child.stderr.take().context("no pipe")?;
        let lines = Arc::clone(&log);
        // Read to its end: a full pipe would stop the relay.
        let reader = std::thread::spawn(move || read_log(stderr, &lines, leads));
        let mut stdin = child.stdin.take().context("no pipe")?;
        let mut relay = Self {
            child,
            log,
            reader: Some(reader),
            leading: Instant::now(),
        };
        // A relay that ended at once has said why.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        match timeout(PATIENCE, led).await {
            Ok(Ok(at)) => relay.leading = at,
            Ok(Err(_)) => {
                relay.wait().await?;
                bail!("the relay ended before it led: {}", relay.last_words());
            }
            Err(_) => bail!(
                "the relay does not lead within {PATIENCE:?}: {}",
                relay.last_words()
            ),
        }
        Ok(relay)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        cpu(&self.id().to_string())
    }

    /// Peak resident memory so far, in MiB.
    pub fn peak_memory(&self) -> anyhow::Result<f64> {
        peak_memory(&self.id().to_string())
    }

    /// SIGTERM; anything but an orderly end is an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // One that has ended by itself cannot be signalled: its status says why.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        let status = self.wait().await?;
        if !status.success() {
            bail!("the relay ended with {status}: {}", self.last_words());
        }
        Ok(())
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if let Some(reader) = self.reader.take() {
                    reader.join().ok();
                }
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                bail!("the relay does not end: {}", self.last_words());
            }
            // The interval of a poll: the loop ends by what it sees.
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.back()
            .cloned()
            .unwrap_or_else(|| "it said nothing".into())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read_log(stderr: ChildStderr, log: &Log, leads: oneshot::Sender<Instant>) {
    let mut leads = Some(leads);
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains("leading")
            && let Some(leads) = leads.take()
        {
            leads.send(Instant::now()).ok();
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == KEPT {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// CPU seconds, user and system, of a process (`self` or its id).
pub fn cpu(process: &str) -> anyhow::Result<f64> {
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

/// Peak resident memory of a process in MiB.
pub fn peak_memory(process: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next())
        .context("no VmHWM")?
        .parse()?;
    Ok(kib / 1024.0)
}
