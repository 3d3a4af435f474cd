//! Second stage: from a batch to records in the producer's queue, in order.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::info;

use super::care::{Care, Pass};
use super::refusal::Refusals;
use super::scan::Fetched;
use super::shared::{Ending, Shared};
use super::traces::Sending;
use super::window::Ticket;
use crate::config::{Route, check_topic};
use crate::event::Event;
use crate::kafka::{Producer, Refusal, SendError, Topics};

/// Room that a batch's frame takes beside its records, and a record's own headers beside its contents, generously.
pub(super) const FRAME: usize = 512;
/// How long a full queue of the producer is left alone where nothing tells that there is room.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// What the second stage holds.
pub(crate) struct Publisher {
    pub(crate) producer: Arc<Producer>,
    pub(crate) topics: Arc<tokio::sync::Mutex<Topics>>,
    pub(crate) route: Route,
    pub(crate) table: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) batches: mpsc::Receiver<Fetched>,
}

/// Topics that rows went to.
#[derive(Default)]
pub(crate) struct Topical {
    /// That of the last row.
    last: String,
    care: Care,
    /// Each since they were last taken.
    all: FxHashSet<String>,
    /// The span that goes on meanwhile, if there is one.
    sending: Option<Sending>,
}

impl Topical {
    fn is(&mut self, topic: &str, care: Care) {
        self.care = care;
        topic.clone_into(&mut self.last);
        if !self.all.contains(topic) {
            self.all.insert(topic.to_owned());
        }
    }

    /// Those since the last time.
    pub(crate) fn take(&mut self) -> FxHashSet<String> {
        self.last.clear();
        std::mem::take(&mut self.all)
    }
}

impl Publisher {
    /// Runs until the first stage is done. Rows that it does not hand over any more are as if never fetched. Gives the producer back: its reports
    /// are still to come.
    pub(crate) async fn run(mut self) -> Arc<Producer> {
        let mut topics = Topical::default();
        let mut next = 0;
        loop {
            let fetched = tokio::select! {
                fetched = self.batches.recv() => fetched,
                // A fetch that is not answered may still be under way.
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

    /// Rows from this ticket on, and all that may come, are as if never fetched.
    pub(crate) async fn give_up_from(&mut self, ticket: Ticket) {
        self.shared.window().give_up_from(ticket);
        self.batches.close();
        // What is still in the channel was admitted later, so it is given up already.
        while self.batches.recv().await.is_some() {
            self.shared.window().give_up_from(ticket);
        }
    }

    /// Hands a part of a batch over; the ticket of the first row that was not.
    pub(crate) async fn publish(
        &self,
        fetched: &Fetched,
        part: Range<usize>,
        topics: &mut Topical,
    ) -> Ticket {
        let traces = self.refusals.counters.traces();
        topics.sending = traces.and_then(|traces| traces.sending(fetched.first + part.start));
        let next = self.publish_part(fetched, part, topics).await;
        if let (Some(traces), Some(sending)) = (traces, topics.sending.take()) {
            traces.sent(next, sending);
        }
        next
    }

    async fn publish_part(
        &self,
        fetched: &Fetched,
        part: Range<usize>,
        topics: &mut Topical,
    ) -> Ticket {
        let events = fetched.batch.events().enumerate();
        for (offset, event) in events.skip(part.start).take(part.len()) {
            let ticket = fetched.first + offset;
            let sent = match self.topic(&event) {
                Err(reason) => {
                    let care = self.refusals.care("", None);
                    self.refuse(ticket, &event, &care, Refusal::topic(reason))
                }
                Ok(topic) => self.publish_to(&topic, &event, ticket, topics).await,
            };
            if !sent {
                return ticket;
            }
        }
        fetched.first + part.end
    }

    /// Sends one row, refuses it, or leaves it in the table; `false` when neither it nor what follows goes on.
    async fn publish_to(
        &self,
        topic: &str,
        event: &Event<'_>,
        ticket: Ticket,
        topics: &mut Topical,
    ) -> bool {
        if topics.last != topic {
            if let Err(fault) = check_topic(topic) {
                let reason = format!("its topic cannot be one: {fault}");
                let care = self.refusals.care(topic, None);
                return self.refuse(ticket, event, &care, Refusal::topic(reason));
            }
            let limit = self.topics.lock().await.limit(topic).await;
            if !self.is_within_limit(topic, limit) {
                self.shared.end(Ending::Rebatch);
                return false;
            }
            topics.is(topic, self.refusals.care(topic, limit));
        }
        match self
            .refusals
            .pass(&self.shared, ticket, event, &topics.care)
        {
            Pass::Stays => return true,
            Pass::Doubtful => {
                if let Some(refusal) = self.ask_about(topic).await {
                    return self.refuse(ticket, event, &topics.care, refusal);
                }
            }
            Pass::Goes => {}
        }
        self.send(topic, event, ticket, topics).await
    }

    fn refuse(&self, ticket: Ticket, event: &Event<'_>, care: &Care, refusal: Refusal) -> bool {
        self.refusals.mark(&self.shared, ticket, event, care);
        self.refusals.refuse(&self.shared, ticket, refusal)
    }

    fn topic<'a>(&'a self, event: &Event<'a>) -> Result<Cow<'a, str>, String> {
        let text = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map_err(|_| "its topic is not UTF-8".to_owned())
        };
        Ok(match event.topic {
            Some(topic) => Cow::Borrowed(text(topic)?),
            None => self.route.topic(&self.table, text(event.event_type)?),
        })
    }

    /// Why a topic that took nothing so far takes nothing now either. The producer itself would look for it for half a minute, and be of the same
    /// opinion for minutes.
    async fn ask_about(&self, topic: &str) -> Option<Refusal> {
        let inquiry = self.producer.inquiry(topic);
        tokio::task::spawn_blocking(inquiry).await.ok().flatten()
    }

    /// The broker judges a batch by its topic's limit, and one that is too large comes back whole. So batches stay below the smallest limit.
    fn is_within_limit(&self, topic: &str, limit: Option<usize>) -> bool {
        let Some(limit) = limit else {
            return true;
        };
        let memory = self.refusals.memory.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        let largest = limit.saturating_sub(FRAME).max(1);
        if memory.batch_size <= largest {
            return true;
        }
        info!(
            topic,
            bytes = largest,
            "smaller batches: the topic's max.message.bytes is {limit}"
        );
        memory.batch_size = largest;
        false
    }

    /// Sends one row, waiting while the producer's queue is full; `false` when nothing more is to be sent.
    async fn send(
        &self,
        topic: &str,
        event: &Event<'_>,
        ticket: Ticket,
        topics: &mut Topical,
    ) -> bool {
        loop {
            // Before the try, so that no report between the two goes unnoticed.
            let room = self.shared.room.notified();
            match self.producer.send(topic, event, ticket) {
                Ok(()) => {
                    if let Some(sending) = &mut topics.sending {
                        sending.sent(topic, event);
                    }
                    return true;
                }
                Err(SendError::Row(refusal)) => {
                    return self.refuse(ticket, event, &topics.care, refusal);
                }
                Err(SendError::Fenced(reason)) => {
                    self.shared.end(Ending::Fenced(reason));
                    return false;
                }
                Err(SendError::Producer(reason)) => {
                    self.shared.end(Ending::Producer(reason));
                    return false;
                }
                // The window keeps the queue from filling; only rows beyond every bound meet this.
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
