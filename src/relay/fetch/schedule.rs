//! When to look for rows that are not sent before a time and whose time has come.
//!
//! The fetch by id does not see them. Each look reads the rows whose time has come by an index of
//! its own, from the earliest on, and when the next one comes: the timer is set to that. So a relay
//! that sleeps asks for nothing until then. A look is part of every complete fetch, and therefore
//! comes before each sleep; a writer rings for such a row as for any other.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::time;

use crate::event::RowId;
use crate::relay::clock::rest_after;
use crate::relay::monitor::Monitor;

/// A relay that stays awake looks this often: a writer is silent then.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Looks take at most this share of the time.
const LOOK_SHARE: u32 = 2;
/// The timer is set no further ahead, so that no addition of times overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// When rows came due, in microseconds since the Unix epoch.
pub(super) type DueTimes = FxHashMap<RowId, i64>;

/// When to look for rows whose time has come.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// When the next row comes due, or a look is wanted.
    pub(super) timer: Option<time::Instant>,
    /// Whether the last look left rows: the next fetch goes on.
    pub(super) is_left: bool,
    /// The fetches of an awake relay look again from then on.
    next_look: Instant,
    /// Whether the last fetch looked before it read the rows above the cursor. They take turns, so
    /// that neither kind waits for the end of a backlog of the other.
    pub(super) went_first: bool,
    /// Rows whose time has come and whose key waits, and since when the first of them is due.
    pub(super) waiting: (u64, Option<i64>),
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self {
            timer: None,
            is_left: false,
            next_look: Instant::now(),
            went_first: true,
            waiting: (0, None),
        }
    }

    /// Has the next fetch look.
    pub(super) fn look_with_next_fetch(&mut self) {
        self.next_look = Instant::now();
    }

    /// Has the relay look at once, also while it sleeps.
    pub(super) fn look_now(&mut self) {
        self.look_with_next_fetch();
        self.timer = Some(time::Instant::now());
    }

    /// Records all rows that wait for a key; `below` are those that were read by id.
    pub(super) fn tell_waiting(&self, below: (u64, Option<i64>), counters: &Monitor) {
        let oldest = below.1.into_iter().chain(self.waiting.1).min();
        counters.held(below.0 + self.waiting.0, oldest);
    }

    /// Records a look that took so long and found so many rows; `complete` if it left none.
    pub(super) fn looked(
        &mut self,
        took: Duration,
        (rows, complete): (usize, bool),
        next: Option<time::Instant>,
    ) {
        self.is_left = !complete;
        let rest = rest_after(took, LOOK_SHARE);
        let rest_awake = match rows {
            0 => rest.max(LOOK_INTERVAL),
            _ => rest,
        };
        self.next_look = Instant::now() + rest_awake;
        // What was left is for a fetch, which waits until there is room.
        let next = next.filter(|_| complete);
        self.timer = next.map(|next| next.max(time::Instant::now() + rest));
    }

    /// Whether the next fetch is to look.
    pub(super) fn wants_look(&self) -> bool {
        let is_due = |timer| timer <= time::Instant::now();
        self.is_left || self.next_look <= Instant::now() || self.timer.is_some_and(is_due)
    }
}
