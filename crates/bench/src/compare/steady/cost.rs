//! What a side, its sessions and the broker use for the rows of one rate.

use std::time::Duration;

use serde::Serialize;

use crate::fixture::{Activity, Fixture, Source, Usage, Watched};
use crate::sides::Side;

/// Part of each statement of the writers.
const WRITERS_OWN: &str = "FROM generate_series($1, $2) n";

/// NaN is what cannot be known, and is `null` as JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RowCost {
    /// Of one core: the process that relays, ...
    pub(super) relay_cpu_percent: f64,
    /// ... the server's processes that serve its sessions, ...
    pub(super) sessions_cpu_percent: f64,
    /// ... and the broker, for writers and consumers alike.
    pub(super) broker_cpu_percent: f64,
    /// Switches of the relay's threads, and of its sessions.
    pub(super) switches_a_row: f64,
    pub(super) session_switches_a_row: f64,
    /// The side's statements, or transactions where only these are counted.
    pub(super) statements_a_row: f64,
    counted_by: Source,
    statements: Vec<(String, i64)>,
}

/// What all had used at the beginning.
pub(super) struct Reading {
    watched: Watched,
    activity: Activity,
    used: [Option<Usage>; 3],
}

impl Reading {
    pub(super) async fn take(
        fixture: &mut Fixture,
        side: Side,
        process: &str,
    ) -> anyhow::Result<Self> {
        let sessions = match side.is_debezium() {
            true => "Debezium %".to_owned(),
            false => format!("doorbell % {process}"),
        };
        let watched = Watched::find(&mut fixture.scratch, process, &sessions).await?;
        Ok(Self {
            activity: fixture.scratch.activity().await?,
            used: used(&watched),
            watched,
        })
    }

    /// The difference to now.
    pub(super) async fn cost(
        self,
        fixture: &mut Fixture,
        rows: u32,
        took: Duration,
    ) -> anyhow::Result<RowCost> {
        let mut cpu_percent = [f64::NAN; 3];
        let mut switches_a_row = [f64::NAN; 3];
        for (index, after) in used(&self.watched).into_iter().enumerate() {
            if let (Some(after), Some(before)) = (after, &self.used[index]) {
                let used = after.since(before);
                cpu_percent[index] = used.nanoseconds as f64 / took.as_nanos() as f64 * 100.0;
                switches_a_row[index] = used.switches as f64 / f64::from(rows);
            }
        }
        let activity = fixture.scratch.activity().await?;
        let mut statements = activity.since(&self.activity);
        statements.retain(|(statement, _)| !statement.contains(WRITERS_OWN));
        let mut count: i64 = statements.iter().map(|(_, count)| count).sum();
        if activity.source == Source::PgStatDatabase {
            // The writers' transactions are among them.
            count -= i64::from(rows);
        }
        let [relay_cpu_percent, sessions_cpu_percent, broker_cpu_percent] = cpu_percent;
        let [switches_a_row, session_switches_a_row, _] = switches_a_row;
        Ok(RowCost {
            relay_cpu_percent,
            sessions_cpu_percent,
            broker_cpu_percent,
            switches_a_row,
            session_switches_a_row,
            statements_a_row: count as f64 / f64::from(rows),
            counted_by: activity.source,
            statements,
        })
    }
}

fn used(watched: &Watched) -> [Option<Usage>; 3] {
    [&watched.relay, &watched.sessions, &watched.broker].map(|processes| Usage::of(processes))
}

impl RowCost {
    /// Of the relay and its sessions.
    pub(super) fn of_relaying(&self) -> f64 {
        self.relay_cpu_percent + self.sessions_cpu_percent
    }

    pub(super) fn of_all(&self) -> f64 {
        self.of_relaying() + self.broker_cpu_percent
    }
}
