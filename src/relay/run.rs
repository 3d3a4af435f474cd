//! The life of one outbox's relay: connect, stand by, lead, and start over when something is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::backoff::Backoff;
use super::error::RelayError;
use super::opening::{Closed, Opened, Opening};
use super::pause::while_paused;
use super::shared::{Counters, Ending, Memory, Pings};
use super::spread::{Lead, Spread};
use super::standby::stand_by;
use super::term::{Outcome, Sessions, Term};
use super::vitals::{Ailment, Role};
use crate::config::{Delivery, Kafka, Outbox, Settings, Transactions, check_topic};
use crate::kafka::{
    Batching, ConfigError, DEFAULT_BATCH_SIZE, Producer, Receipts, Reports, Silence, Topics,
};
use crate::postgres::{Bell, Candidate, Error, Key, Reader, Server, Session, Table, Trigger};

/// How long a broker may take to answer before it counts as away.
const KAFKA_PATIENCE: Duration = Duration::from_secs(3);

/// A producer that fails at once would be built again and again.
const PRODUCER_PAUSE: Duration = Duration::from_millis(200);

/// So many times in so long is no takeover.
const FENCES: usize = 3;
const FENCES_WITHIN: Duration = Duration::from_secs(60);

/// One outbox and what its relay needs.
pub(crate) struct OutboxRelay {
    pub(super) settings: Arc<Settings>,
    pub(super) outbox: Outbox,
    pub(super) stop: CancellationToken,
    start_by: Option<Instant>,
    poll: Option<Duration>,
    /// Relay until the table is drained, and never as a standby.
    drains: bool,
    is_drained: bool,
    pub(super) counters: Arc<Counters>,
    spread: Arc<Spread>,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) topics: Arc<tokio::sync::Mutex<Topics>>,
    /// Its start was counted.
    pub(super) counted: bool,
    /// It has led or stood by once: from then on it waits, whatever happens.
    started: bool,
    /// The last trouble that was told: each is told once.
    told: Option<String>,
    /// When another producer has shut ours out.
    fences: Vec<Instant>,
}

/// A relay that may lead now.
struct Ready {
    table: Table,
    sessions: Sessions,
    lead: Lead,
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
        }
    }

    /// Has it drain the table instead of relaying until it is stopped.
    pub(crate) fn drains(mut self, drains: bool) -> Self {
        self.drains = drains;
        self
    }

    /// Relays until it is stopped, or has drained the table where it is to. Errors only at the start, for what waiting cannot cure, and for a stop that did not end in time.
    pub(crate) async fn run(mut self) -> Result<(), RelayError> {
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
            if !self.started
                && (error.is_permanent() || self.start_by.is_some_and(|by| Instant::now() >= by))
            {
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

    fn tell(&mut self, error: &RelayError) {
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
            let once = match self.once(&table, &mut sessions).await {
                Ok(once) => once,
                Err(Closed::Relay(error)) => return Err(error),
                Err(_) => {
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
            } = self.term(&table, once)?.run(sessions).await;
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
                Ending::Producer(reason) => self.renew(&reason).await,
                Ending::Fenced(reason) => {
                    if let Delivery::ExactlyOnce(transactions) = self.outbox.delivery.clone() {
                        self.fenced(&transactions, &table, &reason).await;
                    }
                }
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

    async fn renew(&self, reason: &str) {
        self.counters.producer_failures.add(1);
        warn!(
            error = reason,
            "the producer is of no more use: a new one sends what is left"
        );
        sleep(PRODUCER_PAUSE).await;
    }

    /// Whoever leads next shuts its predecessor out. To be shut out again and again while the lock is ours is something else.
    async fn fenced(&mut self, transactions: &Transactions, table: &Table, reason: &str) {
        let now = Instant::now();
        self.fences.retain(|at| now - *at < FENCES_WITHIN);
        self.fences.push(now);
        let times = self.fences.len();
        if times == FENCES {
            error!(
                transactional_id = transactional_id(transactions, table),
                times,
                "somebody else uses this transactional id, though this relay holds the leader's lock: each shuts the other out. Stop the other (a relay of a copy of this database?), or set `transactional_id`"
            );
        } else {
            warn!(error = reason, "another producer has shut this one out");
        }
        let wait = PRODUCER_PAUSE * 2_u32.pow(times.min(5) as u32);
        tokio::select! {
            () = sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Where each event is sent once: a producer whose transactions may begin. A new one is tried until that works, or until the stop.
    pub(super) async fn once(
        &mut self,
        table: &Table,
        sessions: &mut Sessions,
    ) -> Result<Option<Once>, Closed> {
        let Delivery::ExactlyOnce(transactions) = self.outbox.delivery.clone() else {
            return Ok(None);
        };
        loop {
            match self.open(&transactions, table, sessions).await {
                Ok(once) => return Ok(Some(once)),
                Err(Closed::Producer(reason)) => self.renew(&reason).await,
                Err(Closed::Fenced(reason)) => self.fenced(&transactions, table, &reason).await,
                Err(closed) => return Err(closed),
            }
            if self.stop.is_cancelled() {
                return Err(Closed::Stopped);
            }
        }
    }

    /// What comes before the first transaction of a producer.
    async fn open(
        &self,
        transactions: &Transactions,
        table: &Table,
        sessions: &mut Sessions,
    ) -> Result<Once, Closed> {
        let batch_size = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.batch_size
        };
        let id = transactional_id(transactions, table);
        let topic = transactions.receipts.topic(&table.name, "");
        let kafka = &self.settings.kafka;
        let reports = Arc::new(Reports::default());
        let bounds = (self.outbox.in_flight_rows, self.outbox.in_flight_bytes);
        let their_reports = Arc::clone(&reports);
        let producer =
            Producer::transactional(kafka, table.id, bounds, batch_size, their_reports, &id)?;
        producer.assume_connected();
        let producer = Arc::new(producer);
        let receipts = Arc::new(Receipts::of(kafka, &topic, table.id)?);
        let opening = Opening {
            table,
            producer: Arc::clone(&producer),
            reports: Arc::clone(&reports),
            receipts: Arc::clone(&receipts),
            transactional_id: id,
            stop: self.stop.clone(),
        };
        let opened = Box::pin(opening.open(sessions)).await;
        drop(opening);
        match opened {
            Ok(opened) => Ok(Once {
                opened,
                producer,
                reports,
                receipts,
            }),
            Err(closed) => {
                // Letting go of it blocks.
                tokio::task::spawn_blocking(move || drop(producer));
                Err(closed)
            }
        }
    }

    /// Says that it leads, and what is wrong with the trigger.
    fn begin_to_lead(&mut self, table: &Table) {
        self.begin(Role::Leading, "leading", table);
        self.tell_of_trigger(table);
    }

    /// Finds the table and becomes its leader.
    async fn get_ready(&mut self) -> Result<Ready, RelayError> {
        let server = Server::find(&self.settings.database.url).await?;
        self.counters.found_server(server.shown());
        let (mut reader, table, mut bell) = self.look_around(&server).await?;
        self.await_kafka(&table).await?;
        let mut candidate = Candidate::new(Session::open(&server, "leader").await?).await?;
        let spread = Arc::clone(&self.spread);
        let lead = match spread.try_lead(&mut candidate, &table).await? {
            Some(lead) => lead,
            None if self.drains => return Err(RelayError::Led(table.quoted)),
            None => {
                // A standby listens to nothing: notifications that nobody reads would pile up at the server.
                drop((reader, bell));
                self.begin(Role::Standby, "standby: another relay leads", &table);
                let (timeout, counters) = (self.settings.leader_timeout, &self.counters);
                let lead = stand_by(&mut candidate, &table, &spread, timeout, counters).await?;
                let again = self.look_around(&server).await?;
                if again.1.oid != table.oid {
                    return Err(RelayError::TableChanged);
                }
                (reader, bell) = (again.0, again.2);
                lead
            }
        };
        reader.settle_in().await?;
        let key = Key::new(Session::open(&server, "key").await?, &table).await?;
        let sessions = Sessions {
            bell,
            key,
            reader: Reader::new(reader, &table).await?,
            leader: candidate.lead(&table, &self.outbox.topic).await?,
        };
        if let Some(topic) = self.outbox.topic.fixed(&table.name) {
            // Asked now, the first row does not wait for it.
            self.topics.lock().await.limit(&topic).await;
        }
        Ok(Ready {
            table,
            sessions,
            lead,
        })
    }

    /// A trigger that does not wake the relay as it should costs time or writers, not rows.
    fn tell_of_trigger(&self, table: &Table) {
        let name = &self.outbox.table;
        let words = match table.trigger {
            Trigger::Enabled => return self.counters.recovered(Ailment::Trigger),
            Trigger::Earlier => format!(
                "the trigger doorbell_ring is of an earlier version and rings at every insert, which costs writers; run `doorbell migrate --table '{name}'`"
            ),
            Trigger::Disabled => format!(
                "the trigger doorbell_ring is disabled: rows wait for the sweep; ALTER TABLE {} ENABLE TRIGGER doorbell_ring",
                table.quoted
            ),
            Trigger::Missing => format!(
                "the trigger doorbell_ring is gone: rows wait for the sweep; run `doorbell migrate --table '{name}'`"
            ),
        };
        self.counters.suffers(Ailment::Trigger, &words);
        warn!("{words}");
    }

    /// Checks that the table is what was configured, and that its bell can be heard.
    async fn look_around(&self, server: &Server) -> Result<(Session, Table, Bell), RelayError> {
        let mut reader = Session::open(server, "reader").await?;
        let table = Table::find(&mut reader, &self.outbox.table, &self.outbox.columns).await?;
        if table.trigger == Trigger::Missing && !self.started {
            let name = &self.outbox.table;
            let problem =
                format!("table {name} has no trigger doorbell_ring, so nothing wakes the relay");
            let remedy = format!("run `doorbell migrate --table '{name}'`");
            return Err(Error::Refused { problem, remedy }.into());
        }
        if let Some(topic) = self.outbox.topic.fixed(&table.name) {
            check_topic(&topic).map_err(|fault| {
                RelayError::Route(format!(
                    "the route {} makes the topic name {topic:?}: {fault}; set --topic",
                    self.outbox.topic
                ))
            })?;
        }
        let bell = Bell::hang(Session::open(server, "bell").await?, &mut reader, &table).await?;
        Ok((reader, table, bell))
    }

    /// Waits until a broker answers once. After that the producer waits by itself.
    async fn await_kafka(&mut self, table: &Table) -> Result<(), RelayError> {
        let mut backoff = Backoff::default();
        // One producer for all tries: it reconnects by itself.
        let (mut producer, _) = self.producer(table, Batching::UpTo(DEFAULT_BATCH_SIZE))?;
        loop {
            // Where it is not given back, it is dropped there as well: that may block.
            let asked = tokio::task::spawn_blocking(move || {
                let connected = producer.is_connected(KAFKA_PATIENCE);
                (!connected).then(|| (producer.silence(), producer))
            });
            let silence = match asked.await {
                Ok(None) => {
                    self.counters.kafka.is_there();
                    return Ok(());
                }
                Ok(Some((silence, again))) => {
                    producer = again;
                    silence
                }
                Err(panic) => return Err(RelayError::Defect(panic.to_string())),
            };
            let error = match silence {
                Silence::Away(words) => RelayError::KafkaAway(words),
                Silence::Refused(words) => RelayError::KafkaRefused(words),
            };
            let is_over = self.start_by.is_some_and(|by| Instant::now() >= by);
            if !self.started && (error.is_permanent() || is_over) {
                return Err(error);
            }
            self.tell(&error);
            sleep(backoff.next()).await;
        }
    }

    /// Says once what it is now.
    fn begin(&mut self, role: Role, state: &str, table: &Table) {
        self.counters.became(role, state);
        let version = env!("CARGO_PKG_VERSION");
        info!(version, table = table.quoted, topic = %self.outbox.topic, "{state}");
        self.started = true;
        self.told = None;
    }

    fn pings(&self) -> Pings {
        Pings::within(self.settings.leader_timeout)
    }

    fn producer(
        &self,
        table: &Table,
        batching: Batching,
    ) -> Result<(Producer, Arc<Reports>), ConfigError> {
        let bounds = (self.outbox.in_flight_rows, self.outbox.in_flight_bytes);
        let reports = Arc::new(Reports::new(Arc::clone(&self.counters.kafka)));
        let producer = Producer::new(
            &self.settings.kafka,
            table.id,
            bounds,
            batching,
            Arc::clone(&reports),
        )?;
        Ok((producer, reports))
    }

    pub(super) fn term<'a>(
        &'a self,
        table: &'a Table,
        once: Option<Once>,
    ) -> Result<Term<'a>, ConfigError> {
        let (alone, producer, reports, once) = match once {
            // There a row is alone in its transaction.
            Some(it) => (
                false,
                it.producer,
                it.reports,
                Some((it.opened, it.receipts)),
            ),
            None => {
                let (alone, batch_size) = {
                    let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                    (!memory.suspects.is_empty(), memory.batch_size)
                };
                let batching = if alone {
                    Batching::Alone
                } else {
                    Batching::UpTo(batch_size)
                };
                let (producer, reports) = self.producer(table, batching)?;
                producer.assume_connected();
                (alone, Arc::new(producer), reports, None)
            }
        };
        Ok(Term {
            outbox: &self.outbox,
            table,
            producer,
            reports,
            alone,
            once,
            topics: Arc::clone(&self.topics),
            memory: Arc::clone(&self.memory),
            counters: Arc::clone(&self.counters),
            stop: self.stop.clone(),
            stop_timeout: self.settings.stop_timeout,
            poll: self.poll,
            drains: self.drains,
            only: None,
            pings: self.pings(),
        })
    }
}

/// A producer whose transactions may begin.
pub(super) struct Once {
    opened: Opened,
    producer: Arc<Producer>,
    reports: Arc<Reports>,
    receipts: Arc<Receipts>,
}

/// The user's own, or one that no other outbox has.
fn transactional_id(transactions: &Transactions, table: &Table) -> String {
    let id = transactions.id.clone();
    id.unwrap_or_else(|| format!("doorbell.{}", table.id.0))
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
