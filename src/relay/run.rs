//! The life of one outbox's relay: connect, stand by, lead, and start over when something is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::error::RelayError;
use super::opening::Closed;
use super::pause::while_paused;
use super::ready::Ready;
use super::sender::{Fresh, Sender, let_go};
use super::shared::{Counters, Ending, Memory, Pings};
use super::spread::Spread;
use super::term::{Outcome, Term};
use super::vitals::{Ailment, Role};
use crate::config::{Delivery, Kafka, Outbox, Settings};
use crate::kafka::{DEFAULT_BATCH_SIZE, Topics};
use crate::postgres::{Error, Table};

/// One outbox and what its relay needs.
pub(crate) struct OutboxRelay {
    pub(super) settings: Arc<Settings>,
    pub(super) outbox: Outbox,
    pub(super) stop: CancellationToken,
    pub(super) start_by: Option<Instant>,
    poll: Option<Duration>,
    /// Relay until the table is drained, and never as a standby.
    pub(super) drains: bool,
    is_drained: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) spread: Arc<Spread>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) topics: Arc<tokio::sync::Mutex<Topics>>,
    /// Its start was counted.
    pub(super) counted: bool,
    /// It has led or stood by once: from then on it waits, whatever happens.
    pub(super) started: bool,
    /// The last trouble that was told: each is told once.
    told: Option<String>,
    /// When another producer has shut ours out.
    pub(super) fences: Vec<Instant>,
    /// No new producer before this moment, since the last one failed.
    pub(super) rest_until: Option<Instant>,
    /// The producer that the next term begins with, and perhaps another, where they are there already.
    pub(super) fresh: Vec<Fresh>,
}

impl OutboxRelay {
    pub(crate) fn new(
        settings: Arc<Settings>,
        outbox: Outbox,
        stop: CancellationToken,
        start_by: Option<Instant>,
        poll: Option<Duration>,
        counters: Arc<Counters>,
        spread: Arc<Spread>,
    ) -> Self {
        let batch_size = configured_batch_size(&settings.kafka);
        let topics = Topics::new(settings.kafka.clone());
        Self {
            settings,
            outbox,
            stop,
            start_by,
            poll,
            drains: false,
            is_drained: false,
            counters,
            spread,
            memory: Arc::new(Mutex::new(Memory {
                batch_size,
                ..Memory::default()
            })),
            topics: Arc::new(tokio::sync::Mutex::new(topics)),
            counted: false,
            started: false,
            told: None,
            fences: Vec::new(),
            rest_until: None,
            fresh: Vec::new(),
        }
    }

    /// Has it drain the table instead of relaying until it is stopped.
    pub(crate) fn drains(mut self, drains: bool) -> Self {
        self.drains = drains;
        self
    }

    /// Relays until it is stopped, or has drained the table where it is to. Errors only at the start, for what waiting cannot cure, and for a stop that did not end in time.
    pub(crate) async fn run(mut self) -> Result<(), RelayError> {
        let ended = self.relay().await;
        // What blocks here would keep the sessions from closing, and the lock from the next leader.
        let Self { fresh, topics, .. } = self;
        let_go((fresh, topics));
        ended
    }

    async fn relay(&mut self) -> Result<(), RelayError> {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            let error = match self.live().await {
                Ok(()) => break,
                Err(
                    error @ (RelayError::Unsettled(_)
                    | RelayError::Poison { .. }
                    | RelayError::Led(_)
                    | RelayError::Paused(_)),
                ) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            if !self.started && (error.is_permanent() || self.start_is_over()) {
                return Err(error);
            }
            if begun.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            if self.started {
                self.counters.reconnects.add(1);
            }
            self.counters.became(Role::Starting, "starting over");
            self.tell(&error);
            let wait = backoff.next();
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
        if self.drains && !self.is_drained {
            return Err(RelayError::NotDrained(self.outbox.table.to_string()));
        }
        Ok(())
    }

    /// Whether it has not begun in the time that it was given.
    pub(super) fn start_is_over(&self) -> bool {
        !self.started && self.start_by.is_some_and(|by| Instant::now() >= by)
    }

    pub(super) fn tell(&mut self, error: &RelayError) {
        let text = error.to_string();
        self.counters.suffers(Ailment::Start, &text);
        // With a limit on the start, what ends it is the one line to read.
        let is_told_at_the_end = !self.started && self.start_by.is_some();
        if self.told.as_ref() != Some(&text) && !is_told_at_the_end {
            warn!(
                error = text,
                "waiting: rows stay in the table, and the relay goes on by itself"
            );
            self.told = Some(text);
        }
    }

    /// From connecting to the loss of something; `Ok` when it was stopped.
    async fn live(&mut self) -> Result<(), RelayError> {
        let stop = self.stop.clone();
        let ready = tokio::select! {
            ready = self.get_ready() => ready?,
            () = stop.cancelled() => return Ok(()),
        };
        let Ready {
            table,
            mut sessions,
            lead: _lead,
        } = ready;
        let mut leads = false;
        loop {
            // Where each event is sent once, it leads when nobody else can.
            if !leads && self.outbox.delivery == Delivery::AtLeastOnce {
                self.begin_to_lead(&table);
                leads = true;
            }
            if self.drains && sessions.bell.entry(&table).await?.pause.is_some() {
                return Err(RelayError::Paused(table.quoted));
            }
            let (sweep, pings) = (self.outbox.sweep, self.pings());
            let (stop, counters) = (&self.stop, &self.counters);
            if while_paused(&mut sessions, &table, sweep, pings, stop, counters).await? {
                self.stopped();
                return Ok(());
            }
            sessions = match Box::pin(self.begin_with_care(&table, sessions)).await? {
                Some(sessions) => sessions,
                None => {
                    self.stopped();
                    return Ok(());
                }
            };
            let sender = match self.sender(&table, &mut sessions).await {
                Ok(sender) => sender,
                Err(Closed::Relay(error)) => return Err(error),
                Err(_) => {
                    sessions.leader.forget().await.ok();
                    self.stopped();
                    return Ok(());
                }
            };
            if !leads {
                self.begin_to_lead(&table);
                leads = true;
            }
            let Outcome {
                ending,
                sessions: mut left,
                unsettled,
            } = self.term(&table, sender).run(sessions).await;
            self.counters.retried.add(unsettled as u64);
            if let (Ending::Stopped | Ending::Drained | Ending::Poison { .. }, Some(left)) =
                (&ending, &mut left)
            {
                // What cannot be written down now is counted as one start too many.
                left.leader.forget().await.ok();
            }
            match ending {
                Ending::Stopped | Ending::Drained if unsettled > 0 => {
                    return Err(RelayError::Unsettled(unsettled));
                }
                Ending::Stopped => {
                    self.stopped();
                    return Ok(());
                }
                // Rows that a report sent back, or for which their key is free by now, are read with the next term.
                Ending::Drained if self.has_more() => {}
                Ending::Drained => {
                    self.is_drained = true;
                    self.stopped();
                    return Ok(());
                }
                // The next turn says so and waits.
                Ending::Paused => {}
                Ending::Poison { id, reason, policy } => {
                    return Err(RelayError::Poison { id, reason, policy });
                }
                Ending::Rebatch | Ending::Checked => self.topics.lock().await.forget(),
                Ending::Producer(reason) => self.renew(&reason),
                Ending::Fenced(reason) => self.fenced(&table, &reason),
                Ending::TableChanged => return Err(RelayError::TableChanged),
                Ending::Session(error) | Ending::Postgres(error) => return Err(error.into()),
            }
            sessions = left.ok_or_else(|| Error::Lost("one of the relay's own".into()))?;
        }
    }

    /// Whether there is more to send for what the last term learned.
    fn has_more(&self) -> bool {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        !memory.suspects.is_empty() || memory.held.has_over()
    }

    /// Says what was done.
    fn stopped(&self) {
        let counters = &self.counters;
        info!(
            published = counters.published.get(),
            deleted = counters.deleted.get(),
            refused = counters.refused.get(),
            parked = counters.parked.get(),
            swept = counters.swept.get(),
            "stopped"
        );
    }

    /// Says once what it is now.
    pub(super) fn begin(&mut self, role: Role, state: &str, table: &Table) {
        self.counters.became(role, state);
        let version = env!("CARGO_PKG_VERSION");
        info!(version, table = table.quoted, topic = %self.outbox.topic, "{state}");
        self.started = true;
        self.told = None;
    }

    pub(super) fn pings(&self) -> Pings {
        Pings::within(self.settings.leader_timeout)
    }

    pub(super) fn term<'a>(&'a self, table: &'a Table, sender: Sender) -> Term<'a> {
        Term {
            outbox: &self.outbox,
            table,
            sender,
            topics: Arc::clone(&self.topics),
            memory: Arc::clone(&self.memory),
            counters: Arc::clone(&self.counters),
            stop: self.stop.clone(),
            stop_timeout: self.settings.stop_timeout,
            poll: self.poll,
            drains: self.drains,
            only: None,
            pings: self.pings(),
        }
    }
}

/// The user's own bound, or librdkafka's default.
fn configured_batch_size(kafka: &Kafka) -> usize {
    use secrecy::ExposeSecret;
    let own = kafka
        .properties
        .get("batch.size")
        .and_then(|size| size.expose_secret().parse().ok());
    own.unwrap_or(DEFAULT_BATCH_SIZE)
}
