//! The producer that a term begins with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use super::relay::{BuiltProducer, OutboxRelay};
use crate::config::Delivery;
use crate::kafka::{Batching, ClientConfigError, Producer, Receipts, RecordHeaders, Reports};
use crate::postgres::{Error, Leader, Table};
use crate::relay::election::Heartbeat;
use crate::relay::error::RelayError;
use crate::relay::exactly_once::{Recovered, Recovery, RecoveryError};
use crate::relay::sessions::Sessions;
use crate::relay::term_state::TermEnd;

/// The wait after a producer failed: one that fails at once would be built again and again.
const PAUSE: Duration = Duration::from_millis(200);

/// A producer that is fenced this often within the time below is not fenced by a takeover.
const FENCES: usize = 3;
const FENCES_WITHIN: Duration = Duration::from_secs(60);

/// A producer that may send.
pub(super) struct TermProducer {
    pub(super) built: BuiltProducer,
    /// In the exactly-once mode: what came before the first transaction.
    pub(super) recovered: Option<Recovered>,
}

impl OutboxRelay {
    /// Returns a producer that may send, or nothing after a stop. In the exactly-once mode, a new
    /// one is tried until that works.
    pub(super) async fn producer(
        &mut self,
        table: &Table,
        sessions: &mut Sessions,
    ) -> Result<Option<TermProducer>, RelayError> {
        let mut heartbeat = Heartbeat::new(self.pings());
        loop {
            if !self.rest(&mut heartbeat, &mut sessions.leader).await? {
                return Ok(None);
            }
            let unused = self.take_unused(table)?;
            match self.open(unused, table, sessions, &mut heartbeat).await {
                Err(RecoveryError::Producer(reason)) if self.start_is_over() => {
                    let brokers = &self.settings.kafka.brokers;
                    let words = format!("{brokers} lets no transaction begin ({reason})");
                    return Err(RelayError::KafkaAway(words));
                }
                Err(RecoveryError::Producer(reason)) => {
                    self.yield_without_kafka(table, sessions).await?;
                    self.renew(&reason);
                }
                Err(RecoveryError::Fenced(reason)) => self.fenced(table, &reason),
                Err(RecoveryError::Slow) => {
                    debug!("this producer cannot begin at once: the next one tries")
                }
                Err(RecoveryError::Relay(error)) => return Err(error),
                Err(RecoveryError::Stopped) => return Ok(None),
                Ok(producer) => {
                    let_go(std::mem::take(&mut self.unused));
                    return Ok(Some(producer));
                }
            }
        }
    }

    /// Fails if no broker was reachable for long and a standby that reaches one waits for the lock.
    async fn yield_without_kafka(
        &self,
        table: &Table,
        sessions: &mut Sessions,
    ) -> Result<(), RelayError> {
        let (after, away) = (self.yields_after(), self.counters.kafka.unreachable_since());
        if let Some((_, reason)) = away.filter(|(since, _)| since.elapsed() >= after)
            && let Some(standby) = sessions.listener.waiting_relay(table).await?
        {
            yielded(&reason, after, &standby).into_next(0)?;
        }
        Ok(())
    }

    /// Waits after a failed producer. Returns `false` after a stop.
    async fn rest(&self, heartbeat: &mut Heartbeat, leader: &mut Leader) -> Result<bool, Error> {
        let Some(until) = self.rest_until else {
            return Ok(true);
        };
        tokio::select! {
            waited = heartbeat.during(leader, sleep_until(until)) => waited.map(|()| true),
            () = self.stop.cancelled() => Ok(false),
        }
    }

    /// Takes a connected producer that makes the batches that are needed now, or builds one.
    fn take_unused(&mut self, table: &Table) -> Result<BuiltProducer, ClientConfigError> {
        let batching = self.batching();
        while let Some(unused) = self.unused.pop() {
            if unused.batching == batching {
                return Ok(unused);
            }
            let_go(unused);
        }
        self.build(table, batching, None)
    }

    /// Builds a producer, and contacts nothing. It may share the `receipts` of another.
    pub(super) fn build(
        &self,
        table: &Table,
        batching: Batching,
        receipts: Option<Arc<Receipts>>,
    ) -> Result<BuiltProducer, ClientConfigError> {
        let kafka = &self.settings.kafka;
        let bounds = (self.outbox.in_flight_rows, self.outbox.in_flight_bytes);
        let reports = Arc::new(Reports::new(Arc::clone(&self.counters.kafka)));
        let theirs = Arc::clone(&reports);
        let headers = RecordHeaders::new(table.id, &self.outbox);
        let (producer, receipts) = match &self.outbox.delivery {
            Delivery::AtLeastOnce => {
                let producer = Producer::new(kafka, headers, bounds, batching, theirs)?;
                (producer, None)
            }
            Delivery::ExactlyOnce(transactions) => {
                let id = transactions.id_of(table.id.0);
                let producer =
                    Producer::transactional(kafka, headers, bounds, batching, theirs, &id)?;
                let topic = transactions.receipts.topic(&table.name, "");
                let receipts = match receipts {
                    Some(receipts) => receipts,
                    None => Arc::new(Receipts::of(kafka, &topic, table.id, &id)?),
                };
                (producer, Some(receipts))
            }
        };
        Ok(BuiltProducer {
            producer: Arc::new(producer),
            reports,
            batching,
            receipts,
        })
    }

    /// How records are batched now. With transactions, a suspect is alone in one instead.
    pub(super) fn batching(&self) -> Batching {
        match self.outbox.delivery {
            Delivery::AtLeastOnce if !self.refusals.suspects.is_empty() => Batching::Alone,
            _ => Batching::UpTo(self.refusals.batch_size.load(Ordering::Relaxed)),
        }
    }

    /// Does what comes before the first transaction, if the producer is for transactions.
    async fn open(
        &self,
        built: BuiltProducer,
        table: &Table,
        sessions: &mut Sessions,
        heartbeat: &mut Heartbeat,
    ) -> Result<TermProducer, RecoveryError> {
        // From now on the monitor is told when no broker is reachable.
        built.producer.assume_connected();
        let mut recovered = None;
        if let (Some(receipts), Delivery::ExactlyOnce(transactions)) =
            (&built.receipts, &self.outbox.delivery)
        {
            let opening = Recovery {
                table,
                producer: Arc::clone(&built.producer),
                reports: Arc::clone(&built.reports),
                receipts: Arc::clone(receipts),
                transactional_id: transactions.id_of(table.id.0),
                // A takeover does not wait for it.
                compares_first: !self.started || self.told.is_some(),
                has_spare: !self.unused.is_empty(),
                start_by: self.start_by.filter(|_| !self.started),
                stop: self.stop.clone(),
                goals: Arc::default(),
            };
            let opened = Box::pin(opening.open(sessions, heartbeat)).await;
            drop(opening);
            match opened {
                Ok(opened) => recovered = Some(opened),
                Err(closed) => {
                    let_go(built);
                    return Err(closed);
                }
            }
        }
        Ok(TermProducer { built, recovered })
    }

    /// Replaces the producer, which failed.
    pub(super) fn renew(&mut self, reason: &str) {
        self.counters.producer_failures.add(1);
        warn!(
            error = reason,
            "producer failed; replacing it and resending unacknowledged rows"
        );
        self.rest_until = Some(Instant::now() + PAUSE);
    }

    /// Replaces the producer, which another one fenced. A new leader fences its predecessor; to be
    /// fenced again and again while this relay holds the lock has another cause.
    pub(super) fn fenced(&mut self, table: &Table, reason: &str) {
        let Delivery::ExactlyOnce(transactions) = &self.outbox.delivery else {
            return;
        };
        let now = Instant::now();
        self.fences.retain(|at| now - *at < FENCES_WITHIN);
        self.fences.push(now);
        let times = self.fences.len();
        if times == FENCES {
            error!(
                transactional_id = transactions.id_of(table.id.0),
                times,
                "another producer uses this transactional id, although this relay holds the leader lock: each fences the other; stop the other (a relay of a copy of this database?), or set `transactional_id`"
            );
        } else {
            warn!(error = reason, "another producer fenced this one");
        }
        self.rest_until = Some(now + PAUSE * 2_u32.pow(times.min(5) as u32));
    }
}

/// Logs that a standby gets the lock.
pub(super) fn yielded(reason: &str, after: Duration, standby: &str) -> TermEnd {
    warn!(
        error = reason,
        standby,
        "no broker was reachable for leader_timeout, and a standby reaches one: yielding the lock to it"
    );
    let after = humantime::format_duration(after);
    TermEnd::Yielded(format!("no broker was reachable for {after} ({reason})"))
}

/// Drops a producer on a thread of its own: it blocks as long as a request to a broker may take.
pub(super) fn let_go<T: Send + 'static>(producer: T) {
    tokio::task::spawn_blocking(move || drop(producer));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Blocks in its end until it gets a message, and reports whether the message came.
    struct Slow(Receiver<()>, Sender<bool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let came = self.0.recv_timeout(Duration::from_secs(10)).is_ok();
            self.1.send(came).expect("the test listens");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_producer_blocks_nothing() {
        let ((say, message), (ended, end)) = (channel(), channel());
        let_go(Slow(message, ended));
        say.send(()).expect("it is still there");
        assert!(end.recv().expect("it ends"), "it ended before its time");
    }
}
