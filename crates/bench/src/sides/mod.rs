//! Who is measured, and at what work.
//!
//! | file | what |
//! |---|---|
//! | `side` | their names |
//! | `bare` | the limit: a bare loop of the same libraries |
//! | `debezium` | the peer: Debezium with its outbox event router |
//! | `embedded` | the relay in this process, under an observer |
//! | `backlog`, `stream` | a full table to drain; rows that come by the clock |
//! | `audit` | whether each row arrived once |

pub(crate) mod audit;
pub(crate) mod backlog;
mod bare;
pub(crate) mod debezium;
pub(crate) mod embedded;
mod side;
pub(crate) mod stream;

use std::time::Instant;

use tokio::time::{Duration, sleep};

use crate::fixture::relay::{self, Relay};
use crate::fixture::{Delivery, Fixture};
use bare::Bare;
use debezium::Debezium;
use embedded::{Embedded, Stations};
pub(crate) use side::Side;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// Rows that Debezium carries first: a JVM is slow until it has seen its work.
    pub(crate) warm_up: i64,
    /// Whether the bare loop notes when each acknowledgement came.
    pub(crate) is_noted: bool,
    /// Of the relay, as are flags and environment.
    pub(crate) delivery: Delivery,
    pub(crate) flags: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// A side at work.
pub(crate) struct Running {
    who: Who,
    /// Its id, for `/proc`; else `self`.
    pub(crate) process: String,
    /// When its work began, as far as that can be told.
    pub(crate) begun: Instant,
    /// CPU seconds that its process had used before.
    cpu_before: f64,
    /// The last of the rows that it has carried to get warm, from 1 on.
    pub(crate) warmed: i64,
}

enum Who {
    Bare(Bare),
    Relay(Relay),
    Embedded(Embedded),
    Debezium(Debezium),
}

impl Running {
    pub(crate) async fn start(
        side: Side,
        fixture: &mut Fixture,
        topic: &str,
        start: Start<'_>,
    ) -> anyhow::Result<Self> {
        let (mut cpu_before, mut warmed) = (0.0, 0);
        let receipts = fixture.topics.receipts();
        let (who, process, begun) = match side {
            Side::Bare => {
                cpu_before = relay::cpu("self")?;
                let bare = Bare::start(fixture, topic, start.is_noted).await?;
                let begun = bare.begun;
                (Who::Bare(bare), None, begun)
            }
            Side::Relay | Side::EarlierRelay => {
                let flags = [&start.delivery.flags(&receipts), start.flags].concat();
                let program = match side {
                    Side::EarlierRelay => fixture.earlier()?,
                    _ => relay::doorbell(),
                };
                let relay = fixture.start_program(program, topic, &flags, start.environment);
                let mut relay = relay.await?;
                let begun = relay.led().await?;
                let id = relay.id;
                (Who::Relay(relay), Some(id), begun)
            }
            Side::Embedded => {
                let settings = fixture.relay_settings(topic, start.delivery, &receipts)?;
                let relay = Embedded::start(settings);
                (Who::Embedded(relay), None, Instant::now())
            }
            Side::DebeziumDefault | Side::DebeziumTuned | Side::DebeziumEager => {
                let mut debezium = Debezium::stream(side, fixture, topic).await?;
                let begun = Instant::now();
                warmed = start.warm_up;
                fixture.scratch.insert(side.rows(), 1..=warmed).await?;
                debezium.until(fixture, topic, warmed).await?;
                let id = debezium.id;
                (Who::Debezium(debezium), Some(id), begun)
            }
        };
        let process = process.map_or("self".to_owned(), |id| id.to_string());
        Ok(Self {
            who,
            process,
            begun,
            cpu_before,
            warmed,
        })
    }

    /// CPU seconds since its start. The bare loop's are those of the bench around it, which mostly
    /// sleeps.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(relay::cpu(&self.process)? - self.cpu_before)
    }

    /// CPU of so long a time, in percent of a core, for a side that has nothing to do.
    pub(crate) async fn idle(&self, time: Duration) -> anyhow::Result<f64> {
        let (begun, cpu) = (Instant::now(), self.cpu()?);
        // Idleness is what is measured.
        sleep(time).await;
        Ok((self.cpu()? - cpu) / begun.elapsed().as_secs_f64() * 100.0)
    }

    /// Peak resident memory so far, in MiB. What runs in this process has none of its own.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<Option<f64>> {
        let is_own = self.process != "self";
        is_own
            .then(|| relay::peak_memory(&self.process))
            .transpose()
    }

    /// Debezium: waits until so many records are in the topic.
    pub(crate) async fn until(
        &mut self,
        fixture: &Fixture,
        topic: &str,
        records: i64,
    ) -> anyhow::Result<()> {
        match &mut self.who {
            Who::Debezium(debezium) => debezium.until(fixture, topic, records).await,
            _ => Ok(()),
        }
    }

    /// What ends it ahead of its time, where that can be seen from here.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        match &mut self.who {
            Who::Embedded(relay) => relay.failure().await,
            _ => std::future::pending().await,
        }
    }

    /// Ends it; when rows passed which stations, as far as that was noted.
    pub(crate) async fn stop(self, fixture: &mut Fixture) -> anyhow::Result<Stations> {
        match self.who {
            Who::Bare(bare) => return bare.stop().await,
            Who::Embedded(relay) => return relay.stop().await,
            Who::Relay(relay) => relay.stop().await?,
            Who::Debezium(debezium) => debezium.stop(fixture).await?,
        }
        Ok(Stations::default())
    }
}
