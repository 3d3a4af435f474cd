//! Following rows through the relay from outside.

use std::time::{Instant, SystemTime};

use crate::event::{Event, RowId};

/// A station on the way of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The notification or timer that led to the fetch came.
    Woken,
    /// The fetch brought the row.
    Fetched,
    /// Kafka acknowledged the row.
    Acknowledged,
    /// The row is deleted.
    Deleted,
}

/// Follows the rows of one outbox.
///
/// The calls come from the tasks of the relay, so a slow observer slows the relay down. Each method
/// does nothing by default.
///
/// A *ticket* numbers the rows of one term in the order in which they were fetched. Tickets start
/// again from 0 after [`Observer::term_ended`].
pub trait Observer: Send + Sync {
    /// Rows with these ids passed a station at this time. A station reports rows in the order in
    /// which they arrive there.
    fn passed(&self, _step: Step, _ids: &mut dyn Iterator<Item = i64>, _at: Instant) {}

    /// A fetch that began at `begun` brought rows. The first has the ticket `first`, and the
    /// tickets of the others follow.
    fn fetched(&self, _first: usize, _ids: &mut dyn Iterator<Item = i64>, _begun: SystemTime) {}

    /// Rows from this ticket on are about to be handed to the producer. Returns whether
    /// [`Observer::sent`] is to be called for each of them.
    fn sending(&self, _from: usize) -> bool {
        false
    }

    /// The producer took a row.
    fn sent(&self, _ticket: usize, _topic: &str, _event: &Event<'_>) {}

    /// The rows before this ticket that were announced by [`Observer::sending`] were handed to the
    /// producer, refused, or left in the table.
    fn handed_over(&self, _next: usize) {}

    /// Delivery reports came: for rows that Kafka acknowledged, and for rows that failed, each with
    /// the error code.
    fn reported(
        &self,
        _acknowledged: &[usize],
        _failed: &mut dyn Iterator<Item = (usize, String)>,
    ) {
    }

    /// A transaction with all rows before this ticket was committed.
    fn committed(&self, _before: usize) {}

    /// A statement that began at `begun` deleted this number of the rows. Among them are those that
    /// a route drops, which were not sent.
    fn deleted(&self, _rows: &[(usize, RowId)], _deleted: u64, _begun: SystemTime) {}

    /// No more is reported about the rows before this ticket.
    fn finished(&self, _before: usize) {}

    /// The term is over: no more is reported about the rows that are in flight.
    fn term_ended(&self) {}
}
