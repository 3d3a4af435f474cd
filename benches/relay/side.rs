//! Who is measured, in which order, and how to start and end them alike.

use std::time::Instant;

use doorbell::app::bench::process::{self, Relay};
use serde::Serialize;

use crate::bare::Bare;
use crate::debezium::Debezium;
use crate::process::lead;
use crate::stage::Stage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// The limit: the same libraries with nothing around them.
    Bare,
    Relay,
    /// The peer with its defaults.
    DebeziumDefault,
    /// With batches and queues for throughput, and a short poll.
    DebeziumTuned,
    /// Tuned, and never waiting: the lowest latency, at the price of CPU while idle.
    DebeziumEager,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Relay => "relay",
            Self::DebeziumDefault => "Debezium, default",
            Self::DebeziumTuned => "Debezium, tuned",
            Self::DebeziumEager => "Debezium, lowest latency",
        }
    }

    pub(crate) fn is_debezium(self) -> bool {
        !matches!(self, Self::Bare | Self::Relay)
    }

    /// Inserts the rows numbered from $1 to $2 in one statement. The 200 bytes of payload are written as `jsonb` prints them, so that all sides
    /// send the same.
    pub(crate) fn insert(self) -> &'static str {
        if self.is_debezium() {
            "INSERT INTO peer.outbox (id, aggregatetype, aggregateid, type, payload) \
            SELECT gen_random_uuid(), 'order', 'key-' || n % 1000, 'OrderCreated', \
                (rpad('{\"n\": ' || n || ', \"note\": \"', 198, 'x') || '\"}')::jsonb \
            FROM generate_series($1, $2) n"
        } else {
            "INSERT INTO outbox (type, key, payload) \
            SELECT 'OrderCreated', 'key-' || n % 1000, rpad('{\"n\": ' || n || ', \"note\": \"', 198, 'x') || '\"}' \
            FROM generate_series($1, $2) n"
        }
    }
}

/// The order of one round: nobody always comes first, or always after the same one.
pub(crate) fn in_turn<T: Copy>(all: &[T], round: u32) -> Vec<T> {
    let mut order = all.to_vec();
    order.rotate_left((round / 2) as usize % all.len());
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// How a side is started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    /// Rows that Debezium carries first: a JVM is slow until it has seen its work.
    pub(crate) warm_up: i64,
    /// Whether the bare loop notes when each acknowledgement came.
    pub(crate) note_acknowledgements: bool,
}

/// A side at work.
pub(crate) struct Running {
    pub(crate) who: Who,
    /// When its work began, as far as that can be told.
    pub(crate) begun: Instant,
    /// CPU seconds that its process had used before.
    cpu_before: f64,
    /// The rows that it has carried to get warm: those from 1 to this one.
    pub(crate) warmed: i64,
}

pub(crate) enum Who {
    Bare(Bare),
    Relay(Relay),
    Debezium(Debezium),
}

impl Running {
    pub(crate) async fn start(
        side: Side,
        stage: &mut Stage,
        topic: &str,
        start: Start,
    ) -> anyhow::Result<Self> {
        let (mut who, cpu_before) = match side {
            Side::Bare => {
                let before = process::cpu("self")?;
                (
                    Who::Bare(Bare::start(stage, topic, start.note_acknowledgements).await?),
                    before,
                )
            }
            Side::Relay => (Who::Relay(lead(stage, topic).await?), 0.0),
            _ => (
                Who::Debezium(Debezium::stream(side, stage, topic).await?),
                0.0,
            ),
        };
        let begun = match &mut who {
            Who::Bare(bare) => bare.begun,
            Who::Relay(relay) => relay.led().await?,
            Who::Debezium(_) => Instant::now(),
        };
        let mut running = Self {
            who,
            begun,
            cpu_before,
            warmed: 0,
        };
        if let Who::Debezium(debezium) = &mut running.who {
            stage.insert(side, 1, start.warm_up).await?;
            debezium.until(stage, topic, start.warm_up).await?;
            running.warmed = start.warm_up;
        }
        Ok(running)
    }

    /// CPU seconds since its start. The bare loop's are those of the bench around it, which mostly sleeps.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(process::cpu(&self.process())? - self.cpu_before)
    }

    /// Peak resident memory so far, in MiB. The bare loop has none of its own.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<Option<f64>> {
        match self.who {
            Who::Bare(_) => Ok(None),
            _ => process::peak_memory(&self.process()).map(Some),
        }
    }

    fn process(&self) -> String {
        match &self.who {
            Who::Bare(_) => "self".to_owned(),
            Who::Relay(relay) => relay.id().to_string(),
            Who::Debezium(debezium) => debezium.id().to_string(),
        }
    }

    pub(crate) async fn stop(self, stage: &mut Stage) -> anyhow::Result<()> {
        match self.who {
            Who::Bare(bare) => bare.stop().await,
            Who::Relay(relay) => relay.stop().await,
            Who::Debezium(debezium) => debezium.stop(stage).await,
        }
    }
}
