//! Second stage: from a batch to records in the producer's queue, in order.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tracing::info;

use super::refusal::Refusals;
use super::scan::Fetched;
use super::shared::{Ending, Memory, Shared};
use super::window::Ticket;
use crate::config::{Route, check_topic};
use crate::event::Event;
use crate::kafka::{Producer, Refusal, SendError, Topics};

/// Room that a batch's frame takes beside its records, generously.
const FRAME: usize = 512;

/// What the second stage holds.
pub(crate) struct Publisher {
    pub(crate) producer: Producer,
    pub(crate) topics: Arc<tokio::sync::Mutex<Topics>>,
    pub(crate) route: Route,
    pub(crate) table: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) batches: mpsc::Receiver<Fetched>,
}

impl Publisher {
    /// Runs until the first stage is done. Rows that it does not hand over any more are as if never fetched. Gives the producer back: its reports
    /// are still to come.
    pub(crate) async fn run(mut self) -> Producer {
        let mut known_topic = String::new();
        while let Some(fetched) = self.batches.recv().await {
            let next = self.publish(&fetched, &mut known_topic).await;
            if next == fetched.first + fetched.batch.len() {
                continue;
            }
            self.shared.window().give_up_from(next);
            self.batches.close();
            // What is still in the channel was admitted later, so it is given up already.
            while self.batches.recv().await.is_some() {
                self.shared.window().give_up_from(next);
            }
        }
        self.producer
    }

    /// Hands a batch over; the ticket of the first row that was not.
    async fn publish(&mut self, fetched: &Fetched, known_topic: &mut String) -> Ticket {
        for (offset, event) in fetched.batch.events().enumerate() {
            let ticket = fetched.first + offset;
            let sent = match self.topic(&event) {
                Err(reason) => self.refuse(ticket, Refusal::topic(reason)),
                Ok(topic) => self.publish_to(&topic, &event, ticket, known_topic).await,
            };
            if !sent {
                return ticket;
            }
        }
        fetched.first + fetched.batch.len()
    }

    /// Sends one row, or refuses it; `false` when neither it nor what follows goes on.
    async fn publish_to(
        &self,
        topic: &str,
        event: &Event<'_>,
        ticket: Ticket,
        known_topic: &mut String,
    ) -> bool {
        if known_topic != topic {
            if let Err(fault) = check_topic(topic) {
                let reason = format!("its topic cannot be one: {fault}");
                return self.refuse(ticket, Refusal::topic(reason));
            }
            if !self.is_within_limit(topic).await {
                self.shared.end(Ending::Rebatch);
                return false;
            }
            known_topic.clear();
            known_topic.push_str(topic);
        }
        self.send(topic, event, ticket).await
    }

    fn refuse(&self, ticket: Ticket, refusal: Refusal) -> bool {
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

    /// The broker judges a batch by its topic's limit, and one that is too large comes back whole. So batches stay below the smallest limit.
    async fn is_within_limit(&self, topic: &str) -> bool {
        let Some(limit) = self.topics.lock().await.limit(topic).await else {
            return true;
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
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
    async fn send(&self, topic: &str, event: &Event<'_>, ticket: Ticket) -> bool {
        loop {
            // Before the try, so that no report between the two goes unnoticed.
            let room = self.shared.room.notified();
            match self.producer.send(topic, event, ticket) {
                Ok(()) => return true,
                Err(SendError::Row(refusal)) => return self.refuse(ticket, refusal),
                Err(SendError::Producer(reason)) => {
                    self.shared.end(Ending::Producer(reason));
                    return false;
                }
                // The window keeps the queue from filling; only rows beyond every bound meet this. The third stage takes the reports.
                Err(SendError::QueueFull) => {
                    tokio::select! {
                        () = room => {}
                        () = self.shared.abandon.cancelled() => return false,
                    }
                }
            }
        }
    }
}
