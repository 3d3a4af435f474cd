//! The report of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::listener::Seen;
use super::plan::Plan;
use super::referee::{Duplicates, Happened, Rows};
use super::schedule::Kind;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The flags that repeat it.
    repeat: String,
    plan: Plan,
    seconds: u64,
    faults: usize,
    kinds: BTreeMap<Kind, Of>,
    committed: usize,
    unknown: usize,
    unknown_arrived: usize,
    rolled_back: usize,
    records: usize,
    duplicates: usize,
    duplicates_beside_no_fault: usize,
    farthest_duplicate: Millis,
    out_of_order: usize,
    lost: usize,
    leaked: usize,
    /// How often the run's own consumer read nothing for a long time and was replaced.
    consumers_renewed: usize,
    longest_stall: Option<Stall>,
    /// By outbox.
    verify: BTreeMap<&'static str, Value>,
}

/// The faults of one kind.
#[derive(Debug, Default, Serialize)]
struct Of {
    faults: usize,
    duplicates: usize,
    /// From the end of each until everything committed by then had arrived.
    recovery_median: Millis,
    recovery_longest: Millis,
    /// Of the rows that waited during them.
    longest_stall: Millis,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Millis(u128);

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self(time.as_millis())
    }
}

#[derive(Debug, Serialize)]
struct Stall {
    millis: Millis,
    row: String,
    fault: Option<Kind>,
}

impl Report {
    pub(crate) fn of(
        plan: &Plan,
        begun: Instant,
        faults: &[Happened],
        (rows, seen, duplicates): (&Rows, &Seen, &Duplicates),
        verify: BTreeMap<&'static str, Value>,
    ) -> Self {
        let longest = rows.stalls.iter().max();
        Self {
            repeat: plan.flags(),
            plan: plan.clone(),
            seconds: begun.elapsed().as_secs(),
            faults: faults.len(),
            kinds: kinds(faults, rows, duplicates),
            committed: rows.committed,
            unknown: rows.unknown,
            unknown_arrived: rows.unknown_arrived,
            rolled_back: rows.rolled_back,
            records: seen.records,
            duplicates: seen.duplicates.len(),
            duplicates_beside_no_fault: duplicates.stray.len(),
            farthest_duplicate: duplicates.farthest.into(),
            out_of_order: seen.disorder.len(),
            lost: rows.lost.len(),
            leaked: rows.leaked.len() + seen.strangers.len(),
            consumers_renewed: seen.renewed,
            longest_stall: longest.map(|(wait, fault, row)| Stall {
                millis: (*wait).into(),
                row: row.clone(),
                fault: fault.map(|index| faults[index].kind),
            }),
            verify,
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "  {what:<28} {value}").expect("a string takes all");
        };
        line("faults", &format!("{} in {} s", self.faults, self.seconds));
        line("rows committed", &self.committed);
        line("rows rolled back", &self.rolled_back);
        line(
            "rows of unknown outcome",
            &format!(
                "{}, of which {} arrived",
                self.unknown, self.unknown_arrived
            ),
        );
        line("records", &self.records);
        line("lost", &self.lost);
        line("rolled back and arrived", &self.leaked);
        line("out of order", &self.out_of_order);
        line(
            "duplicates",
            &format!(
                "{}, {} beside no fault; the farthest {} ms from its fault's end",
                self.duplicates, self.duplicates_beside_no_fault, self.farthest_duplicate.0
            ),
        );
        line("consumers renewed", &self.consumers_renewed);
        if let Some(stall) = &self.longest_stall {
            let fault = stall
                .fault
                .map_or("no fault".into(), |kind| kind.to_string());
            line("longest stall", &format!("{} ms, {fault}", stall.millis.0));
        }
        line("doorbell verify", &self.verdict());
        text.push_str("\n| fault | times | duplicates | recovery, median ms | longest ms | longest stall of a row ms |\n|---|---|---|---|---|---|\n");
        for (kind, of) in &self.kinds {
            writeln!(
                text,
                "| {kind} | {} | {} | {} | {} | {} |",
                of.faults,
                of.duplicates,
                of.recovery_median.0,
                of.recovery_longest.0,
                of.longest_stall.0
            )
            .expect("a string takes all");
        }
        writeln!(text, "\nrepeat: scripts/chaos {}", self.repeat).expect("a string takes all");
        text
    }

    /// Of its files.
    pub(crate) fn name(&self) -> String {
        self.plan.name()
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.verify.values().all(|of| of["ok"] == true) {
            true => "ok",
            false => "NOT OK",
        }
    }
}

fn kinds(faults: &[Happened], rows: &Rows, duplicates: &Duplicates) -> BTreeMap<Kind, Of> {
    let mut kinds: BTreeMap<Kind, Of> = BTreeMap::new();
    let mut recoveries: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for fault in faults {
        kinds.entry(fault.kind).or_default().faults += 1;
        let took = fault.recovered.saturating_duration_since(fault.ended);
        recoveries.entry(fault.kind).or_default().push(took);
    }
    for index in &duplicates.nearest {
        kinds.entry(faults[*index].kind).or_default().duplicates += 1;
    }
    for (wait, fault, _) in &rows.stalls {
        if let Some(index) = fault {
            let of = kinds.entry(faults[*index].kind).or_default();
            of.longest_stall = of.longest_stall.max((*wait).into());
        }
    }
    for (kind, mut times) in recoveries {
        times.sort_unstable();
        let of = kinds.entry(kind).or_default();
        of.recovery_median = times[times.len() / 2].into();
        of.recovery_longest = times[times.len() - 1].into();
    }
    kinds
}
