//! Following rows through the relay from outside.

use std::time::Instant;

/// A station of a row's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The notification or the timer came that led to the fetch.
    Woken,
    /// The fetch brought the row.
    Fetched,
    /// Kafka has acknowledged it.
    Acknowledged,
    /// It is deleted.
    Deleted,
}

/// Is told where rows are. The calls come from the relay's own tasks: what takes long in here holds the relay up.
pub trait Observer: Send + Sync {
    /// Rows with these ids passed a station at this time. Each station is told in the order of the ids' arrival there.
    fn passed(&self, step: Step, rows: &mut dyn Iterator<Item = i64>, at: Instant);
}
