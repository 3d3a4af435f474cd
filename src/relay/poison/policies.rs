//! Applies the poison policy of its topic to a row that Kafka refused.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tracing::{debug, error, info, warn};

use super::held_keys::{self, Held, HoldId, Refused};
use super::refusal_log::RefusalLog;
use super::rejected::Rejected;
use super::suspects::Suspects;
use super::topic_book::{Judgement, TopicNumber};
use crate::config::{Kafka, Outbox, Poison};
use crate::event::RowId;
use crate::kafka::{Code, DEFAULT_BATCH_SIZE, DEFAULT_MESSAGE_BYTES, Refusal};
use crate::postgres::RejectedRow;
use crate::relay::in_flight::{RefusalPolicy, Ticket};
use crate::relay::term_state::{Counters, TermEnd, TermState};
use crate::relay::undeleted::Undeleted;
use crate::sync::lock;

/// How long librdkafka waits for a topic by itself.
const TOPIC_PATIENCE: Duration = Duration::from_secs(30);

/// Where the limit of a topic is not known, batches that are refused become this many times
/// smaller, down to a size at which a row that is refused is most probably the only one.
const SMALLER: usize = 8;
const SMALL_BATCH: usize = 16 << 10;

fn property<T: FromStr>(kafka: &Kafka, name: &str) -> Option<T> {
    let given = kafka.properties.get(name)?;
    given.expose_secret().parse().ok()
}

fn topic_patience(kafka: &Kafka) -> Duration {
    let millis = property(kafka, "topic.metadata.propagation.max.ms");
    millis.map_or(TOPIC_PATIENCE, Duration::from_millis)
}

/// The configured `batch.size`, or librdkafka's default.
fn configured_batch_size(kafka: &Kafka) -> usize {
    property(kafka, "batch.size").unwrap_or(DEFAULT_BATCH_SIZE)
}

/// The size of the largest record that the producer takes.
pub(crate) fn largest_record(kafka: &Kafka) -> usize {
    property(kafka, "message.max.bytes").unwrap_or(DEFAULT_MESSAGE_BYTES)
}

/// The size of the largest row that is read: Kafka takes no larger one.
pub(crate) fn largest_row(outbox: &Outbox, kafka: &Kafka) -> usize {
    largest_record(kafka).max(outbox.in_flight_bytes / 4)
}

/// The policies of an outbox.
pub(crate) struct Policies {
    usual: Poison,
    topics: BTreeMap<String, Poison>,
    /// After so many rows that were refused for the sake of their topic, the others wait.
    breaker: Option<usize>,
    /// How long the brokers may take to get to know a topic.
    patience: Duration,
}

impl Policies {
    pub(crate) fn of(outbox: &Outbox, kafka: &Kafka) -> Self {
        Self {
            usual: outbox.poison,
            topics: outbox.poison_topics.clone(),
            breaker: outbox.poison_breaker,
            patience: topic_patience(kafka),
        }
    }

    /// Returns the policy of a topic.
    pub(crate) fn policy(&self, topic: &str) -> Poison {
        self.topics.get(topic).copied().unwrap_or(self.usual)
    }

    /// Whether all rows have the same policy and none is held back by its key.
    pub(crate) fn are_plain(&self) -> bool {
        self.topics.is_empty() && self.usual != Poison::HoldKey
    }

    /// Whether keys may be held.
    pub(crate) fn hold_keys(&self) -> bool {
        self.usual == Poison::HoldKey || self.topics.values().any(|it| *it == Poison::HoldKey)
    }
}

/// What the relay of one outbox remembers over its terms of the rows that Kafka refused.
pub(crate) struct Refusals {
    pub(crate) policies: Policies,
    has_routes: bool,
    pub(crate) suspects: Suspects,
    pub(crate) rejected: Rejected,
    pub(crate) log: RefusalLog,
    /// Batches are not made larger than this many bytes.
    pub(crate) batch_size: AtomicUsize,
    /// Whether the brokers do not say the `max.message.bytes` of a topic.
    pub(crate) has_untold_limit: AtomicBool,
    /// Whether the log says that held rows cannot be recorded.
    pub(crate) held_is_told: AtomicBool,
    held: Mutex<Held>,
    /// Times that a topic was closed: what was read of topics before is out of date.
    closed: AtomicUsize,
    /// Rows that Kafka has and that the last term could not delete.
    undeleted: Mutex<Undeleted>,
    pub(crate) counters: Arc<Counters>,
}

impl Refusals {
    pub(crate) fn new(outbox: &Outbox, kafka: &Kafka, counters: Arc<Counters>) -> Self {
        Self {
            policies: Policies::of(outbox, kafka),
            has_routes: !outbox.routes.is_empty(),
            suspects: Suspects::default(),
            rejected: Rejected::default(),
            log: RefusalLog::default(),
            batch_size: AtomicUsize::new(configured_batch_size(kafka)),
            has_untold_limit: AtomicBool::default(),
            held_is_told: AtomicBool::default(),
            held: Mutex::default(),
            closed: AtomicUsize::default(),
            undeleted: Mutex::default(),
            counters,
        }
    }

    /// The rows that the last term could not delete: they are not to be sent again.
    pub(crate) fn undeleted(&self) -> Undeleted {
        lock(&self.undeleted).clone()
    }

    /// Keeps the rows that a term could not delete for the next one.
    pub(crate) fn keep_undeleted(&self, rows: &mut Undeleted) {
        *lock(&self.undeleted) = std::mem::take(rows);
    }

    /// The keys that are held; locked for moments, never over an await.
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// Times that a topic was closed.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether rows that were refused for the size of their batch go with smaller batches in the
    /// next term, since the brokers do not say the limit of a topic. The batches stay smaller.
    pub(crate) fn makes_smaller(&self, shared: &TermState, code: Code) -> bool {
        let is_size = matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge);
        if !is_size || !self.has_untold_limit.load(Ordering::Relaxed) {
            return false;
        }
        let bytes = self.batch_size.load(Ordering::Relaxed);
        if !shared.makes_smaller.load(Ordering::Relaxed) && bytes > SMALL_BATCH {
            shared.makes_smaller.store(true, Ordering::Relaxed);
            let smaller = bytes / SMALLER;
            self.batch_size.store(smaller, Ordering::Relaxed);
            info!(
                bytes = smaller,
                "smaller batches: a batch was refused for its size, and the brokers do not say the topic's max.message.bytes"
            );
        }
        shared.makes_smaller.load(Ordering::Relaxed)
    }

    /// Lets the rows of a topic go on, which takes records.
    pub(crate) fn open(&self, shared: &TermState, topic: TopicNumber) {
        self.held().opened(topic);
        shared.held.notify_one();
    }

    /// Takes the row out of the window and applies its policy. Returns whether the other rows go
    /// on.
    pub(crate) fn refuse(&self, shared: &TermState, ticket: Ticket, refusal: Refusal) -> bool {
        let (row, marked) = {
            let mut window = shared.window();
            let Some((row, marked)) = window.sent(ticket) else {
                return !shared.halt.is_cancelled();
            };
            window.give_up(ticket);
            (row, marked)
        };
        let policy = match self.policies.are_plain() {
            true => self.policies.usual,
            false => marked.policy,
        };
        if policy != Poison::HoldKey && self.waits(shared, row, marked.topic, &refusal, policy) {
            shared.room.notify_waiters();
            return true;
        }
        let goes_on = match policy {
            Poison::Park => self.park(row, marked.topic, refusal),
            Poison::HoldKey => self.hold(shared, row, marked, refusal),
            Poison::Stop => self.stop(shared, row, refusal, "the poison policy is stop".into()),
        };
        shared.room.notify_waiters();
        goes_on
    }

    /// Whether the row was refused before and retried, so that its refusal needs no retry alone.
    pub(crate) fn was_refused(&self, shared: &TermState, ticket: Ticket) -> bool {
        let row = shared.window().sent(ticket);
        row.is_some_and(|(row, _)| self.held().was_refused(row))
    }

    /// Releases the keys that waited for one of these rows.
    pub(crate) fn release<'a>(
        &self,
        shared: &TermState,
        delivered: impl IntoIterator<Item = &'a RowId>,
    ) {
        let mut held = self.held();
        if held.is_empty() {
            return;
        }
        for row in delivered {
            if held.delivered(*row) == Some(true) {
                info!(
                    row.id = row.id,
                    "Kafka took a row that it had refused; the later rows of its key or topic follow"
                );
            }
        }
        if held.has_over() {
            shared.held.notify_one();
        }
    }

    /// Leaves a row that a route drops to the third stage, which deletes it. Rows that waited for
    /// it go on.
    pub(crate) fn drop_row(&self, shared: &TermState, ticket: Ticket, row: RowId) {
        self.suspects.clear([&row]);
        let mut held = self.held();
        held.is_gone(row);
        if held.has_over() {
            shared.held.notify_one();
        }
        drop(held);
        shared.window().drop_row(ticket);
        shared.dropped.notify_one();
    }

    /// Whether the row waits in the table with all rows of its topic: the topic is missing, and may
    /// be made soon, or too many of its rows were refused.
    fn waits(
        &self,
        shared: &TermState,
        row: RowId,
        topic: TopicNumber,
        refusal: &Refusal,
        policy: Poison,
    ) -> bool {
        let now = Instant::now();
        let breaker = self.policies.breaker.filter(|_| policy == Poison::Park);
        let patience = self.policies.patience;
        let mut held = self.held();
        let judgement = held.topics.judge(topic, refusal, now, patience, breaker);
        let waits = judgement != Judgement::Refuse
            && held.refused(HoldId::Topic(topic), row, topic, now) != Refused::Full;
        match waits {
            true => held.explain(HoldId::Topic(topic), &refusal.reason),
            false => held.is_gone(row),
        }
        drop(held);
        if judgement != Judgement::Refuse || refusal.is_of_topic() {
            self.closed.fetch_add(1, Ordering::Relaxed);
            shared.held.notify_one();
        }
        if waits {
            self.suspects.clear([&row]);
        }
        let reason = refusal.reason.as_str();
        match judgement {
            Judgement::Missing => warn!(
                row.id = row.id,
                error = reason,
                "a topic is missing: its rows wait in the table for {patience:?}, and are refused if it is not made by then"
            ),
            Judgement::Breaks => error!(
                row.id = row.id,
                error = reason,
                "Kafka refuses row after row of a topic: its rows wait in the table from now on, and one of them is tried at intervals"
            ),
            Judgement::Refuse | Judgement::Wait => {}
        }
        waits
    }

    fn park(&self, row: RowId, topic: TopicNumber, refusal: Refusal) -> bool {
        self.suspects.clear([&row]);
        let Refusal { code, reason } = refusal.clone();
        let held = self.has_routes.then(|| self.held());
        let topic = held.and_then(|held| held.topics.name(topic).map(str::to_owned));
        // A row whose topic is not known has one without a name.
        let rejected = RejectedRow {
            row,
            reason,
            code,
            topic: topic.filter(|it| !it.is_empty()),
        };
        if self.rejected.add(rejected) {
            self.counters.refused_row();
            self.log.add(false, row.id, &refusal);
        }
        true
    }

    fn hold(
        &self,
        shared: &TermState,
        row: RowId,
        marked: RefusalPolicy,
        refusal: Refusal,
    ) -> bool {
        self.suspects.clear([&row]);
        let now = Instant::now();
        let refused = {
            let mut held = self.held();
            let refused = held.refused(marked.key_hash, row, marked.topic, now);
            if matches!(refused, Refused::First | Refused::Again) {
                held.explain(marked.key_hash, &refusal.reason);
            }
            refused
        };
        shared.held.notify_one();
        match refused {
            Refused::First => {
                self.counters.refused_row();
                self.log.add(true, row.id, &refusal);
            }
            Refused::Again => debug!(row.id = row.id, error = refusal.reason, "refused again"),
            Refused::Behind => {
                debug!(
                    row.id = row.id,
                    error = refusal.reason,
                    "its key waits already"
                );
            }
            Refused::Full => {
                let policy = format!(
                    "{} keys are held back already, and more are not remembered",
                    held_keys::MOST
                );
                return self.stop(shared, row, refusal, policy);
            }
        }
        true
    }

    fn stop(&self, shared: &TermState, row: RowId, refusal: Refusal, policy: String) -> bool {
        self.counters.refused_row();
        shared.end(TermEnd::Poison {
            id: row.id,
            reason: refusal.reason,
            policy,
        });
        false
    }
}
