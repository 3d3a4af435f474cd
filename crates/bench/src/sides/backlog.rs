//! A full table, from the start of a side until the table is empty.

use std::time::Duration;

use serde::Serialize;

use super::audit::each_once;
use super::{Running, Side, Start};
use crate::fixture::{Delivery, Fixture, Rows};

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Backlog {
    pub(crate) side: Side,
    pub(crate) rows: i64,
    pub(crate) payload_bytes: u32,
    /// Whether an idle transaction holds a snapshot from before the drain: no row that is deleted
    /// can be vacuumed.
    pub(crate) snapshot_held: bool,
    pub(crate) delivery: Delivery,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Drained {
    #[serde(flatten)]
    backlog: Backlog,
    seconds: f64,
    pub(crate) rows_per_second: f64,
    pub(crate) payload_mb_per_second: f64,
    /// Of the process that relays, its start included. The bare loop shares its process with the
    /// bench, which sleeps but for its looks.
    pub(crate) cpu_seconds_per_million_rows: f64,
    /// The bare loop's would be that of the whole bench.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_memory_mib: Option<f64>,
    /// From the first to the last append of the broker, where the topic was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_of_appends: Option<f64>,
}

impl Backlog {
    /// Rows of 200 bytes, and nothing beside them.
    pub(crate) fn of(side: Side, rows: i64) -> Self {
        Self {
            side,
            rows,
            payload_bytes: 200,
            snapshot_held: false,
            delivery: Delivery::AtLeastOnce,
        }
    }

    /// Has the side drain it. Where that is audited, each row must be in the topic once.
    pub(crate) async fn drain(
        self,
        fixture: &mut Fixture,
        is_audited: bool,
    ) -> anyhow::Result<Drained> {
        if self.side.is_debezium() {
            return self.stream(fixture).await;
        }
        let topic = fixture.topics.make("drain").await?;
        let rows = Rows::Plain(self.payload_bytes);
        let last = self.fill(fixture, rows).await?;
        let snapshot = match self.snapshot_held {
            true => Some(fixture.scratch.hold_snapshot().await?),
            false => None,
        };
        let start = Start {
            delivery: self.delivery,
            ..Start::default()
        };
        let running = Running::start(self.side, fixture, &topic, start).await?;
        let mut drained = self.until_empty(fixture, &running, last).await?;
        running.stop(fixture).await?;
        drop(snapshot);
        if is_audited {
            let appends = each_once(fixture, &topic, self.rows, &[])?;
            drained.seconds_of_appends = Some(appends.as_secs_f64());
        }
        Ok(drained)
    }

    /// Fills the table; the highest id. The vacuum writes what the first reader would: each drain
    /// finds the same pages.
    pub(crate) async fn fill(&self, fixture: &mut Fixture, rows: Rows) -> anyhow::Result<i64> {
        let scratch = &mut fixture.scratch;
        scratch.empty().await?;
        scratch.insert(rows, 1..=self.rows).await?;
        scratch.settle_backlog().await
    }

    pub(crate) async fn until_empty(
        self,
        fixture: &mut Fixture,
        running: &Running,
        last: i64,
    ) -> anyhow::Result<Drained> {
        let empty = fixture.scratch.until_drained(last).await?;
        let took = empty - running.begun;
        Ok(self.drained(took, running.cpu()?, running.peak_memory()?))
    }

    /// Debezium, warm and streaming: one statement's rows, from the first to the last append.
    async fn stream(self, fixture: &mut Fixture) -> anyhow::Result<Drained> {
        let topic = fixture.topics.make("drain").await?;
        let (side, rows) = (self.side, self.rows);
        let start = Start {
            warm_up: rows,
            ..Start::default()
        };
        let mut running = Running::start(side, fixture, &topic, start).await?;
        let from = fixture.topics.ends(&topic)?;
        let cpu = running.cpu()?;
        let numbers = rows + 1..=rows * 2;
        fixture.scratch.insert(side.rows(), numbers).await?;
        running.until(fixture, &topic, rows * 2).await?;
        let (cpu, memory) = (running.cpu()? - cpu, running.peak_memory()?);
        running.stop(fixture).await?;
        let appends = each_once(fixture, &topic, rows * 2, &from)?;
        let mut drained = self.drained(appends, cpu, memory);
        drained.seconds_of_appends = Some(drained.seconds);
        Ok(drained)
    }

    fn drained(self, took: Duration, cpu: f64, peak_memory_mib: Option<f64>) -> Drained {
        let (rows, seconds) = (self.rows as f64, took.as_secs_f64());
        Drained {
            backlog: self,
            seconds,
            rows_per_second: rows / seconds,
            payload_mb_per_second: rows / seconds * f64::from(self.payload_bytes) / 1e6,
            cpu_seconds_per_million_rows: cpu * 1e6 / rows,
            peak_memory_mib,
            seconds_of_appends: None,
        }
    }
}
