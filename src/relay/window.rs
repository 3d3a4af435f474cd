//! The rows between fetch and delete, and the room that is left for more.
//!
//! Rows enter in the order in which they were fetched and get a ticket: the number that travels with the record through the producer
//! and comes back with its delivery report. Slots are a ring by ticket, so a report finds its row without a search.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::held::{Lane, TopicNumber};
use super::vitals::{Tally, is_finite};
use crate::config::Poison;
use crate::event::Named;
use crate::postgres::Sent;

/// When something happens, by two clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// Microseconds since the term began.
    pub(crate) run: u64,
    /// Microseconds since the Unix epoch.
    pub(crate) unix: i64,
}

/// How long rows took, as far as the window sees it.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// From the fetch to Kafka's acknowledgement.
    pub(crate) acknowledge: Tally,
    /// From there to the delete.
    pub(crate) delete: Tally,
    /// From creation to Kafka's acknowledgement.
    pub(crate) total: Tally,
}

/// What is under way, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) rows: usize,
    pub(crate) unacknowledged: usize,
    pub(crate) bytes: usize,
    /// When the first row that is under way was created.
    pub(crate) oldest: Option<i64>,
    /// Rows are on their way, and for so many microseconds none was acknowledged.
    pub(crate) unacknowledged_for: Option<u64>,
    /// Rows are to be deleted, and for so many microseconds none was.
    pub(crate) undeleted_for: Option<u64>,
}

/// The number of a row in the order of arrival.
pub(crate) type Ticket = usize;

/// How much may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows that are fetched and not yet deleted.
    pub(crate) rows: usize,
    /// Bytes of rows that are fetched and not yet acknowledged.
    pub(crate) bytes: usize,
}

/// Room for a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// On its way to Kafka.
    Sent,
    /// Kafka has it.
    Acknowledged,
    /// Given out to be deleted.
    Taken,
    /// Nothing to do for this slot any more.
    Over,
}

/// What a refusal of a row comes to. Only where that is not the same for all rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fate {
    /// The policy for its topic.
    pub(crate) policy: Poison,
    /// Its key.
    pub(crate) lane: Lane,
    /// Its topic.
    pub(crate) topic: TopicNumber,
}

#[derive(Debug)]
struct Slot {
    row: Sent,
    bytes: usize,
    state: State,
    fate: Fate,
    /// When it got there, in microseconds since the term began.
    since: u64,
    /// What is in the row, where that was asked for.
    hash: u32,
}

/// What is under way for one outbox.
#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    slots: VecDeque<Slot>,
    /// The ticket of the first slot.
    first: Ticket,
    /// Slots that are not over.
    rows: usize,
    /// Bytes of slots that are sent and not acknowledged.
    bytes: usize,
    /// Slots that are sent and not acknowledged.
    unacknowledged: usize,
    /// Slots that are acknowledged and not taken.
    acknowledged: usize,
    /// Rows that Kafka has and somebody else has locked, with their creation and what is in them: known, but off the ring, so that one of them holds
    /// nothing up.
    locked: FxHashMap<i64, (i64, u32)>,
    /// Most rows, the locked ones included: a receipt has to name them.
    nameable: usize,
    /// What time it is.
    now: Moment,
    /// When Kafka last acknowledged a row, or the first came onto the wire.
    arrived: u64,
    /// When a row was last deleted, or the first was there to be.
    cleared: u64,
    times: Times,
}

impl Window {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
            first: 0,
            rows: 0,
            bytes: 0,
            unacknowledged: 0,
            acknowledged: 0,
            locked: FxHashMap::default(),
            nameable: usize::MAX,
            now: Moment::default(),
            arrived: 0,
            cleared: 0,
            times: Times::default(),
        }
    }

    /// Says what time it is, before anything is changed.
    pub(crate) fn tick(&mut self, now: Moment) {
        self.now = now;
    }

    /// How long rows took since this was last asked.
    pub(crate) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// What is under way.
    pub(crate) fn standing(&self) -> Standing {
        let since = |then: u64| self.now.run.saturating_sub(then);
        // The ring is trimmed: its first slot is never over.
        let oldest = self.slots.front().map(|slot| slot.row.created_at);
        Standing {
            rows: self.len(),
            unacknowledged: self.unacknowledged,
            bytes: self.bytes,
            oldest: oldest
                .into_iter()
                .chain(self.locked.values().map(|(created_at, _)| *created_at))
                .min(),
            unacknowledged_for: (self.unacknowledged > 0).then(|| since(self.arrived)),
            undeleted_for: (self.undeleted() > 0).then(|| since(self.cleared)),
        }
    }

    /// Rows that Kafka has and that nobody else holds.
    fn undeleted(&self) -> usize {
        self.rows - self.unacknowledged
    }

    /// For rows that receipts name: no more than so many, and these are locked by somebody else from an earlier term.
    pub(crate) fn naming(mut self, most: usize, carried: &[Named]) -> Self {
        self.nameable = most;
        let rows = carried.iter();
        self.locked = rows
            .map(|row| (row.id, (row.created_at, row.hash)))
            .collect();
        self
    }

    /// The room for the next fetch; `None` while it is too small to be worth one. A quarter of the rows and of the bytes must be free: smaller bites
    /// would make as many statements as rows.
    pub(crate) fn room(&self) -> Option<Room> {
        let nameable = self.nameable.saturating_sub(self.len());
        let rows = self.limits.rows.saturating_sub(self.rows).min(nameable);
        let bytes = self.limits.bytes.saturating_sub(self.bytes);
        // The ring is longer than its rows while an old slot is not over: bounded as well.
        let ring_is_long = self.slots.len() >= self.limits.rows * 4;
        let enough = rows > 0
            && bytes > 0
            && rows * 4 >= self.limits.rows.min(self.nameable)
            && bytes * 4 >= self.limits.bytes
            && !ring_is_long;
        enough.then_some(Room { rows, bytes })
    }

    /// A row was fetched and goes to Kafka.
    pub(crate) fn admit(&mut self, row: Sent, bytes: usize) -> Ticket {
        if self.unacknowledged == 0 {
            self.arrived = self.now.run;
        }
        self.rows += 1;
        self.bytes += bytes;
        self.unacknowledged += 1;
        self.slots.push_back(Slot {
            row,
            bytes,
            state: State::Sent,
            fate: Fate::default(),
            since: self.now.run,
            hash: 0,
        });
        self.first + self.slots.len() - 1
    }

    /// The ticket that the next row will get.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.first + self.slots.len()
    }

    /// Notes what a refusal of the row comes to.
    pub(crate) fn mark(&mut self, ticket: Ticket, fate: Fate) {
        if let Some(slot) = self.slot(ticket) {
            slot.fate = fate;
        }
    }

    /// A row that is on its way to Kafka, and what its refusal comes to.
    pub(crate) fn sent(&self, ticket: Ticket) -> Option<(Sent, Fate)> {
        let slot = self.slots.get(ticket.checked_sub(self.first)?)?;
        (slot.state == State::Sent).then_some((slot.row, slot.fate))
    }

    /// What is in the rows from this ticket on.
    pub(crate) fn describe(&mut self, ticket: Ticket, hashes: impl IntoIterator<Item = u32>) {
        for (ticket, hash) in (ticket..).zip(hashes) {
            if let Some(slot) = self.slot(ticket) {
                slot.hash = hash;
            }
        }
    }

    /// Those of the rows from `first` up to `end` that are on their way to Kafka.
    pub(crate) fn on_the_wire(&self, first: Ticket, end: Ticket) -> Vec<Ticket> {
        let sent = |ticket: &Ticket| self.sent(*ticket).is_some();
        (first..end).filter(sent).collect()
    }

    /// The rows before this ticket that are not known to be deleted: those of the transaction that ends there, and of earlier ones.
    pub(crate) fn named_before(&self, end: Ticket) -> Vec<Named> {
        let rows = self.slots.iter().take(end.saturating_sub(self.first));
        let on_the_ring = rows.filter(|slot| slot.state != State::Over);
        let locked = self.locked.iter();
        on_the_ring
            .map(|slot| Named {
                id: slot.row.id,
                created_at: slot.row.created_at,
                hash: slot.hash,
            })
            .chain(locked.map(|(id, (created_at, hash))| Named {
                id: *id,
                created_at: *created_at,
                hash: *hash,
            }))
            .collect()
    }

    /// The first ticket that is not over: every row before it is deleted, or locked by somebody else.
    pub(crate) fn first_ticket(&self) -> Ticket {
        self.first
    }

    /// Kafka has the row: which one.
    pub(crate) fn acknowledge(&mut self, ticket: Ticket) -> Option<Sent> {
        if self.undeleted() == 0 {
            self.cleared = self.now.run;
        }
        let (row, waited) = self.leave_the_wire(ticket, State::Acknowledged)?;
        self.acknowledged += 1;
        self.arrived = self.now.run;
        self.times.acknowledge.add(waited, 1);
        if is_finite(row.created_at) {
            let age = self.now.unix.saturating_sub(row.created_at);
            self.times.total.add(age.max(0).unsigned_abs(), 1);
        }
        Some(row)
    }

    /// The row does not go to Kafka, or not now: it stays in the table.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> Option<Sent> {
        let (row, _) = self.leave_the_wire(ticket, State::Over)?;
        self.rows -= 1;
        self.trim();
        Some(row)
    }

    /// Rows from this ticket on were never handed to the producer: they are as if never fetched.
    pub(crate) fn give_up_from(&mut self, ticket: Ticket) {
        for ticket in ticket..self.next_ticket() {
            self.give_up(ticket);
        }
    }

    /// Acknowledged rows, to be deleted now. Without `all` only those before the first that is still on its way: they make long runs of
    /// consecutive ids, which go much faster.
    pub(crate) fn take(&mut self, all: bool) -> Vec<(Ticket, Sent)> {
        let mut taken = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            match slot.state {
                State::Sent if !all => break,
                State::Acknowledged => {
                    slot.state = State::Taken;
                    taken.push((self.first + index, slot.row));
                }
                State::Sent | State::Taken | State::Over => {}
            }
        }
        self.acknowledged -= taken.len();
        taken
    }

    /// Whether acknowledged rows wait to be taken.
    pub(crate) fn has_acknowledged(&self) -> bool {
        self.acknowledged > 0
    }

    /// Rows that were taken are deleted.
    pub(crate) fn deleted(&mut self, tickets: impl IntoIterator<Item = Ticket>) {
        let now = self.now.run;
        self.cleared = now;
        for ticket in tickets {
            if let Some(slot) = self.slot(ticket)
                && slot.state == State::Taken
            {
                slot.state = State::Over;
                let waited = now.saturating_sub(slot.since);
                self.times.delete.add(waited, 1);
                self.rows -= 1;
            }
        }
        self.trim();
    }

    /// A row that was taken cannot be deleted now, since somebody holds it locked.
    pub(crate) fn is_locked(&mut self, row: Sent) {
        let slot = self.slots.iter().find(|slot| slot.row == row);
        let hash = slot.map_or(0, |slot| slot.hash);
        self.locked.insert(row.id, (row.created_at, hash));
    }

    /// Rows that were locked when they should have been deleted.
    pub(crate) fn locked(&self) -> Vec<Sent> {
        let row = |(id, (created_at, _)): (&i64, &(i64, u32))| Sent {
            id: *id,
            created_at: *created_at,
        };
        self.locked.iter().map(row).collect()
    }

    /// Of the locked rows these are left.
    pub(crate) fn still_locked(&mut self, left: &[i64]) {
        self.locked.retain(|id, _| left.contains(id));
    }

    /// How many are on their way to Kafka.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// How many are fetched and not deleted.
    pub(crate) fn len(&self) -> usize {
        self.rows + self.locked.len()
    }

    /// All rows that must not be fetched again: id and creation.
    pub(crate) fn known(&self) -> FxHashMap<i64, i64> {
        let on_the_ring = self
            .slots
            .iter()
            .filter(|slot| slot.state != State::Over)
            .map(|slot| (slot.row.id, slot.row.created_at));
        on_the_ring
            .chain(
                self.locked
                    .iter()
                    .map(|(id, (created_at, _))| (*id, *created_at)),
            )
            .collect()
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        self.slots.get_mut(ticket.checked_sub(self.first)?)
    }

    /// The row, and how long it was on its way.
    fn leave_the_wire(&mut self, ticket: Ticket, state: State) -> Option<(Sent, u64)> {
        let now = self.now.run;
        let slot = self.slot(ticket).filter(|slot| slot.state == State::Sent)?;
        let waited = now.saturating_sub(slot.since);
        (slot.state, slot.since) = (state, now);
        let (row, bytes) = (slot.row, slot.bytes);
        self.bytes -= bytes;
        self.unacknowledged -= 1;
        Some((row, waited))
    }

    fn trim(&mut self) {
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.state == State::Over)
        {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
#[path = "window_test.rs"]
mod tests;
