//! Batches that were taken from the first stage and wait for a transaction.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::super::scan::Fetched;
use super::super::window::Ticket;
use crate::postgres::Sent;

/// Of the first of them, a part may be sent already.
#[derive(Default)]
pub(crate) struct Queue {
    batches: VecDeque<Fetched>,
    /// The first row's ticket, or the next one's.
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

    /// The ticket of the first row that is not sent.
    pub(super) fn next(&self) -> Ticket {
        self.next
    }

    /// The first batch, and how many of its rows are sent.
    pub(super) fn front(&self) -> Option<(&Fetched, usize)> {
        let fetched = self.batches.front()?;
        Some((fetched, self.next - fetched.first))
    }

    /// Rows of the first batch that may go into a transaction that has `rows` already, and whether more may follow. A suspect goes alone.
    pub(super) fn part(
        &self,
        rows: usize,
        most: usize,
        suspects: &FxHashSet<Sent>,
    ) -> (usize, bool) {
        let Some((fetched, sent)) = self.front() else {
            return (0, false);
        };
        let room = most.saturating_sub(rows);
        if suspects.is_empty() {
            return (room.min(fetched.batch.len() - sent), true);
        }
        let mut innocent = 0;
        for head in fetched.batch.heads().skip(sent).take(room) {
            let (id, created_at) = (head.id, head.created_at);
            if suspects.contains(&Sent { id, created_at }) {
                return (if rows + innocent == 0 { 1 } else { innocent }, false);
            }
            innocent += 1;
        }
        (innocent, true)
    }

    /// The rows before this ticket are sent.
    pub(super) fn advance(&mut self, next: Ticket) {
        self.next = next;
        let is_sent = |fetched: &Fetched| next == fetched.first + fetched.batch.len();
        if self.batches.front().is_some_and(is_sent) {
            self.batches.pop_front();
        }
    }
}
