//! Progress of a command: a bar at a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::logging::Log;
use crate::sync::lock;

/// Interval of the lines.
const LINE: Duration = Duration::from_secs(2);

pub(super) struct CommandProgress {
    bar: ProgressBar,
    total: u64,
    /// `drained` and `rows`.
    words: (&'static str, &'static str),
    begun: Instant,
    /// When the next line is due; `None` at a terminal.
    next_line: Mutex<Option<Instant>>,
}

impl CommandProgress {
    /// `words` are the verb of what is done and the noun of what it is done to.
    pub(super) fn new(total: u64, words: (&'static str, &'static str)) -> Self {
        let template = format!(
            "{{bar:30}} {{human_pos}} of {{human_len}} {}, {{per_sec}}, {{eta}} left",
            words.1
        );
        let style = ProgressStyle::with_template(&template);
        let bar = ProgressBar::new(total)
            .with_style(style.expect("a template that is right"))
            .with_finish(indicatif::ProgressFinish::AndClear);
        let begun = Instant::now();
        let lines = !std::io::stderr().is_terminal();
        Self {
            bar,
            total,
            words,
            begun,
            next_line: Mutex::new(lines.then(|| begun + LINE)),
        }
    }

    /// Begins the log, whose lines go above the bar.
    pub(super) fn begin_log(&self, log: Log) {
        log.begin(Beside(self.bar.clone()));
    }

    /// Begins with so much to do.
    pub(super) fn begin(&mut self, total: u64) {
        self.total = total;
        self.begun = Instant::now();
        self.bar.set_length(total);
        self.bar.reset_elapsed();
    }

    pub(super) fn set(&self, done: u64) {
        self.bar.set_position(done);
        let mut next = lock(&self.next_line);
        if next.is_none_or(|due| Instant::now() < due) {
            return;
        }
        *next = Some(Instant::now() + LINE);
        let rate = done as f64 / self.begun.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        let left = HumanDuration(Duration::from_secs_f64(left));
        let (done, total) = (HumanCount(done), HumanCount(self.total));
        let (verb, noun) = self.words;
        eprintln!("{verb} {done} of about {total} {noun}, {rate:.0} a second, {left} left");
    }

    pub(super) fn end(&self, done: u64) {
        self.bar.set_position(done);
        self.bar.finish_and_clear();
    }
}

/// Writes lines of the log above the bar.
struct Beside(ProgressBar);

impl<'a> MakeWriter<'a> for Beside {
    type Writer = &'a Beside;

    fn make_writer(&'a self) -> &'a Beside {
        self
    }
}

impl Write for &Beside {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
