//! What is looked at before a row goes to Kafka where policies differ by topic or hold keys back. Where all rows have the same policy and none is to wait,
//! nothing is.

use std::sync::PoisonError;

use super::publisher::FRAME;
use super::refusal::Refusals;
use super::shared::Shared;
use super::window::{Fate, Ticket};
use crate::config::Poison;
use crate::event::Event;
use crate::postgres::Sent;

use super::held::TopicNumber;

/// What holds for the rows of one topic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Care {
    policy: Poison,
    topic: TopicNumber,
    /// What the broker takes at most.
    limit: Option<usize>,
}

/// Whether a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// To the producer.
    Goes,
    /// To the producer, alone of its key; its topic took nothing so far.
    Doubtful,
    /// It stays in the table: its key waits for another row.
    Stays,
}

impl Refusals {
    /// Looks a topic up.
    pub(crate) fn care(&self, topic: &str, limit: Option<usize>) -> Care {
        if self.policies.are_plain() {
            return Care::default();
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Care {
            policy: self.policies.policy(topic),
            topic: memory.held.topic(topic),
            limit,
        }
    }

    /// Notes what a refusal of the row comes to.
    pub(crate) fn mark(&self, shared: &Shared, ticket: Ticket, event: &Event<'_>, care: &Care) {
        if self.policies.are_plain() {
            return;
        }
        let lane = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.held.lane(event.key, row(event))
        };
        let Care { policy, topic, .. } = *care;
        shared.window().mark(
            ticket,
            Fate {
                policy,
                lane,
                topic,
            },
        );
    }

    /// Asks whether a row may go now.
    pub(crate) fn pass(
        &self,
        shared: &Shared,
        ticket: Ticket,
        event: &Event<'_>,
        care: &Care,
    ) -> Pass {
        self.mark(shared, ticket, event, care);
        if !self.policies.hold_keys() {
            return Pass::Goes;
        }
        let row = row(event);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let is_proven = memory.held.is_proven(care.topic);
        let doubtful = care.policy == Poison::HoldKey
            && (!is_proven || care.may_be_too_large(event) || memory.suspects.contains(&row));
        let lane = memory.held.lane(event.key, row);
        if memory.held.passes(lane, row, care.topic, doubtful) {
            return match doubtful && !is_proven {
                true => Pass::Doubtful,
                false => Pass::Goes,
            };
        }
        memory.suspects.remove(&row);
        drop(memory);
        shared.window().give_up(ticket);
        shared.room.notify_waiters();
        Pass::Stays
    }
}

impl Care {
    /// The broker judges the compressed batch, so this is a suspicion.
    fn may_be_too_large(&self, event: &Event<'_>) -> bool {
        let fields = [
            event.payload,
            event.key,
            event.headers,
            Some(event.event_type),
        ];
        let bytes: usize = fields.into_iter().flatten().map(<[u8]>::len).sum();
        self.limit.is_some_and(|limit| bytes + FRAME > limit)
    }
}

fn row(event: &Event<'_>) -> Sent {
    Sent {
        id: event.id,
        created_at: event.created_at,
    }
}
