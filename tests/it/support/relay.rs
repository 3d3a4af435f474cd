//! The relay as its users run it: a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::{World, doorbell, eventually};

/// A running relay and its log. Killed on drop.
pub(crate) struct Relay {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay whose route is the world's topic, with the sweep off (an hour); returns at
    /// once.
    pub(crate) fn spawn(world: &World, flags: &[&str]) -> Self {
        Self::of(&mut Self::command(world, flags))
    }

    /// Starts it in a process with so much address space: an allocation beyond it ends the process.
    pub(crate) fn spawn_within(world: &World, flags: &[&str], kib: u64) -> Self {
        let whole = Self::command(world, flags);
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"ulimit -v "$0" && exec "$@""#, &kib.to_string()])
            .arg(whole.get_program())
            .args(whole.get_args());
        for (name, value) in whole.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self::of(&mut command)
    }

    fn command(world: &World, flags: &[&str]) -> Command {
        let route = world.topic.replace("outbox", "{table}");
        let mut arguments = vec!["run"];
        let has = |flag: &str| flags.contains(&flag);
        if !has("--config") {
            if !has("--sweep") {
                arguments.extend(["--sweep", "1h"]);
            }
            if !has("--topic") {
                arguments.extend(["--topic", &route]);
            }
        }
        arguments.extend(flags);
        doorbell(world, &arguments)
    }

    /// Starts a relay by a command of the test's own.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .env("RUST_LOG", "debug,librdkafka=off,rdkafka=off,sqlx=warn")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().expect("no panic holds the log").push(line);
            }
        });
        Self {
            child,
            log,
            reader: Some(reader),
        }
    }

    /// Starts a relay and waits until it leads.
    pub(crate) fn leading(world: &World, flags: &[&str]) -> Self {
        let relay = Self::spawn(world, flags);
        relay.await_log("leading");
        relay
    }

    /// Returns its HTTP address.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        const SAID: &str = "the HTTP port is bound: ";
        self.await_log(SAID);
        let log = self.log();
        let said = log.iter().find_map(|line| line.split_once(SAID));
        let rest = said.expect("it was awaited").1;
        // In JSON more follows it.
        rest.split('"').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic holds the log").clone()
    }

    /// Counts the lines of the log that have the text. The end of an outage repeats its reason.
    pub(crate) fn count_log(&self, text: &str) -> usize {
        let says = |line: &&String| {
            line.contains(text)
                && (text.starts_with("over after") || !line.contains(": over after "))
        };
        self.log().iter().filter(says).count()
    }

    /// Waits until a line of the log has the text.
    #[track_caller]
    pub(crate) fn await_log(&self, text: &str) {
        self.await_log_times(text, 1);
    }

    /// Waits until that many lines of the log have the text.
    #[track_caller]
    pub(crate) fn await_log_times(&self, text: &str, times: usize) {
        eventually(
            &format!(
                "{times} times {text:?} in the log:\n{}",
                self.log().join("\n")
            ),
            || (self.count_log(text) >= times).then_some(()),
        );
    }

    /// Checks that as many lines of the log have the text, and no more. The last may come a moment
    /// after its cause was seen elsewhere.
    #[track_caller]
    pub(crate) fn assert_logged(&self, text: &str, times: usize) {
        self.await_log_times(text, times);
        assert_eq!(self.count_log(text), times, "{text:?}: {:#?}", self.log());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the relay can be signalled");
    }

    /// Sends SIGSTOP: the process stands still, and its kernel continues to answer for it.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM, and returns how the process ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the relay can be killed");
        self.wait();
    }

    /// Waits until the process ends, or a line of its log has the text. Whether it ended.
    #[track_caller]
    pub(crate) fn ends_or_says(&mut self, text: &str) -> bool {
        eventually(text, || {
            let says = self.count_log(text) > 0;
            match (self.ended().is_some(), says) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            }
        })
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the relay is a child")
    }

    /// Waits for the end of the process and of its log.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the relay ends", || self.ended());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        status
    }

    /// Returns the peak resident memory so far, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.kib("VmHWM:") / 1024
    }

    /// Returns a number of `/proc/PID/status`.
    pub(crate) fn kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the relay runs");
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("a number in kB")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log.lock().map(|log| log.join("\n"));
            eprintln!("--- log of the relay\n{}", log.unwrap_or_default());
        }
    }
}
