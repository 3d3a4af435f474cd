//! From nothing to a leader: connect, find the table, wait for Kafka and, where another relay leads, for its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::backoff::Backoff;
use super::error::RelayError;
use super::run::OutboxRelay;
use super::sender::let_go;
use super::spread::Lead;
use super::standby::stand_by;
use super::term::Sessions;
use super::vitals::{Ailment, Role};
use super::voice::Voice;
use crate::config::check_topic;
use crate::kafka::{ConfigError, Silence};
use crate::postgres::{Bell, Candidate, Error, Key, Reader, Server, Session, Table, Trigger};

/// How long a broker may take to answer before it counts as away.
const KAFKA_PATIENCE: Duration = Duration::from_secs(3);

/// A relay that may lead now.
pub(super) struct Ready {
    pub(super) table: Table,
    pub(super) sessions: Sessions,
    pub(super) lead: Lead,
}

impl OutboxRelay {
    /// Finds the table and becomes its leader.
    pub(super) async fn get_ready(&mut self) -> Result<Ready, RelayError> {
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
                let lead = self.stand_by(&mut candidate, &table).await?;
                let again = self.look_around(&server).await?;
                if again.1.oid != table.oid {
                    return Err(RelayError::TableChanged);
                }
                (reader, bell) = (again.0, again.2);
                lead
            }
        };
        let ((), key) = tokio::try_join!(reader.settle_in(), Session::open(&server, "key"))?;
        let mut sessions = Sessions {
            bell,
            key: Key::new(key, &table).await?,
            reader: Reader::new(reader, &table).await?,
            leader: candidate.lead(&table, &self.outbox.topic).await?,
        };
        // Asked now, the first row does not wait for it.
        let mut voice = Voice::new(self.pings());
        let asked = voice.during(&mut sessions.leader, self.ask_limit(&table));
        asked.await?;
        Ok(Ready {
            table,
            sessions,
            lead,
        })
    }

    /// Waits until the lock is ours. Meanwhile the clients for Kafka get to know it: to connect takes longer than all else that a new leader does.
    async fn stand_by(
        &mut self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<Lead, RelayError> {
        self.begin(Role::Standby, "standby: another relay leads", table);
        self.build_spare(table)?;
        let (timeout, counters) = (self.settings.leader_timeout, &self.counters);
        let lead = {
            let mut standing = pin!(stand_by(candidate, table, &self.spread, timeout, counters));
            tokio::select! {
                lead = &mut standing => lead?,
                () = self.meet_kafka(table) => standing.await?,
            }
        };
        // It may have been another one when it was asked about.
        self.topics.lock().await.forget();
        Ok(lead)
    }

    /// Builds a second producer for transactions: the first may have to wait for the end of the leader's.
    fn build_spare(&mut self, table: &Table) -> Result<(), ConfigError> {
        let receipts = self.fresh.first().and_then(|fresh| fresh.receipts.clone());
        if receipts.is_some() {
            let spare = self.build(table, self.batching(), receipts)?;
            self.fresh.push(spare);
        }
        Ok(())
    }

    /// Has each client ask what it will ask when this relay leads. What fails now will say so then.
    async fn meet_kafka(&self, table: &Table) {
        self.ask_limit(table).await;
        let receipts = self.fresh.first().and_then(|fresh| fresh.receipts.clone());
        let Some(receipts) = receipts else { return };
        let producers: Vec<_> = self
            .fresh
            .iter()
            .map(|it| Arc::clone(&it.producer))
            .collect();
        spawn_blocking(move || {
            Handle::current().block_on(receipts.meet()).ok();
            for producer in producers {
                producer.is_connected(KAFKA_PATIENCE);
            }
        })
        .await
        .ok();
    }

    async fn ask_limit(&self, table: &Table) {
        if let Some(topic) = self.outbox.topic.fixed(&table.name) {
            self.topics.lock().await.limit(&topic).await;
        }
    }

    /// Says that it leads, and what is wrong with the trigger.
    pub(super) fn begin_to_lead(&mut self, table: &Table) {
        self.begin(Role::Leading, "leading", table);
        self.tell_of_trigger(table);
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
        let (mut reader, bell) = tokio::try_join!(
            Session::open(server, "reader"),
            Session::open(server, "bell")
        )?;
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
        let bell = Bell::hang(bell, &mut reader, &table).await?;
        Ok((reader, table, bell))
    }

    /// Waits until a broker answers once. After that the producer waits by itself: it is the one that the first term begins with.
    async fn await_kafka(&mut self, table: &Table) -> Result<(), RelayError> {
        let mut backoff = Backoff::default();
        // One producer for all tries: it reconnects by itself.
        let mut fresh = self.build(table, self.batching(), None)?;
        loop {
            let asked = spawn_blocking(move || {
                let connected = fresh.producer.is_connected(KAFKA_PATIENCE);
                let silence = (!connected).then(|| fresh.producer.silence());
                (fresh, silence)
            });
            let silence = match asked.await {
                Ok((fresh, None)) => {
                    self.counters.kafka.is_there();
                    let_go(std::mem::replace(&mut self.fresh, vec![fresh]));
                    return Ok(());
                }
                Ok((again, Some(silence))) => {
                    fresh = again;
                    silence
                }
                Err(panic) => return Err(RelayError::Defect(panic.to_string())),
            };
            let error = match silence {
                Silence::Away(words) => RelayError::KafkaAway(words),
                Silence::Refused(words) => RelayError::KafkaRefused(words),
            };
            if !self.started && (error.is_permanent() || self.start_is_over()) {
                return Err(error);
            }
            self.tell(&error);
            sleep(backoff.next()).await;
        }
    }
}
