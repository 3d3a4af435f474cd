//! Many outboxes in one process.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global::BoxedTracer;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::error::RelayError;
use super::observer::Observer;
use super::run::OutboxRelay;
use super::shared::Counters;
use super::spread::Spread;
use super::traces::Traces;
use super::vitals::Vitals;
use crate::config::Settings;

/// Relays the outboxes of a configuration.
///
/// ```no_run
/// # async fn embed(settings: doorbell::config::Settings) -> Result<(), doorbell::relay::RelayError> {
/// let stop = tokio_util::sync::CancellationToken::new();
/// doorbell::relay::Relay::new(settings).run(stop).await
/// # }
/// ```
pub struct Relay {
    settings: Settings,
    start_timeout: Option<Duration>,
    poll: Option<Duration>,
    observer: Option<Arc<dyn Observer>>,
    tracer: Option<Arc<BoxedTracer>>,
    vitals: Vec<Arc<Vitals>>,
}

impl Relay {
    /// Nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        let vitals = settings.outboxes.iter().map(Vitals::new).map(Arc::new);
        Self {
            vitals: vitals.collect(),
            settings,
            start_timeout: None,
            poll: None,
            observer: None,
            tracer: None,
        }
    }

    /// Gives up when PostgreSQL or Kafka cannot be reached for so long at the start. Without it, it waits.
    pub fn start_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Fetches at this distance whatever rings, and never sleeps: for a table that cannot have the trigger.
    pub fn poll(mut self, distance: Option<Duration>) -> Self {
        self.poll = distance;
        self
    }

    /// Has somebody told where the rows are.
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Has each batch become a trace. Without a tracer there is none, and no cost.
    pub fn trace(mut self, tracer: Option<BoxedTracer>) -> Self {
        self.tracer = tracer.map(Arc::new);
        self
    }

    /// What each outbox's relay knows of itself, in the order of the configuration; to be asked at any time.
    pub fn vitals(&self) -> Vec<Arc<Vitals>> {
        self.vitals.clone()
    }

    /// Relays until `stop`: then no new row is fetched, and those in flight are settled.
    ///
    /// # Errors
    /// At the start: what no waiting cures. At the end: rows whose fate was unknown when the time for stopping was over.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        self.relay(stop, false).await
    }

    /// Relays until the outboxes are drained: until each row that was visible at some moment after the start is sent and deleted, or Kafka cannot take
    /// it. It leads or fails.
    ///
    /// # Errors
    /// What [`Relay::run`] fails for, another relay that leads, a pause, and a stop before the end.
    pub async fn drain(self, stop: CancellationToken) -> Result<(), RelayError> {
        self.relay(stop, true).await
    }

    async fn relay(self, stop: CancellationToken, drains: bool) -> Result<(), RelayError> {
        let settings = Arc::new(self.settings);
        let start_by = self.start_timeout.map(|timeout| Instant::now() + timeout);
        let spread = Arc::new(Spread::default());
        let mut relays = JoinSet::new();
        for (outbox, vitals) in settings.outboxes.iter().zip(self.vitals) {
            let span = info_span!("outbox", outbox = %outbox.table);
            let tracer = self.tracer.clone();
            let traces = tracer.map(|tracer| Traces::new(tracer, outbox.table.to_string()));
            let counters = Arc::new(Counters::new(vitals, self.observer.clone(), traces));
            let relay = OutboxRelay::new(
                Arc::clone(&settings),
                outbox.clone(),
                stop.clone(),
                start_by,
                self.poll,
                counters,
                Arc::clone(&spread),
            );
            relays.spawn(relay.drains(drains).run().instrument(span));
        }
        let mut result = Ok(());
        while let Some(joined) = relays.join_next().await {
            let ended = joined.unwrap_or_else(|panic| Err(RelayError::Defect(panic.to_string())));
            if ended.is_err() && result.is_ok() {
                result = ended;
                // One that cannot work ends the process: half a fleet that looks alive helps nobody.
                stop.cancel();
            }
        }
        result
    }
}
