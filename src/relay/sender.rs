//! The producer that a term begins with. Where each event is sent once, it is one whose transactions may begin: a new one is tried until that works.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

use super::error::RelayError;
use super::opening::{Closed, Opened, Opening};
use super::run::OutboxRelay;
use super::term::Sessions;
use super::voice::Voice;
use crate::config::{Delivery, Transactions};
use crate::kafka::{Batching, ConfigError, Producer, Receipts, Reports};
use crate::postgres::{Leader, Table};

/// A producer that fails at once would be built again and again.
const PAUSE: Duration = Duration::from_millis(200);

/// So many times in so long is no takeover.
const FENCES: usize = 3;
const FENCES_WITHIN: Duration = Duration::from_secs(60);

/// What a term sends with.
pub(crate) struct Sender {
    pub(crate) producer: Arc<Producer>,
    pub(crate) reports: Arc<Reports>,
    /// Each record goes in a batch of its own.
    pub(crate) alone: bool,
    /// Where each event is sent once: what came before the first transaction, and where receipts go.
    pub(crate) once: Option<(Opened, Arc<Receipts>)>,
}

/// A producer that nobody has used yet. One that has met a broker already makes the first term begin sooner.
pub(super) struct Fresh {
    pub(super) producer: Arc<Producer>,
    pub(super) reports: Arc<Reports>,
    batching: Batching,
    /// Where each event is sent once.
    pub(super) receipts: Option<Arc<Receipts>>,
}

impl OutboxRelay {
    /// A producer that may send. Where each event is sent once, a new one is tried until that works, or until the stop.
    pub(super) async fn sender(
        &mut self,
        table: &Table,
        sessions: &mut Sessions,
    ) -> Result<Sender, Closed> {
        let mut voice = Voice::new(self.pings());
        loop {
            self.rest(&mut voice, &mut sessions.leader).await?;
            let fresh = self.take_fresh(table)?;
            match self.open(fresh, table, sessions, &mut voice).await {
                Err(Closed::Producer(reason)) if self.start_is_over() => {
                    let brokers = &self.settings.kafka.brokers;
                    let words = format!("{brokers} lets no transaction begin ({reason})");
                    return Err(RelayError::KafkaAway(words).into());
                }
                Err(Closed::Producer(reason)) => self.renew(&reason),
                Err(Closed::Fenced(reason)) => self.fenced(table, &reason),
                Err(Closed::Slow) => {
                    debug!("this producer cannot begin at once: the next one tries")
                }
                other => {
                    let_go(std::mem::take(&mut self.fresh));
                    return other;
                }
            }
        }
    }

    /// Waits where the producer before failed.
    async fn rest(&self, voice: &mut Voice, leader: &mut Leader) -> Result<(), Closed> {
        let Some(until) = self.rest_until else {
            return Ok(());
        };
        tokio::select! {
            waited = voice.during(leader, sleep_until(until)) => Ok(waited?),
            () = self.stop.cancelled() => Err(Closed::Stopped),
        }
    }

    /// One that is there, if it makes the batches that are wanted now; else another.
    fn take_fresh(&mut self, table: &Table) -> Result<Fresh, ConfigError> {
        let batching = self.batching();
        while let Some(fresh) = self.fresh.pop() {
            if fresh.batching == batching {
                return Ok(fresh);
            }
            let_go(fresh);
        }
        self.build(table, batching, None)
    }

    /// Builds a producer; nothing is contacted yet. Where each event is sent once, the receipts may be those of another.
    pub(super) fn build(
        &self,
        table: &Table,
        batching: Batching,
        receipts: Option<Arc<Receipts>>,
    ) -> Result<Fresh, ConfigError> {
        let kafka = &self.settings.kafka;
        let bounds = (self.outbox.in_flight_rows, self.outbox.in_flight_bytes);
        let reports = Arc::new(Reports::new(Arc::clone(&self.counters.kafka)));
        let theirs = Arc::clone(&reports);
        let (producer, receipts) = match &self.outbox.delivery {
            Delivery::AtLeastOnce => {
                let producer = Producer::new(kafka, table.id, bounds, batching, theirs)?;
                (producer, None)
            }
            Delivery::ExactlyOnce(transactions) => {
                let id = transactional_id(transactions, table);
                let producer =
                    Producer::transactional(kafka, table.id, bounds, batching, theirs, &id)?;
                let topic = transactions.receipts.topic(&table.name, "");
                let receipts = match receipts {
                    Some(receipts) => receipts,
                    None => Arc::new(Receipts::of(kafka, &topic, table.id)?),
                };
                (producer, Some(receipts))
            }
        };
        Ok(Fresh {
            producer: Arc::new(producer),
            reports,
            batching,
            receipts,
        })
    }

    /// How records are put together now. Where each event is sent once, a suspect is alone in its transaction.
    pub(super) fn batching(&self) -> Batching {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match self.outbox.delivery {
            Delivery::AtLeastOnce if !memory.suspects.is_empty() => Batching::Alone,
            _ => Batching::UpTo(memory.batch_size),
        }
    }

    /// What comes before the first transaction of a producer, where it is for transactions.
    async fn open(
        &self,
        fresh: Fresh,
        table: &Table,
        sessions: &mut Sessions,
        voice: &mut Voice,
    ) -> Result<Sender, Closed> {
        let Fresh {
            producer,
            reports,
            batching,
            receipts,
        } = fresh;
        // From now on it is told when no broker is there.
        producer.assume_connected();
        let mut sender = Sender {
            producer,
            reports,
            alone: batching == Batching::Alone,
            once: None,
        };
        if let (Some(receipts), Delivery::ExactlyOnce(transactions)) =
            (receipts, &self.outbox.delivery)
        {
            let opening = Opening {
                table,
                producer: Arc::clone(&sender.producer),
                reports: Arc::clone(&sender.reports),
                receipts: Arc::clone(&receipts),
                transactional_id: transactional_id(transactions, table),
                has_spare: !self.fresh.is_empty(),
                start_by: self.start_by.filter(|_| !self.started),
                stop: self.stop.clone(),
            };
            let opened = Box::pin(opening.open(sessions, voice)).await;
            drop(opening);
            match opened {
                Ok(opened) => sender.once = Some((opened, receipts)),
                Err(closed) => {
                    let_go((sender, receipts));
                    return Err(closed);
                }
            }
        }
        Ok(sender)
    }

    /// A new producer is to send what is left.
    pub(super) fn renew(&mut self, reason: &str) {
        self.counters.producer_failures.add(1);
        warn!(
            error = reason,
            "the producer is of no more use: a new one sends what is left"
        );
        self.rest_until = Some(Instant::now() + PAUSE);
    }

    /// Whoever leads next shuts its predecessor out. To be shut out again and again while the lock is ours is something else.
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
                transactional_id = transactional_id(transactions, table),
                times,
                "somebody else uses this transactional id, though this relay holds the leader's lock: each shuts the other out. Stop the other (a relay of a copy of this database?), or set `transactional_id`"
            );
        } else {
            warn!(error = reason, "another producer has shut this one out");
        }
        self.rest_until = Some(now + PAUSE * 2_u32.pow(times.min(5) as u32));
    }
}

/// Letting go of a producer blocks for as long as a request to a broker may take, and nobody has to wait for it.
pub(super) fn let_go<T: Send + 'static>(producer: T) {
    tokio::task::spawn_blocking(move || drop(producer));
}

/// The user's own, or one that no other outbox has.
fn transactional_id(transactions: &Transactions, table: &Table) -> String {
    transactions.id_of(table.id.0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Its end takes until somebody says a word, and says whether it came.
    struct Slow(Receiver<()>, Sender<bool>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let came = self.0.recv_timeout(Duration::from_secs(10)).is_ok();
            self.1.send(came).expect("somebody listens");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_the_end_of_a_producer() {
        let ((say, word), (ended, end)) = (channel(), channel());
        let_go(Slow(word, ended));
        say.send(()).expect("it is still there");
        assert!(end.recv().expect("it ends"), "it ended before its time");
    }
}
