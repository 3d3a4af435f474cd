//! What a plan will write, and how long it takes, about.

use std::time::Duration;

use super::plan::{Part, Plan, WARM_UP_GAP};
use crate::sides::backlog::Backlog;

/// Around each row: its header, key, index entry.
const ROW_OVERHEAD: u64 = 150;
/// An event of a writer, with its payload of 200 bytes.
const EVENT: u64 = 200 + ROW_OVERHEAD;
/// More than two cores do; the estimate of what is written must not be too low.
const COMMITS_A_SECOND: u64 = 20_000;
/// A relay starts, a table is emptied: around each measurement.
const AROUND: Duration = Duration::from_secs(1);

/// About what a part takes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cost {
    /// The most bytes that PostgreSQL has on its disk at one time: tables are emptied in between.
    pub(crate) disk: u64,
    /// The bytes that the brokers get, in one replica. Topics are deleted in between, but their
    /// files stay for a while.
    pub(crate) brokers: u64,
    pub(crate) time: Duration,
}

impl Plan {
    pub(crate) fn cost(&self) -> Cost {
        let mut all = Cost::default();
        for part in self.parts() {
            let cost = self.cost_of(part);
            // Twice, because of the WAL.
            all.disk = all.disk.max(cost.disk.saturating_mul(2));
            all.brokers = all.brokers.saturating_add(cost.brokers);
            all.time += cost.time;
        }
        all.time = Duration::from_secs(all.time.as_secs().max(1));
        all
    }

    fn cost_of(&self, part: Part) -> Cost {
        // Inserts and drains of a million rows, on a machine that is not fast.
        let handling = |rows: u64| Duration::from_micros(rows.saturating_mul(15));
        let modes = self.deliveries().len() as u32;
        match part {
            Part::Writers => {
                let (pairs, clients) = (self.writer_rounds(), self.clients.len() as u32);
                let length = self.writing() + self.warm_up();
                let commits = COMMITS_A_SECOND.saturating_mul(length.as_secs() + 1);
                let (runs, starts) = (4 * clients + 3 * (pairs - 1), 5 * 8);
                // The business row as well.
                let kept = commits.saturating_mul(2).max(self.insert_rows);
                let sent = commits.saturating_mul(u64::from(runs + 3));
                let inserts = pairs * handling(self.insert_rows);
                Cost {
                    disk: kept.saturating_mul(EVENT),
                    brokers: sent.saturating_mul(EVENT),
                    time: runs * (length + AROUND) + inserts + starts * AROUND,
                }
            }
            Part::Drain => {
                let (backlogs, rounds) = (self.backlogs(), self.drain_rounds());
                let rows = |it: &Backlog| it.rows.unsigned_abs();
                let row = |it: &Backlog| u64::from(it.payload_bytes) + ROW_OVERHEAD;
                let bytes = backlogs.iter().map(|it| rows(it).saturating_mul(row(it)));
                let once = bytes.clone().fold(0, u64::saturating_add);
                let handled = handling(backlogs.iter().map(rows).sum());
                Cost {
                    disk: bytes.max().unwrap_or(0),
                    brokers: once.saturating_mul(rounds.into()),
                    time: rounds * (handled + backlogs.len() as u32 * AROUND),
                }
            }
            Part::Latency => {
                let (warm_up, gaps) = (self.warm_up_rows(), self.single_gap.len() as u32);
                let rates: u64 = self.rates.iter().map(|rate| u64::from(*rate)).sum();
                let loads = self.rates.len() as u32 + gaps;
                let lone = u64::from(gaps * self.single_rows + loads * warm_up);
                let rows = rates.saturating_mul(self.at_rate().as_secs() + 1) + lone;
                let gaps: Duration = self.single_gap.iter().sum();
                let measured = self.rates.len() as u32 * self.at_rate() + self.single_rows * gaps;
                Cost {
                    disk: rows.saturating_mul(EVENT),
                    brokers: rows.saturating_mul(EVENT * u64::from(modes)),
                    time: modes * (measured + loads * (AROUND + warm_up * WARM_UP_GAP)),
                }
            }
            Part::Idle => Cost {
                time: self.idle + AROUND,
                ..Cost::default()
            },
        }
    }
}
