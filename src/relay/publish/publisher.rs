//! Second stage: hands the rows of a batch to the producer, in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::info;

use super::admission::{Admission, FRAME, TopicRules};
use super::inquiries::{Asker, Inquiries};
use super::routes::{Destination, NOT_UTF_8, Routes};
use crate::config::Poison;
use crate::event::Event;
use crate::kafka::{Code, Producer, Refusal, SendError, TopicFacts, Topics};
use crate::postgres::Unread;
use crate::relay::fetch::Fetched;
use crate::relay::in_flight::Ticket;
use crate::relay::poison::Refusals;
use crate::relay::term_state::{TermEnd, TermState};

/// The wait for room in the queue of the producer, if no report ends it earlier.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// The publisher of one term.
pub(crate) struct Publisher {
    pub(crate) producer: Arc<Producer>,
    pub(crate) topics: Arc<tokio::sync::Mutex<Topics>>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) shared: Arc<TermState>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) batches: mpsc::Receiver<Fetched>,
}

/// The topics to which rows went.
#[derive(Default)]
pub(crate) struct TopicCache {
    /// The topic of the last row.
    last: String,
    rules: TopicRules,
    /// Times that a topic had been closed when the rules were read.
    closed: usize,
    /// Every topic since the last `take` to which a row was sent.
    all: FxHashSet<String>,
    is_listed: bool,
    /// Whether a row that may exceed the limit of its topic goes into a transaction of its own.
    tries_apart: bool,
    /// Whether such a row was met, and not sent.
    pub(crate) is_apart: bool,
    /// Whether the observer wants to know of each row that is sent.
    is_observed: bool,
    inquiries: Inquiries,
}

impl TopicCache {
    pub(crate) fn of_transactions() -> Self {
        Self {
            tries_apart: true,
            ..Self::default()
        }
    }

    fn is(&mut self, topic: &str, rules: TopicRules, closed: usize) {
        (self.rules, self.closed, self.is_listed) = (rules, closed, false);
        topic.clone_into(&mut self.last);
    }

    fn list(&mut self, topic: &str) {
        if !self.is_listed && !self.all.contains(topic) {
            self.all.insert(topic.to_owned());
        }
        self.is_listed = true;
    }

    /// Returns the topics since the last call.
    pub(crate) fn take(&mut self) -> FxHashSet<String> {
        self.last.clear();
        std::mem::take(&mut self.all)
    }
}

impl Publisher {
    /// Runs until the fetcher is done. Rows that are not handed over count as never fetched.
    /// Returns the producer, because its reports are still to come.
    pub(crate) async fn run(mut self) -> Arc<Producer> {
        let mut topics = TopicCache::default();
        let mut next = 0;
        loop {
            let fetched = tokio::select! {
                fetched = self.batches.recv() => fetched,
                // A fetch may still be waiting for its answer.
                () = self.shared.abandon.cancelled() => None,
            };
            let Some(fetched) = fetched else {
                break;
            };
            let all = 0..fetched.batch.len();
            next = self.publish(&fetched, all, &mut topics).await;
            if next < fetched.first + fetched.batch.len() {
                break;
            }
            self.shared.published(next);
        }
        self.give_up_from(next).await;
        self.producer
    }

    /// Gives up the rows from this ticket on, and all that may follow: they count as never fetched.
    pub(crate) async fn give_up_from(&mut self, ticket: Ticket) {
        self.shared.window().give_up_from(ticket);
        self.batches.close();
        // Rows that are still in the channel were admitted later, so they are given up already.
        while self.batches.recv().await.is_some() {
            self.shared.window().give_up_from(ticket);
        }
    }

    /// Hands a part of a batch to the producer. Returns the ticket of the first row that was not
    /// handed over.
    pub(crate) async fn publish(
        &self,
        fetched: &Fetched,
        part: Range<usize>,
        topics: &mut TopicCache,
    ) -> Ticket {
        let observer = self.refusals.counters.observer();
        topics.is_observed = observer.is_some_and(|it| it.sending(fetched.first + part.start));
        let next = self.publish_part(fetched, part, topics).await;
        if let Some(observer) = observer.filter(|_| topics.is_observed) {
            observer.handed_over(next);
        }
        next
    }

    async fn publish_part(
        &self,
        fetched: &Fetched,
        part: Range<usize>,
        topics: &mut TopicCache,
    ) -> Ticket {
        let events = fetched.batch.events().enumerate();
        for (offset, event) in events.skip(part.start).take(part.len()) {
            let ticket = fetched.first + offset;
            let sent = match self.routes.of(event.topic, event.event_type) {
                Err(_) => {
                    let refusal = Refusal::foreseen(Code::InvalidTopic, NOT_UTF_8);
                    self.refuse_early(ticket, &event, "", refusal, topics)
                }
                Ok(Destination::Drop) => {
                    self.refusals.drop_row(&self.shared, ticket, event.row());
                    true
                }
                Ok(Destination::Topic(topic)) => match fetched.batch.unread(offset) {
                    None => self.publish_to(&topic, &event, ticket, topics).await,
                    Some(unread) => {
                        self.refuse_early(ticket, &event, &topic, refusal_of(unread), topics)
                    }
                },
            };
            if !sent {
                return ticket;
            }
        }
        fetched.first + part.end
    }

    /// Sends one row, refuses it, or leaves it in the table; `false` if the rows after it do not go
    /// on.
    async fn publish_to(
        &self,
        topic: &str,
        event: &Event<'_>,
        ticket: Ticket,
        topics: &mut TopicCache,
    ) -> bool {
        let closed = self.refusals.closed();
        if topics.last != topic || topics.closed != closed {
            if let Err(fault) = self.routes.check(topic) {
                let refusal = Refusal::foreseen(Code::InvalidTopic, fault);
                return self.refuse_early(ticket, event, topic, refusal, topics);
            }
            if !self.asker().may(topic, &mut topics.inquiries).await {
                let rules = self.refusals.rules(topic, TopicFacts::default());
                if self.refusals.put_off(&self.shared, ticket, event, &rules) {
                    return true;
                }
            }
            let begun = Instant::now();
            let facts = self.topics.lock().await.facts(topic).await;
            topics.inquiries.took(begun);
            if !self.is_within_limit(topic, facts.limit) {
                self.shared.end(TermEnd::Rebatch);
                return false;
            }
            topics.is(topic, self.refusals.rules(topic, facts), closed);
            if facts.limit.is_none() && topics.rules.is_open {
                let untold = &self.refusals.has_untold_limit;
                untold.store(true, Ordering::Relaxed);
            }
            let mut window = self.shared.window();
            window.goes_to(ticket, topics.rules.topic);
        }
        let rules = topics.rules;
        if let Some(refusal) = rules.foresee(event, self.routes.created_at(event)) {
            return self.refuse(ticket, event, &rules, refusal);
        }
        if topics.tries_apart
            && rules.may_be_too_large(event)
            && !self.refusals.suspects.contains(&event.row())
        {
            self.refusals.suspects.add([event.row()]);
            topics.is_apart = true;
            return false;
        }
        match self.refusals.admit(&self.shared, ticket, event, &rules) {
            Admission::Leave => {
                // It may be free when the next row comes.
                topics.last.clear();
                return true;
            }
            Admission::Probe => {
                let begun = Instant::now();
                let answer = self.asker().about(topic, &rules).await;
                topics.inquiries.took(begun);
                if let Some(refusal) = answer {
                    return self.refuse(ticket, event, &rules, refusal);
                }
                if rules.policy != Poison::HoldKey {
                    self.refusals.open(&self.shared, rules.topic);
                    self.topics.lock().await.is_made(topic);
                }
                topics.last.clear();
            }
            Admission::Send => {}
        }
        topics.list(topic);
        self.send(topic, event, ticket, topics).await
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            producer: &self.producer,
            refusals: &self.refusals,
            shared: &self.shared,
        }
    }

    fn refuse(
        &self,
        ticket: Ticket,
        event: &Event<'_>,
        rules: &TopicRules,
        refusal: Refusal,
    ) -> bool {
        self.refusals.mark(&self.shared, ticket, event, rules);
        self.refusals.refuse(&self.shared, ticket, refusal)
    }

    /// Refuses a row before anything is known of its topic.
    fn refuse_early(
        &self,
        ticket: Ticket,
        event: &Event<'_>,
        topic: &str,
        refusal: Refusal,
        topics: &mut TopicCache,
    ) -> bool {
        let rules = self.refusals.rules(topic, TopicFacts::default());
        // The row after it has to be noted for its own topic again.
        topics.last.clear();
        self.shared.window().goes_to(ticket, rules.topic);
        self.refuse(ticket, event, &rules, refusal)
    }

    /// Whether batches fit the limit of the topic. The broker refuses a batch that exceeds it as a
    /// whole, so batches stay below the smallest limit of all topics.
    fn is_within_limit(&self, topic: &str, limit: Option<usize>) -> bool {
        let Some(limit) = limit else {
            return true;
        };
        let largest = limit.saturating_sub(FRAME).max(1);
        if self.refusals.batch_size.load(Ordering::Relaxed) <= largest {
            return true;
        }
        info!(
            topic,
            bytes = largest,
            "smaller batches: the topic's max.message.bytes is {limit}"
        );
        self.refusals.batch_size.store(largest, Ordering::Relaxed);
        false
    }

    /// Sends one row, waiting while the queue of the producer is full; `false` if no more rows are
    /// to be sent.
    async fn send(
        &self,
        topic: &str,
        event: &Event<'_>,
        ticket: Ticket,
        topics: &mut TopicCache,
    ) -> bool {
        if let Some(id) = self.routes.own_id(event) {
            self.refusals.counters.sent.has_own_id(event.row(), id);
        }
        loop {
            // Registered before the try, so that no report in between is missed.
            let room = self.shared.room.notified();
            let created_at = self.routes.created_at(event);
            match self.producer.send(topic, event, created_at, ticket) {
                Ok(()) => {
                    if topics.is_observed
                        && let Some(observer) = self.refusals.counters.observer()
                    {
                        observer.sent(ticket, topic, event);
                    }
                    return true;
                }
                Err(SendError::Row(refusal)) => {
                    return self.refuse(ticket, event, &topics.rules, refusal);
                }
                // The transactor finds out why.
                Err(SendError::Fenced(_) | SendError::Transaction) => return false,
                Err(SendError::Producer(reason)) => {
                    self.shared.end(TermEnd::Producer(reason));
                    return false;
                }
                // The window keeps the queue from filling; only rows that exceed every bound get
                // here.
                Err(SendError::QueueFull) => {
                    tokio::select! {
                        () = room => {}
                        () = sleep(QUEUE_PAUSE) => {}
                        () = self.shared.abandon.cancelled() => return false,
                    }
                }
            }
        }
    }
}

/// Returns why a row that was not read cannot be sent.
pub(super) fn refusal_of(unread: &Unread) -> Refusal {
    match unread {
        Unread::TooLarge(size) => Refusal {
            reason: format!(
                "it was not read, since it has {size} bytes: the relay reads rows up to message.max.bytes, and up to a quarter of in_flight_bytes"
            ),
            ..Code::MessageSizeTooLarge.into()
        },
        Unread::Unreadable(error) => Refusal {
            code: "Unreadable".into(),
            reason: format!("it cannot be read: {error}"),
        },
    }
}
