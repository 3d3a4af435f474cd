//! The run's own verdict, next to that of `doorbell verify`.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::database::{OUTBOXES, ROWS, TWINS};
use super::ledger::{Fate, Ledger, Name, Row};
use super::listener::Seen;
use super::plan::Delivery;
use super::schedule::Kind;
use super::stage::Stage;
use crate::support::{LEFT, eventually, processes_of};

/// A duplicate may arrive a while after everything else: the consumer may be slow, and a relay that
/// was frozen resends what it had in flight.
const BESIDE: Duration = Duration::from_secs(5);

/// A fault that took place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Happened {
    pub(crate) kind: Kind,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// When everything committed before its end had arrived.
    pub(crate) recovered: Instant,
}

impl Happened {
    /// Returns the distance of a moment from the time between begin and end.
    fn distance(&self, at: Instant) -> Duration {
        let after = at.saturating_duration_since(self.ended);
        after.max(self.begun.saturating_duration_since(at))
    }

    fn is_beside(&self, at: Instant) -> bool {
        self.begun <= at && at <= self.recovered + BESIDE
    }
}

/// The figures about rows.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) committed: usize,
    pub(crate) unknown: usize,
    /// Rows of unknown outcome that arrived.
    pub(crate) unknown_arrived: usize,
    pub(crate) rolled_back: usize,
    pub(crate) lost: Vec<String>,
    /// Rows that were rolled back and arrived.
    pub(crate) leaked: Vec<String>,
    /// Ids of committed rows, by outbox.
    pub(crate) ids: [Vec<i64>; OUTBOXES.len()],
    /// Time from commit to arrival, with the fault that it overlaps longest.
    pub(crate) stalls: Vec<(Duration, Option<usize>, String)>,
}

/// A row that waited for less than this did not stall.
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
                self.ids[name.outbox()].push(row.id);
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

/// The figures about duplicates: each belongs to the nearest fault.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    pub(crate) nearest: Vec<usize>,
    /// Duplicates without a fault nearby.
    pub(crate) stray: Vec<String>,
    /// The greatest distance in time from a fault.
    pub(crate) farthest: Duration,
}

pub(crate) fn duplicates(seen: &Seen, faults: &[Happened]) -> Duplicates {
    let mut found = Duplicates::default();
    for duplicate in &seen.duplicates {
        let nearest = faults
            .iter()
            .enumerate()
            .filter(|(_, fault)| fault.is_beside(duplicate.at))
            .min_by_key(|(_, fault)| fault.distance(duplicate.at));
        match nearest {
            Some((index, fault)) => {
                found.nearest.push(index);
                found.farthest = found.farthest.max(fault.distance(duplicate.at));
            }
            None => found.stray.push(format!(
                "{} at {}/{}, {:?} after the first",
                duplicate.name.text(),
                duplicate.partition,
                duplicate.offset,
                duplicate.at - duplicate.first
            )),
        }
    }
    found
}

/// Runs `doorbell verify` for one outbox with the ids that were committed.
pub(crate) fn verify(stage: &Stage, outbox: usize, ids: &[i64]) -> Value {
    let table = OUTBOXES[outbox];
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines: Vec<String> = ids.iter().map(i64::to_string).collect();
    std::fs::write(file.path(), lines.join("\n")).expect("a file of ids");
    if let Some(folder) = &stage.plan.keep {
        std::fs::copy(file.path(), folder.join(format!("ids-{table}")))
            .expect("the folder to keep things in");
    }
    let list = file.path().to_str().expect("a path");
    let topic = stage.topic(table);
    let mut flags = vec![
        "verify", "--json", "--table", table, "--topic", &topic, "--ids", list,
    ];
    if table == TWINS {
        flags.push("--allow-late");
    }
    flags.push(match stage.plan.delivery {
        Delivery::AtLeastOnce => "--allow-doubles",
        Delivery::ExactlyOnce => "--committed",
    });
    let output = stage.world.doorbell(&flags);
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(folder) = &stage.plan.keep {
        std::fs::write(folder.join(format!("verify-{table}.json")), said.as_ref())
            .expect("the folder");
    }
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("verify: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What a run may not leave behind, in addition to what no world may.
const LEFT_OF_A_RUN: [(&str, &str); 3] = [
    ("row in an outbox", ROWS),
    ("dead letter", "SELECT count(*) FROM doorbell.dead"),
    (
        "replication slot",
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()",
    ),
];

/// Fails if anything is left: in the server, which only this run uses, or as a process.
pub(crate) fn nothing_left(stage: &Stage) {
    for (what, sql) in LEFT_OF_A_RUN.into_iter().chain(LEFT) {
        // A session ends shortly after its client.
        eventually(&format!("no {what} is left"), || {
            (stage.database.number(sql)? == 0).then_some(())
        });
    }
    eventually("no process is left", || {
        processes_of(stage.world.name()).is_empty().then_some(())
    });
}
