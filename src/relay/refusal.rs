//! Rows that Kafka can never take: named once, counted, left in the table, and not tried again while this process runs.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::error;

use super::shared::{Counters, Memory, Shared};
use super::window::Ticket;

/// Where refusals are written down.
pub(crate) struct Refusals {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) counters: Arc<Counters>,
}

impl Refusals {
    /// The row stays where it is; the others go on.
    pub(crate) fn refuse(&self, shared: &Shared, ticket: Ticket, reason: &str) {
        let Some(row) = shared.window().give_up(ticket) else {
            return;
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.suspects.remove(&row);
        if memory.refused.insert(row.id, row.created_at) != Some(row.created_at) {
            drop(memory);
            self.counters.count_refused();
            error!(
                row.id = row.id,
                error = reason,
                "Kafka cannot take this row: it stays in the table and is skipped until the relay is restarted"
            );
        }
        shared.room.notify_waiters();
    }
}
