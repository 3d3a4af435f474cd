//! The start of a leader: finds the table, and waits for Kafka and for the lock.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::producers::let_go;
use super::relay::OutboxRelay;
use crate::config::check_topic;
use crate::kafka::{ClientConfigError, ConnectError, Receipts};
use crate::postgres::{
    Candidate, Error, Listener, Reader, Server, Session, Table, TellsBlocker, Trigger, WakeLock,
    is_empty, leave_connections,
};
use crate::relay::backoff::Backoff;
use crate::relay::election::{Awaited, Heartbeat, LeadershipSlot, stand_by};
use crate::relay::error::RelayError;
use crate::relay::monitor::{ProblemKind, Role};
use crate::relay::poison::largest_row;
use crate::relay::sessions::Sessions;

/// How long a broker may take to answer before it counts as unreachable.
const KAFKA_PATIENCE: Duration = Duration::from_secs(3);

/// The interval at which a standby asks a broker.
const KAFKA_LOOK: Duration = Duration::from_secs(30);

/// What a relay that may lead now has.
pub(super) struct Ready {
    pub(super) table: Table,
    pub(super) sessions: Sessions,
    /// Counts this outbox among those that the process leads.
    pub(super) slot: LeadershipSlot,
}

impl OutboxRelay {
    /// Returns nothing if it was to drain a table that is empty.
    pub(super) async fn get_ready(&mut self) -> Result<Option<Ready>, RelayError> {
        let server = Server::find(&self.settings.database.url).await?;
        self.counters.found_server(server.shown());
        let balance = Arc::clone(&self.balance);
        let (found, mut awaited) = self.first_sessions(&server).await?;
        let (mut reader, table, mut listener) = match self.await_kafka(&found.1, true).await? {
            true => found,
            false => {
                // Other clients may need the connections meanwhile.
                let (mut reader, table, listener) = found;
                // An empty table is drained without Kafka.
                if self.drains && is_empty(&mut reader, &table).await? {
                    self.is_drained = true;
                    return Ok(None);
                }
                drop((reader, listener, awaited));
                self.await_kafka(&table, false).await?;
                let again = self.first_sessions(&server).await?;
                awaited = again.1;
                again.0
            }
        };
        let mut candidate = Candidate::new(Session::open(&server, "leader").await?).await?;
        let slot = match balance.try_lead(&mut candidate, &table).await? {
            Some(slot) => slot,
            None if self.drains => return Err(RelayError::Led(table.quoted)),
            None => {
                // A standby does not listen: unread notifications would pile up in the server.
                drop((reader, listener, awaited.take()));
                let slot = self.stand_by(&mut candidate, &table).await?;
                let sessions = self.open_two(&server).await?;
                let again = self.find_table(sessions).await?;
                if again.1.oid != table.oid {
                    return Err(RelayError::TableChanged);
                }
                (reader, listener) = (again.0, again.2);
                slot
            }
        };
        let ((), wake_lock) = tokio::try_join!(reader.configure(), Session::open(&server, "key"))?;
        drop(awaited);
        reader.wait_for_locks(self.tells_blocker()).await?;
        let mut sessions = Sessions {
            listener,
            wake_lock: WakeLock::new(wake_lock, &table).await?,
            reader: Reader::new(reader, &table)
                .await?
                .reading_up_to(&table, largest_row(&self.outbox, &self.settings.kafka)),
            leader: candidate.lead(&table).await?,
        };
        // Asked for now, so that the first row does not wait for it.
        let mut heartbeat = Heartbeat::new(self.pings());
        let asked = heartbeat.during(&mut sessions.leader, self.ask_limits());
        asked.await?;
        Ok(Some(Ready {
            table,
            sessions,
            slot,
        }))
    }

    /// Raises a problem while another session holds the table locked.
    fn tells_blocker(&self) -> TellsBlocker {
        let counters = Arc::clone(&self.counters);
        Arc::new(move |holder| {
            match holder {
            Some(holder) => counters.raise(
                ProblemKind::Locked,
                &format!(
                    "the table is locked by {holder}; wait for its end, or end it with pg_terminate_backend"
                ),
            ),
            None => counters.resolve(ProblemKind::Locked),
        }
        })
    }

    /// Waits for the lock. Meanwhile the clients connect to Kafka, the longest part of a takeover.
    async fn stand_by(
        &mut self,
        candidate: &mut Candidate,
        table: &Table,
    ) -> Result<LeadershipSlot, RelayError> {
        self.begin(Role::Standby, "standby: another relay leads", table);
        self.build_spare(table)?;
        let (timeout, counters) = (self.settings.leader_timeout, &self.counters);
        let slot = {
            let mut standing = pin!(stand_by(candidate, table, &self.balance, timeout, counters));
            tokio::select! {
                slot = &mut standing => slot?,
                never = self.watch_kafka() => match never {},
            }
        };
        // The limit may have changed since.
        self.topics.lock().await.forget();
        Ok(slot)
    }

    /// Builds a spare for transactions: the first may wait for the end of the leader's transaction.
    fn build_spare(&mut self, table: &Table) -> Result<(), ClientConfigError> {
        let receipts = self.receipts();
        if receipts.is_some() {
            let spare = self.build(table, self.batching(), receipts)?;
            self.unused.push(spare);
        }
        Ok(())
    }

    fn receipts(&self) -> Option<Arc<Receipts>> {
        self.unused.first()?.receipts.clone()
    }

    /// Connects the clients, and asks a broker now and then: of an idle connection librdkafka does
    /// not notice that nothing answers any more.
    async fn watch_kafka(&self) -> Infallible {
        self.meet_kafka().await;
        let health = &self.counters.kafka;
        loop {
            sleep(KAFKA_LOOK.min(self.settings.leader_timeout / 2)).await;
            match self.topics.lock().await.ask_any().await {
                Ok(()) => health.reachable(),
                Err(error) => health.unreachable(&error),
            }
        }
    }

    /// Has each client send the requests of a leader. A failure is reported when this relay leads.
    async fn meet_kafka(&self) {
        self.ask_limits().await;
        let Some(receipts) = self.receipts() else {
            return;
        };
        let unused = self.unused.iter();
        let producers: Vec<_> = unused.map(|it| Arc::clone(&it.producer)).collect();
        spawn_blocking(move || {
            Handle::current().block_on(receipts.meet()).ok();
            for producer in producers {
                producer.is_connected(KAFKA_PATIENCE);
            }
        })
        .await
        .ok();
    }

    async fn ask_limits(&self) {
        for topic in self.outbox.fixed_topics().0 {
            self.topics.lock().await.facts(&topic).await;
        }
    }

    /// Logs that the relay leads, and what is wrong with the trigger, unless it leads already.
    pub(super) fn begin_to_lead(&mut self, table: &Table, leads: &mut bool) {
        if !std::mem::replace(leads, true) {
            self.begin(Role::Leading, "leading", table);
            self.tell_of_trigger(table);
        }
    }

    /// Warns of a trigger that does not wake the relay as it should. It costs time or writers, not
    /// rows.
    fn tell_of_trigger(&self, table: &Table) {
        let name = &self.outbox.table;
        let words = match table.trigger {
            Trigger::Enabled => return self.counters.resolve(ProblemKind::Trigger),
            Trigger::Earlier => format!(
                "the trigger doorbell_ring is of an earlier version and notifies at every insert, which costs writers; run `doorbell migrate --table '{name}'`"
            ),
            Trigger::Disabled => format!(
                "the trigger doorbell_ring is disabled: rows wait for the sweep; run `ALTER TABLE {} ENABLE TRIGGER doorbell_ring`",
                table.quoted
            ),
            Trigger::Missing => format!(
                "the trigger doorbell_ring is missing: rows wait for the sweep; run `doorbell migrate --table '{name}'`"
            ),
        };
        self.counters.raise(ProblemKind::Trigger, &words);
        warn!("{words}");
    }

    /// Opens the first two of a leader's sessions and counts the others, if that leaves enough
    /// connections to other clients.
    async fn first_sessions(
        &self,
        server: &Server,
    ) -> Result<((Session, Table, Listener), Option<Awaited>), RelayError> {
        let opening = self.balance.opening.lock().await;
        let mut look = Session::open(server, "reader").await?;
        leave_connections(&mut look, self.balance.awaited() + 3).await?;
        let sessions = (look, Session::open(server, "bell").await?);
        let awaited = self.balance.awaits(2);
        drop(opening);
        Ok((self.find_table(sessions).await?, Some(awaited)))
    }

    async fn open_two(&self, server: &Server) -> Result<(Session, Session), Error> {
        tokio::try_join!(
            Session::open(server, "reader"),
            Session::open(server, "bell")
        )
    }

    /// Checks that the table is what was configured, and that its bell can be heard.
    async fn find_table(
        &self,
        (mut reader, listener): (Session, Session),
    ) -> Result<(Session, Table, Listener), RelayError> {
        let table = Table::find(&mut reader, &self.outbox).await?;
        if table.trigger == Trigger::Missing && !self.started {
            let name = &self.outbox.table;
            let problem =
                format!("table {name} has no trigger doorbell_ring, so nothing wakes the relay");
            let remedy = format!("run `doorbell migrate --table '{name}'`");
            return Err(Error::Refused { problem, remedy }.into());
        }
        for template in self.outbox.templates() {
            if let Some(topic) = template.fixed(&table.name) {
                check_topic(&topic).map_err(|fault| {
                    RelayError::Route(format!(
                        "the route {template} makes the topic name {topic:?}: {fault}; set --topic"
                    ))
                })?;
            }
        }
        let listener = Listener::start(listener, &mut reader, &table).await?;
        Ok((reader, table, listener))
    }

    /// Waits until a broker answers the producer of the first term once, or tries it once. Returns
    /// whether one did.
    async fn await_kafka(&mut self, table: &Table, once: bool) -> Result<bool, RelayError> {
        let mut backoff = Backoff::default();
        // One producer for all tries: it reconnects by itself.
        let mut unused = self.build(table, self.batching(), None)?;
        loop {
            let asked = spawn_blocking(move || {
                let connected = unused.producer.is_connected(KAFKA_PATIENCE);
                let silence = (!connected).then(|| unused.producer.silence());
                (unused, silence)
            });
            let asked = asked.await;
            let silence;
            (unused, silence) = asked.map_err(|panic| RelayError::Defect(panic.to_string()))?;
            let error = match silence {
                None => {
                    self.counters.kafka.reachable();
                    let_go(std::mem::replace(&mut self.unused, vec![unused]));
                    return Ok(true);
                }
                Some(ConnectError::Unreachable(words)) => RelayError::KafkaAway(words),
                Some(ConnectError::Refused(words)) => RelayError::KafkaRefused(words),
            };
            if !self.started && (error.is_permanent() || self.start_is_over()) {
                return Err(error);
            }
            self.tell(&error);
            if once {
                let_go(unused);
                return Ok(false);
            }
            sleep(backoff.next()).await;
        }
    }
}
