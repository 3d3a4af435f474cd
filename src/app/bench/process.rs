//! The relay as a process, and what it costs.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Ticks per second in /proc/PID/stat: fixed by the kernel's interface, whatever the hardware.
const USER_HZ: f64 = 100.0;

/// Longer than any relay needs to connect, and to settle what is in flight.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of its log that are kept to explain an end.
const KEPT: usize = 20;

/// What a relay says when it leads, and when another does.
const LEADING: &str = "leading";
const STANDBY: &str = "standby: another relay leads";

/// A relay at work. Killed when dropped.
pub struct Relay {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    said: watch::Receiver<Said>,
}

type Log = Arc<Mutex<VecDeque<String>>>;

/// When it first said what it is.
#[derive(Debug, Default)]
struct Said {
    standby: Option<Instant>,
    leading: Option<Instant>,
}

impl Relay {
    /// Starts `doorbell run`, and waits until it leads.
    pub async fn lead(command: Command, input: &str) -> anyhow::Result<Self> {
        let mut relay = Self::start(command, input)?;
        relay.led().await?;
        Ok(relay)
    }

    /// Starts `doorbell run`, and gives it `input` on standard input.
    ///
    /// To be called on a thread that lives as long as the program: a child that ends with its parent ends with the thread that started it.
    pub fn start(mut command: Command, input: &str) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the relay does not start")?;
        let (says, said) = watch::channel(Said::default());
        let log = Log::default();
        let stderr = child.stderr.take().context("no pipe")?;
        let lines = Arc::clone(&log);
        // Read to its end: a full pipe would stop the relay.
        let reader = std::thread::spawn(move || read_log(stderr, &lines, &says));
        let mut stdin = child.stdin.take().context("no pipe")?;
        // A relay that ended at once has said why.
        stdin.write_all(input.as_bytes()).ok();
        Ok(Self {
            child,
            log,
            reader: Some(reader),
            said,
        })
    }

    /// When it said that it leads; waits for it.
    pub async fn led(&mut self) -> anyhow::Result<Instant> {
        self.until("leads", |said| said.leading).await
    }

    /// When it said that it stands by; waits for it.
    pub async fn stood_by(&mut self) -> anyhow::Result<Instant> {
        self.until("stands by", |said| said.standby).await
    }

    async fn until(
        &mut self,
        what: &str,
        when: fn(&Said) -> Option<Instant>,
    ) -> anyhow::Result<Instant> {
        let said = self.said.wait_for(|said| when(said).is_some());
        let ended = match timeout(PATIENCE, said).await {
            Ok(Ok(said)) => return when(&said).context("it was seen"),
            Ok(Err(_)) => true,
            Err(_) => false,
        };
        if ended {
            self.wait().await?;
            bail!("the relay ended before it {what}: {}", self.last_words());
        }
        bail!(
            "{PATIENCE:?} are over before the relay {what}: {}",
            self.last_words()
        );
    }

    /// Kills it, and says when.
    pub fn kill(mut self) -> anyhow::Result<Instant> {
        let at = Instant::now();
        self.child.kill()?;
        Ok(at)
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

    /// SIGTERM, and waits for its end; anything but an orderly end is an error.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.terminate();
        self.ended().await
    }

    /// SIGTERM, and when.
    pub fn terminate(&self) -> Instant {
        let at = Instant::now();
        // One that has ended by itself cannot be signalled: its status says why.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        at
    }

    /// Waits for its end; anything but an orderly one is an error.
    pub async fn ended(mut self) -> anyhow::Result<()> {
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

fn read_log(stderr: ChildStderr, log: &Log, says: &watch::Sender<Said>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let now = Instant::now();
        says.send_if_modified(|said| {
            let when = match &line {
                line if line.contains(LEADING) => &mut said.leading,
                line if line.contains(STANDBY) => &mut said.standby,
                _ => return false,
            };
            when.get_or_insert(now) == &now
        });
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
