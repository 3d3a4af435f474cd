//! Many outboxes in one process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use crate::config::Settings;
use crate::kafka::in_plain;
use crate::relay::election::Balance;
use crate::relay::error::RelayError;
use crate::relay::monitor::{Monitor, ProblemKind, Role};
use crate::relay::observer::Observer;
use crate::relay::outbox::OutboxRelay;
use crate::relay::term_state::Counters;

/// Interval of the looks for the incident log.
const LOOK: Duration = Duration::from_secs(1);

/// Relays the outboxes of a configuration.
///
/// ```no_run
/// # async fn embed(
/// #     settings: doorbell::Settings,
/// # ) -> Result<(), doorbell::RelayError> {
/// let stop = tokio_util::sync::CancellationToken::new();
/// doorbell::Relay::new(settings).run(stop).await
/// # }
/// ```
pub struct Relay {
    settings: Settings,
    start_timeout: Option<Duration>,
    poll: Option<Duration>,
    /// The observer of each outbox, if there are any.
    observers: Vec<Arc<dyn Observer>>,
    monitors: Vec<Arc<Monitor>>,
}

impl Relay {
    /// Makes a relay that has not connected yet.
    pub fn new(settings: Settings) -> Self {
        let monitors = settings.outboxes.iter().map(Monitor::new).map(Arc::new);
        Self {
            monitors: monitors.collect(),
            settings,
            start_timeout: None,
            poll: None,
            observers: Vec::new(),
        }
    }

    /// Sets how long the start may take to reach PostgreSQL and Kafka before it fails. Without a
    /// timeout, it waits.
    pub fn start_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Fetches at this interval, whatever notifications arrive, and never sleeps: for a table that
    /// cannot have the trigger.
    pub fn poll(mut self, interval: Option<Duration>) -> Self {
        self.poll = interval;
        self
    }

    /// Reports to this observer where the rows of all outboxes are. It replaces an earlier
    /// observer.
    pub fn observe(self, observer: Arc<dyn Observer>) -> Self {
        self.observe_each(|_| Arc::clone(&observer))
    }

    /// The same with an observer for each outbox, by the name of its table.
    pub fn observe_each(mut self, observer: impl Fn(&str) -> Arc<dyn Observer>) -> Self {
        let outboxes = self.settings.outboxes.iter();
        self.observers = outboxes
            .map(|outbox| observer(&outbox.table.to_string()))
            .collect();
        self
    }

    /// Returns the state of each outbox's relay, in the order of the configuration. It may be read
    /// at any time.
    pub fn monitors(&self) -> Vec<Arc<Monitor>> {
        self.monitors.clone()
    }

    /// Relays until `stop`: then no new row is fetched, and rows in flight are settled.
    ///
    /// # Errors
    /// At the start: what waiting does not cure. At the end: rows that were not settled within the
    /// stop timeout.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        self.relay(stop, false).await
    }

    /// Relays until the outboxes are drained: until each row that was visible at some moment after
    /// the start is sent and deleted, or Kafka cannot take it. It leads or fails.
    ///
    /// # Errors
    /// Those of [`Relay::run`], another relay that leads, a pause, and a stop before the end.
    pub async fn drain(self, stop: CancellationToken) -> Result<(), RelayError> {
        self.relay(stop, true).await
    }

    async fn relay(self, stop: CancellationToken, drains: bool) -> Result<(), RelayError> {
        let settings = Arc::new(self.settings);
        let open = [settings.database.url.in_plain(), in_plain(&settings.kafka)];
        let open: Vec<_> = open.into_iter().flatten().collect();
        if !open.is_empty() {
            let connections = open.join("; ");
            warn!(
                connections,
                "connections over a network are not encrypted; `doorbell check` has the remedies"
            );
        }
        let start_by = self.start_timeout.map(|timeout| Instant::now() + timeout);
        let balance = Arc::new(Balance::default());
        let mut relays = JoinSet::new();
        let judging = judge(self.monitors.clone(), settings.http.stuck_after);
        let mut observers = self.observers.into_iter();
        for (outbox, monitor) in settings.outboxes.iter().zip(self.monitors) {
            let span = info_span!("outbox", outbox = %outbox.table);
            let counters = Arc::new(Counters::new(monitor, observers.next()));
            let mut relay = OutboxRelay::new(
                Arc::clone(&settings),
                outbox.clone(),
                stop.clone(),
                start_by,
                self.poll,
                Arc::clone(&counters),
                Arc::clone(&balance),
            );
            relay.drains = drains;
            let relay = stand_still(relay, counters, settings.outboxes.len() > 1, stop.clone());
            relays.spawn(relay.instrument(span));
        }
        tokio::select! {
            result = end_of_all(relays, &stop) => result,
            never = judging => match never {},
        }
    }
}

/// Waits until each relay has ended.
async fn end_of_all(
    mut relays: JoinSet<Result<(), RelayError>>,
    stop: &CancellationToken,
) -> Result<(), RelayError> {
    let mut result = Ok(());
    while let Some(joined) = relays.join_next().await {
        let ended = joined.unwrap_or_else(|panic| Err(RelayError::Defect(panic.to_string())));
        if ended.is_ok() {
            continue;
        }
        if !is_poison(&ended) {
            // One that cannot work ends the process, which would look healthy otherwise.
            stop.cancel();
        }
        if result.is_ok() || is_poison(&result) {
            result = ended;
        }
    }
    result
}

/// Judges each outbox once a second, whether or not there is a port.
async fn judge(monitors: Vec<Arc<Monitor>>, stuck_after: Duration) -> Infallible {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for monitor in &monitors {
            monitor.judge(stuck_after);
        }
    }
}

fn is_poison(ended: &Result<(), RelayError>) -> bool {
    matches!(ended, Err(RelayError::Poison { .. }))
}

/// Runs the relay of one outbox. If it ends because its poison policy is `stop`, the others go on.
async fn stand_still(
    relay: OutboxRelay,
    counters: Arc<Counters>,
    has_others: bool,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let ended = relay.run().await;
    if let Err(error) = &ended
        && is_poison(&ended)
        && has_others
        && !stop.is_cancelled()
    {
        let words = error.to_string();
        error!(
            error = words,
            "this outbox has stopped, as its poison policy says, until the relay is started again; the other outboxes go on"
        );
        counters.became(Role::Starting, "stopped");
        counters.raise(ProblemKind::Start, &words);
    }
    ended
}
