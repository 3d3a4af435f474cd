//! Rows that Kafka can never take: named once, counted, and left to the policy.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tracing::error;

use super::shared::{Counters, Ending, Memory, Shared};
use super::window::Ticket;
use crate::config::Poison;
use crate::kafka::Refusal;
use crate::postgres::Convict;

/// Where refusals are written down.
pub(crate) struct Refusals {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) policy: Poison,
    /// There is somebody to park.
    pub(crate) convicted: Notify,
}

impl Refusals {
    /// The row leaves the window; whether the others go on.
    pub(crate) fn refuse(&self, shared: &Shared, ticket: Ticket, refusal: Refusal) -> bool {
        let Some(row) = shared.window().give_up(ticket) else {
            return self.policy == Poison::Park;
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.suspects.remove(&row);
        let Refusal { code, reason } = refusal;
        if self.policy == Poison::Stop {
            drop(memory);
            self.counters.count_refused();
            let id = row.id;
            shared.end(Ending::Poison { id, reason });
            return false;
        }
        if memory.refused.insert(row.id, row.created_at) != Some(row.created_at) {
            self.counters.count_refused();
            error!(
                row.id = row.id,
                error = reason,
                "Kafka cannot take this row: it goes to the dead letters, see `doorbell dead`"
            );
            memory.convicts.push_back(Convict { row, reason, code });
            drop(memory);
            self.convicted.notify_one();
        }
        shared.room.notify_waiters();
        true
    }
}
