//! The run's own judgement, beside the word of `doorbell verify`.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::ledger::{Fate, Ledger, Name, Row};
use super::listener::Seen;
use super::plan::Delivery;
use super::schedule::Kind;
use super::stage::Stage;
use crate::support::{LEFT, eventually, processes_of};

/// A consumer may hear of a double a while after everything else has arrived: it may be slow, and a relay that was frozen repeats what it had.
const BESIDE: Duration = Duration::from_secs(5);

/// A fault that happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Happened {
    pub(crate) kind: Kind,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// All that was committed until its end has arrived.
    pub(crate) recovered: Instant,
}

impl Happened {
    /// How far a moment is from the time between begin and end.
    fn distance(&self, at: Instant) -> Duration {
        let after = at.saturating_duration_since(self.ended);
        after.max(self.begun.saturating_duration_since(at))
    }

    fn is_beside(&self, at: Instant) -> bool {
        self.begun <= at && at <= self.recovered + BESIDE
    }
}

/// What the rows say.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) committed: usize,
    pub(crate) unknown: usize,
    /// Of unknown outcome, and they came.
    pub(crate) unknown_arrived: usize,
    pub(crate) rolled_back: usize,
    pub(crate) lost: Vec<String>,
    /// Rolled back, and they came.
    pub(crate) leaked: Vec<String>,
    /// Ids of what was committed.
    pub(crate) ids: Vec<i64>,
    /// From commit to arrival, with the fault that it overlaps longest.
    pub(crate) stalls: Vec<(Duration, Option<usize>, String)>,
}

/// Rows that waited shorter than this did not stall.
const STALL: Duration = Duration::from_millis(100);

pub(crate) fn rows(ledger: &Ledger, faults: &[Happened]) -> Rows {
    let mut found = Rows::default();
    for writer in 0..ledger.writers() {
        for (number, row) in ledger.rows(writer).iter().enumerate() {
            found.count(Name { writer, number }, row, faults);
        }
    }
    found
}

impl Rows {
    fn count(&mut self, name: Name, row: &Row, faults: &[Happened]) {
        match (row.fate, row.arrived) {
            (Fate::Committed(at), arrived) => {
                self.committed += 1;
                self.ids.push(row.id);
                match arrived {
                    None => self.lost.push(name.text()),
                    Some(arrived) => self.stalled(name, at, arrived, faults),
                }
            }
            (Fate::Unknown, arrived) => {
                self.unknown += 1;
                self.unknown_arrived += usize::from(arrived.is_some());
            }
            (Fate::RolledBack, None) => self.rolled_back += 1,
            (Fate::RolledBack, Some(_)) => self.leaked.push(name.text()),
            (Fate::Open, _) => panic!("{name:?} is open, though its writer has ended"),
        }
    }

    fn stalled(&mut self, name: Name, at: Instant, arrived: Instant, faults: &[Happened]) {
        let wait = arrived.saturating_duration_since(at);
        if wait < STALL {
            return;
        }
        let overlap = |fault: &Happened| {
            let until = fault.recovered.min(arrived);
            until.saturating_duration_since(fault.begun.max(at))
        };
        let longest = faults
            .iter()
            .enumerate()
            .map(|(index, fault)| (overlap(fault), index))
            .max()
            .filter(|(overlap, _)| *overlap > Duration::ZERO);
        let fault = longest.map(|(_, index)| index);
        self.stalls.push((wait, fault, name.text()));
    }
}

/// What the doubles say: of each, the fault that it is nearest to.
#[derive(Debug, Default)]
pub(crate) struct Doubles {
    pub(crate) nearest: Vec<usize>,
    /// No fault was near.
    pub(crate) stray: Vec<String>,
    /// The greatest distance in time from a fault.
    pub(crate) farthest: Duration,
}

pub(crate) fn doubles(seen: &Seen, faults: &[Happened]) -> Doubles {
    let mut found = Doubles::default();
    for double in &seen.doubles {
        let nearest = faults
            .iter()
            .enumerate()
            .filter(|(_, fault)| fault.is_beside(double.at))
            .min_by_key(|(_, fault)| fault.distance(double.at));
        match nearest {
            Some((index, fault)) => {
                found.nearest.push(index);
                found.farthest = found.farthest.max(fault.distance(double.at));
            }
            None => found.stray.push(format!(
                "{} at {}/{}, {:?} after the first",
                double.name.text(),
                double.partition,
                double.offset,
                double.at - double.first
            )),
        }
    }
    found
}

/// What `doorbell verify` says of ids that were committed.
pub(crate) fn verify(stage: &Stage, ids: &[i64]) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines: Vec<String> = ids.iter().map(i64::to_string).collect();
    std::fs::write(file.path(), lines.join("\n")).expect("a file of ids");
    if let Some(folder) = &stage.plan.keep {
        std::fs::copy(file.path(), folder.join("ids")).expect("the folder to keep things in");
    }
    let list = file.path().to_str().expect("a path");
    let mut flags = vec![
        "verify",
        "--json",
        "--topic",
        &stage.world.topic,
        "--ids",
        list,
    ];
    flags.push(match stage.plan.delivery {
        Delivery::AtLeastOnce => "--allow-doubles",
        Delivery::ExactlyOnce => "--committed",
    });
    let output = stage.world.doorbell(&flags);
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(folder) = &stage.plan.keep {
        std::fs::write(folder.join("verify.json"), said.as_ref()).expect("the folder");
    }
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("verify: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What a run may not leave behind, besides what no world may.
const LEFT_OF_A_RUN: [(&str, &str); 3] = [
    ("row in the outbox", "SELECT count(*) FROM outbox"),
    ("dead letter", "SELECT count(*) FROM doorbell.dead"),
    (
        "replication slot",
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()",
    ),
];

/// Fails if anything is left: in the server, which nobody else uses, or a process.
pub(crate) fn nothing_left(stage: &Stage) {
    for (what, sql) in LEFT_OF_A_RUN.into_iter().chain(LEFT) {
        // A session ends a moment after its client.
        eventually(&format!("no {what} is left"), || {
            (stage.database.number(sql)? == 0).then_some(())
        });
    }
    eventually("no process is left", || {
        processes_of(stage.world.name()).is_empty().then_some(())
    });
}
