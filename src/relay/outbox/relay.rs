//! What the relay of one outbox holds over its terms.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Outbox, Settings};
use crate::kafka::{Batching, Producer, Receipts, Reports, Topics};
use crate::postgres::Table;
use crate::relay::election::Balance;
use crate::relay::error::RelayError;
use crate::relay::monitor::{ProblemKind, Role};
use crate::relay::poison::Refusals;
use crate::relay::publish::Routes;
use crate::relay::sessions::Pings;
use crate::relay::term_state::Counters;

pub(crate) struct OutboxRelay {
    pub(super) settings: Arc<Settings>,
    pub(super) outbox: Outbox,
    pub(super) stop: CancellationToken,
    /// The start fails when it has not succeeded by then.
    pub(super) start_by: Option<Instant>,
    /// Fetch at this interval, whatever notifications arrive.
    pub(super) poll: Option<Duration>,
    /// Relay until the table is drained, and never as a standby.
    pub(crate) drains: bool,
    pub(super) is_drained: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) balance: Arc<Balance>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) routes: Arc<Routes>,
    pub(super) topics: Arc<tokio::sync::Mutex<Topics>>,
    /// Whether this start was recorded for crash-loop detection.
    pub(super) counted: bool,
    /// Whether it has led or stood by once. From then on every failure is retried.
    pub(super) started: bool,
    /// The last failure that was logged; each is logged once.
    pub(super) told: Option<String>,
    /// Rows that were in flight when the last producer failed, until the next one can send.
    pub(super) unsettled: usize,
    /// When another producer fenced ours.
    pub(super) fences: Vec<Instant>,
    /// No new producer before this moment, since the last one failed.
    pub(super) rest_until: Option<Instant>,
    /// Producers for the next term that are connected already, so that it begins sooner: one, and
    /// perhaps a spare.
    pub(super) unused: Vec<BuiltProducer>,
}

/// A producer with what belongs to it.
pub(super) struct BuiltProducer {
    pub(super) producer: Arc<Producer>,
    pub(super) reports: Arc<Reports>,
    pub(super) batching: Batching,
    /// In the exactly-once mode.
    pub(super) receipts: Option<Arc<Receipts>>,
}

impl OutboxRelay {
    pub(crate) fn new(
        settings: Arc<Settings>,
        outbox: Outbox,
        stop: CancellationToken,
        start_by: Option<Instant>,
        poll: Option<Duration>,
        counters: Arc<Counters>,
        balance: Arc<Balance>,
    ) -> Self {
        let topics = Topics::new(settings.kafka.clone());
        let refusals = Arc::new(Refusals::new(
            &outbox,
            &settings.kafka,
            Arc::clone(&counters),
        ));
        let routes = Arc::new(Routes::new(&outbox));
        Self {
            settings,
            outbox,
            stop,
            start_by,
            poll,
            drains: false,
            is_drained: false,
            counters,
            balance,
            refusals,
            routes,
            topics: Arc::new(tokio::sync::Mutex::new(topics)),
            counted: false,
            started: false,
            told: None,
            unsettled: 0,
            fences: Vec::new(),
            rest_until: None,
            unused: Vec::new(),
        }
    }

    /// Whether the start has taken longer than it may.
    pub(super) fn start_is_over(&self) -> bool {
        !self.started && self.start_by.is_some_and(|by| Instant::now() >= by)
    }

    /// Logs a failure, unless it is the same as the last one.
    pub(super) fn tell(&mut self, error: &RelayError) {
        let text = error.to_string();
        self.counters.raise(ProblemKind::Start, &text);
        // A start with a time limit ends with its failure as the only line.
        let is_told_at_the_end = !self.started && self.start_by.is_some();
        if self.told.as_ref() != Some(&text) && !is_told_at_the_end {
            warn!(
                error = text,
                "waiting: rows stay in the table, and the relay retries by itself"
            );
            self.told = Some(text);
        }
    }

    /// Logs what the relay is from now on.
    pub(super) fn begin(&mut self, role: Role, state: &str, table: &Table) {
        self.counters.became(role, state);
        let version = env!("CARGO_PKG_VERSION");
        info!(
            version,
            table = table.quoted,
            topic = self.outbox.shown_topic(),
            "{state}"
        );
        self.started = true;
        self.told = None;
    }

    /// How long a leader may reach no broker before it yields the lock. One that drains never does.
    pub(super) fn yields_after(&self) -> Duration {
        match self.drains {
            true => Duration::from_secs(u64::from(u32::MAX)),
            false => self.settings.leader_timeout,
        }
    }

    pub(super) fn pings(&self) -> Pings {
        Pings::within(self.settings.leader_timeout)
    }
}
