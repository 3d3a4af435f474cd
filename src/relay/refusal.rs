//! Rows that Kafka can never take: named once, counted, and left to the policy of their topic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::{debug, error, info};

use super::held::{self, Refused};
use super::shared::{Counters, Ending, Memory, Shared};
use super::window::{Fate, Ticket};
use crate::config::{Outbox, Poison};
use crate::kafka::Refusal;
use crate::postgres::{Convict, Sent};

/// The policies of an outbox.
pub(crate) struct Policies {
    usual: Poison,
    topics: BTreeMap<String, Poison>,
}

impl Policies {
    pub(crate) fn of(outbox: &Outbox) -> Self {
        Self {
            usual: outbox.poison,
            topics: outbox.poison_topics.clone(),
        }
    }

    /// That of a topic.
    pub(crate) fn policy(&self, topic: &str) -> Poison {
        self.topics.get(topic).copied().unwrap_or(self.usual)
    }

    /// Whether all rows have the same policy, and none needs to be known by its key.
    pub(crate) fn are_plain(&self) -> bool {
        self.topics.is_empty() && self.usual != Poison::HoldKey
    }

    /// Whether keys may have to wait.
    pub(crate) fn hold_keys(&self) -> bool {
        self.usual == Poison::HoldKey || self.topics.values().any(|it| *it == Poison::HoldKey)
    }
}

/// Where refusals are written down.
pub(crate) struct Refusals {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) policies: Policies,
    /// There is somebody to park.
    pub(crate) convicted: Notify,
}

impl Refusals {
    /// The row leaves the window; whether the others go on.
    pub(crate) fn refuse(&self, shared: &Shared, ticket: Ticket, refusal: Refusal) -> bool {
        let (row, fate) = {
            let mut window = shared.window();
            let Some((row, fate)) = window.sent(ticket) else {
                return !shared.halt.is_cancelled();
            };
            window.give_up(ticket);
            (row, fate)
        };
        let policy = match self.policies.are_plain() {
            true => self.policies.usual,
            false => fate.policy,
        };
        let goes_on = match policy {
            Poison::Park => self.park(row, refusal),
            Poison::HoldKey => self.hold(shared, row, fate, refusal),
            Poison::Stop => self.stop(shared, row, refusal, "the poison policy is stop".into()),
        };
        shared.room.notify_waiters();
        goes_on
    }

    /// Whether it is a row that was tried again: its refusal is no news.
    pub(crate) fn was_refused(&self, shared: &Shared, ticket: Ticket) -> bool {
        let row = shared.window().sent(ticket);
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        row.is_some_and(|(row, _)| memory.held.was_refused(row))
    }

    /// Keys that waited for one of these rows may go on.
    pub(crate) fn release<'a>(
        &self,
        shared: &Shared,
        delivered: impl IntoIterator<Item = &'a Sent>,
    ) {
        if !self.policies.hold_keys() {
            return;
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.held.is_empty() {
            return;
        }
        for row in delivered {
            if memory.held.delivered(*row) == Some(true) {
                info!(
                    row.id = row.id,
                    "a row that had been refused was taken: its key goes on"
                );
            }
        }
        if memory.held.has_over() {
            shared.held.notify_one();
        }
    }

    fn park(&self, row: Sent, refusal: Refusal) -> bool {
        let Refusal { code, reason } = refusal;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.suspects.remove(&row);
        if memory.refused.insert(row.id, row.created_at) != Some(row.created_at) {
            self.counters.refused.add(1);
            error!(
                row.id = row.id,
                error = reason,
                "Kafka cannot take this row: it goes to the dead letters, see `doorbell dead`"
            );
            memory.convicts.push_back(Convict { row, reason, code });
            drop(memory);
            self.convicted.notify_one();
        }
        true
    }

    fn hold(&self, shared: &Shared, row: Sent, fate: Fate, refusal: Refusal) -> bool {
        let refused = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.suspects.remove(&row);
            memory
                .held
                .refused(fate.lane, row, fate.topic, Instant::now())
        };
        shared.held.notify_one();
        let Refusal { reason, .. } = refusal;
        match refused {
            Refused::First => {
                self.counters.refused.add(1);
                error!(
                    row.id = row.id,
                    error = reason,
                    "Kafka cannot take this row: it stays in the table and is tried again, and later rows of its key wait behind it"
                );
            }
            Refused::Again => debug!(row.id = row.id, error = reason, "refused again"),
            Refused::Behind => {
                debug!(row.id = row.id, error = reason, "its key waits already");
            }
            Refused::Full => {
                let policy = format!(
                    "{} keys are held back already, and more are not remembered",
                    held::MOST
                );
                let refusal = Refusal { reason, ..refusal };
                return self.stop(shared, row, refusal, policy);
            }
        }
        true
    }

    fn stop(&self, shared: &Shared, row: Sent, refusal: Refusal, policy: String) -> bool {
        self.counters.refused.add(1);
        shared.end(Ending::Poison {
            id: row.id,
            reason: refusal.reason,
            policy,
        });
        false
    }
}
