//! The relay beside its limit and its peer: `make bench`.
//!
//! | file | what |
//! |---|---|
//! | `flags` | what is measured, and how often |
//! | `drain` | a backlog, until it is at the broker; the relay alone with a large backlog and a small one, with a held snapshot and none |
//! | `latency` | until a consumer has a row: one into an idle outbox |
//! | `steady` | the same, and the cost, at steady rates; then idleness |
//! | `takeover` | a leader that is killed or stopped, beside a standby |
//! | `observed` | the relay alone, and observed: metrics, health, page, traces |

mod drain;
mod flags;
mod latency;
mod observed;
mod steady;
mod takeover;

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;
use doorbell::Settings;
use doorbell::bench_support::Failure;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture, Ground, Progress};
use crate::report::{Machine, Results};
use crate::sides::{Side, debezium};
pub(crate) use flags::CompareFlags;
use flags::Comparison;

/// Of each topic.
const PARTITIONS: i32 = 6;
/// Sessions at one time, those of two relays included.
const SESSIONS: u32 = 24;

/// Measures, and writes what was measured; of a run that was interrupted, the parts that are
/// complete.
pub(crate) async fn run(settings: &Settings, mut flags: CompareFlags) -> Result<(), Failure> {
    flags.obey_quick();
    let ground = Ground::inspect(settings, SESSIONS).await?;
    let mut results = Results::default();
    let measured = fixture::measured(
        settings,
        ground,
        PARTITIONS,
        Progress::Lines,
        async |fixture: &mut Fixture| measure(fixture, &flags, &mut results).await,
    );
    let measured = Box::pin(measured).await;
    if !results.is_empty() {
        let page = format!("{HEAD}{}", results.markdown());
        write(&flags.out, &results, &page)?;
        println!("{page}");
        println!("bench: {}", results.conclusion());
        println!("bench: written to {}", flags.out.display());
    }
    Ok(measured?)
}

async fn measure(
    fixture: &mut Fixture,
    flags: &CompareFlags,
    results: &mut Results,
) -> anyhow::Result<()> {
    if flags.peers {
        debezium::check(fixture).await?;
    }
    let (shown, machine) = machine(fixture, flags.peers).await?;
    results.begin(shown, [("arguments", json!(flags)), ("machine", machine)]);
    fixture.earlier.clone_from(&flags.earlier);
    let sides = |ours: &[Side], theirs: &[Side]| {
        let earlier = flags.earlier.as_ref().map(|_| Side::EarlierRelay);
        let theirs = if flags.peers { theirs } else { &[] };
        [ours, earlier.as_slice(), theirs].concat()
    };
    let debeziums = [
        Side::DebeziumEager,
        Side::DebeziumTuned,
        Side::DebeziumDefault,
    ];
    let (rows, rounds) = (flags.rows, flags.rounds);
    for part in Comparison::value_variants() {
        if flags.only.is_some_and(|only| only != *part) {
            continue;
        }
        let measured = match part {
            Comparison::Drain => {
                let sides = sides(&[Side::Bare, Side::Relay], &debeziums[1..]);
                drain::measure(fixture, &sides, rows, rounds).await?
            }
            Comparison::Latency => {
                let sides = sides(&[Side::Bare, Side::Relay], &debeziums);
                latency::measure(fixture, &sides, flags).await?
            }
            Comparison::Steady => {
                // The bare loop would lose a row that commits after one with a higher id, and the
                // bench would wait for it.
                let sides = sides(&[Side::Relay], &debeziums);
                steady::measure(fixture, &sides, flags).await?
            }
            Comparison::Scale => {
                let title = "Drain of a large backlog and of a small one";
                drain::pairs(fixture, title, drain::scale(flags.scale_rows), rounds).await?
            }
            Comparison::Xmin => {
                let title = "Drain beside a held snapshot";
                drain::pairs(fixture, title, drain::xmin(rows), rounds).await?
            }
            Comparison::Takeover => takeover::measure(fixture, flags.kills).await?,
            Comparison::Observed => observed::measure(fixture, flags).await?,
        };
        results.push(part, measured);
    }
    Ok(())
}

/// What it ran on, and what took part: shown, and as JSON.
async fn machine(fixture: &mut Fixture, peers: bool) -> anyhow::Result<(String, Value)> {
    let machine = Machine::here(&mut fixture.scratch.session).await?;
    // The protocol does not tell it: scripts/bench, which starts the broker, knows.
    let kafka = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "unknown".into());
    let rustc = output_of("rustc", &["--version"]);
    // Of this repository, with `-dirty` where the files were others.
    let commit = output_of("git", &["describe", "--always", "--dirty"]);
    let mut json = json!(machine);
    let mut shown = format!("{machine}; Kafka {kafka}");
    if peers {
        let debezium = debezium::version().await?;
        shown += &format!("; {debezium}");
        json["debezium"] = debezium.into();
    }
    shown += &format!("; all on this machine; {rustc}, commit {commit}");
    for (key, version) in [("kafka", kafka), ("rustc", rustc), ("commit", commit)] {
        json[key] = version.into();
    }
    Ok((shown, json))
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

const HEAD: &str = "# Measured\n\nWritten by `scripts/bench`; `docs/benchmarks/README.md` says what is measured and what the numbers do not say. \
    Every figure is in relay.json, which the run leaves beside this page.\n\n";

/// Writes relay.md, relay.json and the plots into the folder.
fn write(folder: &Path, results: &Results, page: &str) -> anyhow::Result<()> {
    let written = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    let all = || {
        std::fs::create_dir_all(folder)?;
        written("relay.md", page)?;
        written("relay.json", &format!("{:#}\n", results.json()))?;
        let mut plots = results.plots();
        plots.try_for_each(|(name, svg)| written(&format!("{name}.svg"), svg))
    };
    all().with_context(|| format!("{} cannot be written", folder.display()))
}
