//! Batches that wait for a transaction.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::event::RowId;
use crate::relay::fetch::Fetched;
use crate::relay::in_flight::Ticket;

/// The waiting batches. A part of the first one may be sent already.
#[derive(Default)]
pub(crate) struct Queue {
    batches: VecDeque<Fetched>,
    /// The ticket of the first row that is not sent, or of the next row.
    next: Ticket,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn push(&mut self, fetched: Fetched) {
        if self.batches.is_empty() {
            self.next = fetched.first;
        }
        self.batches.push_back(fetched);
    }

    /// Returns the ticket of the first row that is not sent.
    pub(super) fn next(&self) -> Ticket {
        self.next
    }

    /// Returns the first batch, and how many of its rows are sent.
    pub(super) fn front(&self) -> Option<(&Fetched, usize)> {
        let fetched = self.batches.front()?;
        Some((fetched, self.next - fetched.first))
    }

    /// Returns how many rows of the first batch may go into a transaction that has `rows` already,
    /// and whether more may follow. A suspect goes alone.
    pub(super) fn part(
        &self,
        rows: usize,
        most: usize,
        suspects: &FxHashSet<RowId>,
    ) -> (usize, bool) {
        let Some((fetched, sent)) = self.front() else {
            return (0, false);
        };
        let room = most.saturating_sub(rows);
        if suspects.is_empty() {
            return (room.min(fetched.batch.len() - sent), true);
        }
        let mut clear = 0;
        for row in fetched.batch.rows().skip(sent).take(room) {
            if suspects.contains(&row) {
                return (if rows + clear == 0 { 1 } else { clear }, false);
            }
            clear += 1;
        }
        (clear, true)
    }

    /// Records that the rows before this ticket are sent.
    pub(super) fn advance(&mut self, next: Ticket) {
        self.next = next;
        let is_sent = |fetched: &Fetched| next == fetched.first + fetched.batch.len();
        if self.batches.front().is_some_and(is_sent) {
            self.batches.pop_front();
        }
    }
}
