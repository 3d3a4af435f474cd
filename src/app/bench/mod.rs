//! `doorbell bench`: measuring on the user's own database and brokers.
//!
//! | file | what |
//! |---|---|
//! | `flags`, `plan` | what is measured, and what that will write |
//! | `word` | what is said before the start |
//! | `stage` | where it is measured: a scratch outbox, topics, the relay |
//! | `writers`, `single`, `ramp` | what a trigger costs those who write; `clients` are they |
//! | `drain` | rows a second until a backlog is empty |
//! | `latency` | from a commit to a consumer; `watch` follows the rows |
//! | `idle` | what a relay costs while nothing happens |
//! | `process` | the relay as a process, and what it costs |
//! | `figures`, `machine` | percentiles, and what they were measured on |
//! | `report`, `html`, `plot` | tables, a page, drawings |

mod clients;
mod drain;
pub mod figures;
mod flags;
mod html;
mod idle;
mod latency;
pub mod machine;
mod plan;
pub mod plot;
pub mod process;
mod ramp;
mod report;
mod single;
mod stage;
mod watch;
mod word;
mod writers;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Failure, Outcome};
use crate::config::Settings;
use crate::kafka::{ScratchTopics, scratch_topics};
use crate::postgres::{Ground, SCRATCH_PREFIX, Server};
pub(super) use flags::BenchFlags;
use machine::Machine;
use plan::{Part, Plan};
use report::Section;
use stage::{Progress, Stage};

/// What a shell reports for a program that a second signal ended.
const LEFT_AT_ONCE: i32 = 130;

/// All that was measured.
#[derive(Serialize)]
struct Results {
    /// The name of the schema and the topics that were used.
    scratch: String,
    plan: Plan,
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    writers: Option<writers::Results>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<drain::Results>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<latency::Results>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<idle::Results>,
}

/// Measures, and shows what was measured.
pub(super) fn bench(settings: &Settings, flags: &BenchFlags) -> Outcome {
    let plan = Plan::of(flags);
    let page = flags.html.as_deref().map(Page::open).transpose()?;
    // Children end with the thread that started them, which must be this one: it runs the future below.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(Box::pin(run(settings, plan, flags.yes)));
    runtime.shutdown_background();
    let Some(results) = measured? else {
        eprintln!("doorbell: nothing was done");
        return Ok(());
    };
    let sections = results.sections()?;
    let mut out = std::io::stdout().lock();
    if flags.json {
        serde_json::to_writer_pretty(&mut out, &results)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}\n{}", results.machine, report::text(&sections))?;
    }
    if let Some(page) = page {
        page.write(&html::page(&results.machine.to_string(), &sections))?;
    }
    Ok(())
}

/// `None` where the user did not agree.
async fn run(settings: &Settings, plan: Plan, yes: bool) -> anyhow::Result<Option<Results>> {
    let server = Server::find(&settings.database.url).await?;
    let mut ground = Ground::look(&server, plan.sessions()).await?;
    let kafka = settings.kafka.clone();
    let topics = tokio::task::spawn_blocking(move || scratch_topics(&kafka, SCRATCH_PREFIX));
    let topics = topics.await??;
    let data = ground.data_directory().await?;
    let free = data.and_then(|folder| word::free_bytes(&folder));
    word::check_room(&plan, free)?;
    let found = word::Found {
        settings,
        server: &server,
        ground: &ground,
        topics: &topics,
        free,
    };
    word::announce(&plan, &found);
    if !word::agreed(yes)? {
        return Ok(None);
    }
    let mut signals = Signals::new()?;
    let scratch = ground.make().await?;
    let mut stage = Stage {
        topics: ScratchTopics::new(&settings.kafka, scratch.schema(), plan.partitions)?,
        settings: settings.clone(),
        progress: Progress::new(plan.parts.iter().map(|part| part.steps(&plan)).sum()),
        scratch,
        plan,
    };
    let measured = tokio::select! {
        measured = measure(&mut stage) => measured,
        () = signals.next() => Err(anyhow::anyhow!("interrupted: nothing is left behind")),
    };
    stage.progress.end();
    let removed = tokio::select! {
        removed = strike(&mut stage) => removed,
        () = signals.next() => {
            eprintln!("doorbell: second signal: leaving at once; left behind: {}", left(&stage));
            std::process::exit(LEFT_AT_ONCE);
        }
    };
    match (measured, removed) {
        (measured, Ok(())) => measured.map(Some),
        (Ok(_), Err(error)) => Err(error.context(format!("left behind: {}", left(&stage)))),
        (Err(error), Err(removal)) => Err(error.context(format!(
            "left behind: {}, since {removal:#}; and before that",
            left(&stage)
        ))),
    }
}

async fn measure(stage: &mut Stage) -> anyhow::Result<Results> {
    let machine = Machine::here(stage.scratch.server_facts().await?);
    let plan = stage.plan.clone();
    let mut results = Results {
        scratch: stage.scratch.schema().to_owned(),
        machine,
        writers: None,
        drain: None,
        latency: None,
        idle: None,
        plan,
    };
    for part in results.plan.parts.clone() {
        match part {
            Part::Writers => results.writers = Some(Box::pin(writers::measure(stage)).await?),
            Part::Drain => results.drain = Some(Box::pin(drain::measure(stage)).await?),
            Part::Latency => results.latency = Some(Box::pin(latency::measure(stage)).await?),
            Part::Idle => results.idle = Some(Box::pin(idle::measure(stage)).await?),
        }
    }
    Ok(results)
}

/// Removes all that was made.
async fn strike(stage: &mut Stage) -> anyhow::Result<()> {
    let topics = stage.topics.remove_all().await;
    stage.scratch.remove().await?;
    topics?;
    Ok(())
}

/// What would be left behind, for whoever has to remove it.
fn left(stage: &Stage) -> String {
    let mut left = format!("schema {}", stage.scratch.schema());
    for topic in stage.topics.names() {
        left += &format!(", topic {topic}");
    }
    left
}

impl Results {
    fn sections(&self) -> anyhow::Result<Vec<Section>> {
        let mut sections = Vec::new();
        if let Some(writers) = &self.writers {
            sections.push(writers.section()?);
        }
        if let Some(drain) = &self.drain {
            sections.push(drain.section()?);
        }
        if let Some(latency) = &self.latency {
            sections.push(latency.section()?);
        }
        sections.extend(self.idle.as_ref().map(idle::Results::section));
        Ok(sections)
    }
}

impl Part {
    fn steps(self, plan: &Plan) -> usize {
        match self {
            Self::Writers => writers::steps(plan),
            Self::Drain => drain::steps(plan),
            Self::Latency => latency::steps(plan),
            Self::Idle => idle::STEPS,
        }
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The file of the report: opened at once, since nobody wants to hear after ten minutes that it cannot be.
struct Page<'a> {
    path: &'a Path,
    file: File,
    is_new: bool,
    written: bool,
}

impl<'a> Page<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let is_new = !path.exists();
        let file = File::options().create(true).append(true).open(path);
        let file =
            file.map_err(|error| Failure::Usage(format!("--html {}: {error}", path.display())))?;
        Ok(Self {
            path,
            file,
            is_new,
            written: false,
        })
    }

    fn write(mut self, page: &str) -> anyhow::Result<()> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all(page.as_bytes()));
        self.written = written.is_ok();
        written.with_context(|| format!("failed to write {}", self.path.display()))
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if self.is_new && !self.written {
            std::fs::remove_file(self.path).ok();
        }
    }
}
