//! What is printed and written: the tables, the plots, the raw figures.

use std::fmt::{Display, Write as _};
use std::path::Path;

use anyhow::Context;
use doorbell::app::bench::plot::{Bars, Lines, bars, quantiles};

use crate::Results;
use crate::latency::Latency;
use crate::takeover;

/// The files of the plots.
const DRAIN: &str = "relay-drain.svg";
const LATENCY: &str = "relay-latency.svg";
const STEADY: &str = "relay-steady.svg";

/// A page with all tables.
pub(crate) fn markdown(results: &Results) -> String {
    let mut page = String::from(
        "# Measured\n\nWritten by `scripts/bench`; `docs/benchmarks/README.md` says what is measured and what the numbers do not say, ",
    );
    page += "[relay.json](relay.json) has every figure.\n\n";
    let _ = writeln!(page, "{}", results.machine);
    section(&mut page, "Drain", results.drain.as_ref(), Some(DRAIN));
    section(
        &mut page,
        "Latency of one row now and then",
        results.latency.as_ref(),
        Some(LATENCY),
    );
    section(
        &mut page,
        "Latency and cost at a steady rate",
        results.steady.as_ref(),
        Some(STEADY),
    );
    section(
        &mut page,
        "Drain of a large backlog and of a small one",
        results.scale.as_ref(),
        None,
    );
    section(
        &mut page,
        "Drain beside a held snapshot",
        results.xmin.as_ref(),
        None,
    );
    section(
        &mut page,
        "Takeover from a leader that is killed or stopped",
        results.takeover.as_ref(),
        None,
    );
    section(
        &mut page,
        "Drain and idleness, looked at and not",
        results.observed.as_ref(),
        None,
    );
    page
}

fn section(page: &mut String, title: &str, part: Option<&impl Display>, plot: Option<&str>) {
    let Some(part) = part else { return };
    *page += &format!("\n## {title}\n\n{part}");
    if let Some(file) = plot {
        *page += &format!("\n![{title}]({file})\n");
    }
}

/// The most important figures in one line.
pub(crate) fn conclusion(results: &Results) -> anyhow::Result<String> {
    let mut conclusions: Vec<String> = Vec::new();
    conclusions.extend(results.drain.as_ref().map(|drain| drain.conclusion()));
    conclusions.extend(
        results
            .latency
            .as_ref()
            .and_then(|latency| latency.conclusion()),
    );
    conclusions.extend(
        [&results.scale, &results.xmin]
            .into_iter()
            .flatten()
            .map(|pairs| pairs.conclusion()),
    );
    conclusions.extend(results.observed.as_ref().map(|it| it.conclusion()));
    conclusions.extend(results.steady.as_ref().map(|steady| steady.conclusion()));
    let takeover = results.takeover.as_ref();
    conclusions.extend(takeover.map(takeover::Results::conclusion).transpose()?);
    Ok(conclusions.join("; "))
}

/// Writes relay.md, relay.json and the plots into the folder of the arguments.
pub(crate) fn write(results: &Results, markdown: &str) -> anyhow::Result<()> {
    let folder = &results.arguments.out;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    file(folder, "relay.md", markdown)?;
    file(
        folder,
        "relay.json",
        &(serde_json::to_string_pretty(results)? + "\n"),
    )?;
    if let Some(drain) = &results.drain {
        let sides = drain.sides().iter();
        let (sides, rates) = sides
            .map(|one| (one.side.name().to_owned(), one.rows_per_second.median))
            .unzip();
        let plot = Bars {
            title: "Drain, median".into(),
            unit: "rows/s".into(),
            groups: sides,
            series: vec![("rows of 200 bytes".into(), rates)],
            reference: None,
        };
        file(folder, DRAIN, &bars(&plot)?)?;
    }
    if let Some(latency) = &results.latency {
        let plot = curves("One row into an idle outbox", latency.sides());
        file(folder, LATENCY, &quantiles(&plot)?)?;
    }
    if let Some(steady) = &results.steady {
        let plot = curves("1,000 rows a second", steady.latency());
        file(folder, STEADY, &quantiles(&plot)?)?;
    }
    Ok(())
}

fn curves(title: &str, sides: &[Latency]) -> Lines {
    let of = |one: &Latency| (one.side.name().to_owned(), one.raw_us.curve());
    Lines {
        title: title.into(),
        x: "share of rows that were as fast".into(),
        y: "commit to consumer, ms".into(),
        logarithmic: true,
        series: sides.iter().map(of).collect(),
    }
}

fn file(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}
