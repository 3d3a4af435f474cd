//! The rows between fetch and delete, and the room that is left for more.
//!
//! Rows enter in the order of their fetch and get a ticket, a number that goes with the record
//! through the producer and comes back with its delivery report. The slots are a ring by ticket, so
//! a report finds its row without a search.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::Poison;
use crate::event::{ReceiptRow, RowId};
use crate::relay::clock::is_finite;
use crate::relay::histogram::DurationCounts;
use crate::relay::poison::{HoldId, TopicNumber};
use crate::relay::undeleted::{Reason, Undeleted};

/// A point in time by two clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// Microseconds since the term began.
    pub(crate) run: u64,
    /// Microseconds since the Unix epoch.
    pub(crate) unix: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Times {
    /// From the fetch to Kafka's acknowledgement.
    pub(crate) acknowledge: DurationCounts,
    /// From there to the delete.
    pub(crate) delete: DurationCounts,
    /// From creation to Kafka's acknowledgement.
    pub(crate) total: DurationCounts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFlightStats {
    pub(crate) rows: usize,
    pub(crate) unacknowledged: usize,
    pub(crate) bytes: usize,
    /// When the first row in flight was created.
    pub(crate) oldest: Option<i64>,
    /// The first row in flight, and for how many microseconds it has waited for Kafka or for its
    /// delete.
    pub(crate) first: Option<(RowId, u64)>,
    /// For how many microseconds no row was acknowledged, while some are sent.
    pub(crate) unacknowledged_for: Option<u64>,
    /// For how many microseconds no row was deleted, while some are acknowledged.
    pub(crate) undeleted_for: Option<u64>,
}

/// The number of a row in the order of arrival.
pub(crate) type Ticket = usize;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows that are fetched and not yet deleted.
    pub(crate) rows: usize,
    /// Bytes of rows that are fetched and not yet acknowledged.
    pub(crate) bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Sent,
    Acknowledged,
    Taken,
    /// Deleted, locked or given up.
    Over,
}

/// What follows when Kafka refuses a row. It is noted only if it is not the same for all rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RefusalPolicy {
    pub(crate) policy: Poison,
    pub(crate) key_hash: HoldId,
    pub(crate) topic: TopicNumber,
}

#[derive(Debug)]
struct Slot {
    row: RowId,
    bytes: usize,
    state: SlotState,
    policy: RefusalPolicy,
    /// When it came into this state, in microseconds since the term began.
    since: u64,
    /// The fingerprint of the row, in the exactly-once mode.
    hash: u32,
    /// Whether it is to be deleted without having been sent.
    is_dropped: bool,
}

#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    slots: VecDeque<Slot>,
    first: Ticket,
    /// From which ticket on rows go to a topic.
    topics: VecDeque<(Ticket, TopicNumber)>,
    /// Slots before the first, not over: rows that wait long while later ones are through. So the
    /// ring stays short, and a topic or partition that does not go on stops no other.
    stragglers: BTreeMap<Ticket, Slot>,
    /// Slots that are not over.
    rows: usize,
    /// Bytes of slots that are sent and not acknowledged.
    bytes: usize,
    /// Slots that are sent and not acknowledged.
    unacknowledged: usize,
    acknowledged: usize,
    /// Rows that Kafka has and that a delete left in the table.
    undeleted: Undeleted,
    /// Most rows, those that a delete left included: a receipt has to name them.
    nameable: usize,
    /// The time of the current call.
    now: Moment,
    /// When Kafka last acknowledged a row, or the first one was sent.
    arrived: u64,
    /// When a row was last deleted, or the first one was acknowledged.
    cleared: u64,
    times: Times,
    /// When rows came due that were not to be sent before, in microseconds since the Unix epoch.
    due: FxHashMap<Ticket, i64>,
}

impl Window {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
            first: 0,
            topics: VecDeque::new(),
            stragglers: BTreeMap::new(),
            rows: 0,
            bytes: 0,
            unacknowledged: 0,
            acknowledged: 0,
            undeleted: Undeleted::default(),
            nameable: usize::MAX,
            now: Moment::default(),
            arrived: 0,
            cleared: 0,
            times: Times::default(),
            due: FxHashMap::default(),
        }
    }

    /// Sets the time, before any change.
    pub(crate) fn tick(&mut self, now: Moment) {
        self.now = now;
    }

    pub(crate) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    pub(crate) fn standing(&self) -> InFlightStats {
        let since = |then: u64| self.now.run.saturating_sub(then);
        // The ring is trimmed: its first slot is never over.
        let straggler = self.stragglers.first_key_value().map(|(_, slot)| slot);
        let first = straggler.or(self.slots.front());
        let oldest = first.map(|slot| self.waits_since(self.first_ticket(), slot.row));
        InFlightStats {
            rows: self.len(),
            unacknowledged: self.unacknowledged,
            bytes: self.bytes,
            first: first.map(|slot| (slot.row, since(slot.since))),
            oldest: oldest.into_iter().chain(self.undeleted.oldest()).min(),
            unacknowledged_for: (self.unacknowledged > 0).then(|| since(self.arrived)),
            undeleted_for: (self.undeleted() > 0).then(|| since(self.cleared)),
        }
    }

    /// Acknowledged rows that no other session has locked.
    fn undeleted(&self) -> usize {
        self.rows - self.unacknowledged
    }

    /// Begins with rows that an earlier term could not delete.
    pub(crate) fn carrying(mut self, undeleted: Undeleted) -> Self {
        self.undeleted = undeleted;
        self
    }

    /// For rows that receipts name: no more than so many.
    pub(crate) fn naming(mut self, most: usize) -> Self {
        self.nameable = most;
        self
    }

    /// The room for the next fetch, unless it is too small to be worth one. A quarter of the rows
    /// and of the bytes must be free: smaller fetches would make as many statements as rows.
    pub(crate) fn room(&self) -> Option<Room> {
        let nameable = self.nameable.saturating_sub(self.len());
        let rows = self.limits.rows.saturating_sub(self.len()).min(nameable);
        let bytes = self.limits.bytes.saturating_sub(self.bytes);
        let enough = rows > 0
            && bytes > 0
            && rows * 4 >= self.limits.rows.min(self.nameable)
            && bytes * 4 >= self.limits.bytes;
        enough.then_some(Room { rows, bytes })
    }

    pub(crate) fn admit(&mut self, row: RowId, bytes: usize) -> Ticket {
        if self.unacknowledged == 0 {
            self.arrived = self.now.run;
        }
        self.rows += 1;
        self.bytes += bytes;
        self.unacknowledged += 1;
        self.slots.push_back(Slot {
            row,
            bytes,
            state: SlotState::Sent,
            policy: RefusalPolicy::default(),
            since: self.now.run,
            hash: 0,
            is_dropped: false,
        });
        self.first + self.slots.len() - 1
    }

    pub(crate) fn next_ticket(&self) -> Ticket {
        self.first + self.slots.len()
    }

    /// Notes when a row came due that was not to be sent before.
    pub(crate) fn came_due(&mut self, ticket: Ticket, since: i64) {
        self.due.insert(ticket, since);
    }

    /// How many such rows are in flight.
    pub(crate) fn due_in_flight(&self) -> usize {
        self.due.len()
    }

    /// When a row was created or came due, in microseconds since the Unix epoch.
    fn waits_since(&self, ticket: Ticket, row: RowId) -> i64 {
        self.due.get(&ticket).copied().unwrap_or(row.created_at)
    }

    /// Notes what follows when Kafka refuses the row.
    pub(crate) fn mark(&mut self, ticket: Ticket, policy: RefusalPolicy) {
        if let Some(slot) = self.slot(ticket) {
            slot.policy = policy;
        }
    }

    /// Notes to which topic the rows from this ticket on go.
    pub(crate) fn goes_to(&mut self, ticket: Ticket, topic: TopicNumber) {
        self.topics.push_back((ticket, topic));
    }

    /// The row, if it is sent and not reported on, and what follows a refusal.
    pub(crate) fn sent(&self, ticket: Ticket) -> Option<(RowId, RefusalPolicy)> {
        let (slot, topic) = match ticket.checked_sub(self.first) {
            Some(index) => (self.slots.get(index)?, self.topic(ticket)),
            None => {
                let slot = self.stragglers.get(&ticket)?;
                (slot, slot.policy.topic)
            }
        };
        let policy = RefusalPolicy {
            topic,
            ..slot.policy
        };
        (slot.state == SlotState::Sent).then_some((slot.row, policy))
    }

    /// The topic to which a row on the ring goes.
    fn topic(&self, ticket: Ticket) -> TopicNumber {
        let after = self.topics.partition_point(|(first, _)| *first <= ticket);
        let last = after.checked_sub(1);
        last.map_or_else(TopicNumber::default, |it| self.topics[it].1)
    }

    /// Notes the fingerprints of the rows from this ticket on.
    pub(crate) fn describe(&mut self, ticket: Ticket, hashes: impl IntoIterator<Item = u32>) {
        for (ticket, hash) in (ticket..).zip(hashes) {
            if let Some(slot) = self.slot(ticket) {
                slot.hash = hash;
            }
        }
    }

    /// The rows from `first` up to `end` that are sent and not reported on.
    pub(crate) fn on_the_wire(&self, first: Ticket, end: Ticket) -> Vec<Ticket> {
        let sent = |ticket: &Ticket| self.sent(*ticket).is_some();
        (first..end).filter(sent).collect()
    }

    /// The rows of the transaction that ends here and of earlier ones, not known to be deleted.
    pub(crate) fn named_before(&self, end: Ticket) -> Vec<ReceiptRow> {
        let rows = self.slots.iter().take(end.saturating_sub(self.first));
        let on_the_ring = rows.filter(|slot| slot.state != SlotState::Over);
        let before = self.stragglers.range(..end).map(|(_, slot)| slot);
        before
            .chain(on_the_ring)
            .filter(|slot| !slot.is_dropped)
            .map(|slot| ReceiptRow {
                row: slot.row,
                fingerprint: slot.hash,
            })
            .chain(self.undeleted.named())
            .collect()
    }

    /// The first ticket that is not over: every row before it is deleted, or was left in the table
    /// by its delete.
    pub(crate) fn first_ticket(&self) -> Ticket {
        let straggler = self.stragglers.first_key_value();
        straggler.map_or(self.first, |(ticket, _)| *ticket)
    }

    /// Notes that Kafka acknowledged the row, and returns it.
    pub(crate) fn acknowledge(&mut self, ticket: Ticket) -> Option<RowId> {
        if self.undeleted() == 0 {
            self.cleared = self.now.run;
        }
        let (row, waited) = self.leave_the_wire(ticket, SlotState::Acknowledged)?;
        self.acknowledged += 1;
        self.arrived = self.now.run;
        self.times.acknowledge.add(waited, 1);
        let since = self.waits_since(ticket, row);
        if is_finite(since) {
            let age = self.now.unix.saturating_sub(since);
            self.times.total.add(age.max(0).unsigned_abs(), 1);
        }
        Some(row)
    }

    /// Has the row deleted with those that Kafka acknowledged, although it was not sent.
    pub(crate) fn drop_row(&mut self, ticket: Ticket) {
        if self.undeleted() == 0 {
            self.cleared = self.now.run;
        }
        if self
            .leave_the_wire(ticket, SlotState::Acknowledged)
            .is_some()
        {
            self.acknowledged += 1;
            if let Some(slot) = self.slot(ticket) {
                slot.is_dropped = true;
            }
        }
    }

    /// Whether the row was never sent, because a route drops it.
    pub(crate) fn is_dropped(&mut self, ticket: Ticket) -> bool {
        self.slot(ticket).is_some_and(|slot| slot.is_dropped)
    }

    /// Gives a row up: it stays in the table, and is not sent in this term or not now.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> Option<RowId> {
        let (row, _) = self.leave_the_wire(ticket, SlotState::Over)?;
        self.stragglers.remove(&ticket);
        self.due.remove(&ticket);
        self.rows -= 1;
        self.trim();
        Some(row)
    }

    /// Gives up the rows from this ticket on, which were never handed to the producer.
    pub(crate) fn give_up_from(&mut self, ticket: Ticket) {
        for ticket in ticket..self.next_ticket() {
            self.give_up(ticket);
        }
    }

    /// Takes acknowledged rows that are to be deleted now. Without `all`, only those before the
    /// first that is not acknowledged: they make long runs of consecutive ids, which are deleted
    /// much faster.
    pub(crate) fn take(&mut self, all: bool) -> Vec<(Ticket, RowId)> {
        let mut taken = Vec::new();
        for (ticket, slot) in &mut self.stragglers {
            if slot.state == SlotState::Acknowledged {
                slot.state = SlotState::Taken;
                taken.push((*ticket, slot.row));
            }
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            match slot.state {
                SlotState::Sent if !all => break,
                SlotState::Acknowledged => {
                    slot.state = SlotState::Taken;
                    taken.push((self.first + index, slot.row));
                }
                SlotState::Sent | SlotState::Taken | SlotState::Over => {}
            }
        }
        self.acknowledged -= taken.len();
        taken
    }

    /// Acknowledged rows whose delete has not begun.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Whether the next fetch may lack the room of the acknowledged rows.
    pub(crate) fn needs_deletes(&self) -> bool {
        self.acknowledged > self.limits.rows / 4 || self.room().is_none()
    }

    pub(crate) fn deleted(&mut self, tickets: impl IntoIterator<Item = Ticket>) {
        let now = self.now.run;
        self.cleared = now;
        for ticket in tickets {
            if let Some(slot) = self.slot(ticket)
                && slot.state == SlotState::Taken
            {
                slot.state = SlotState::Over;
                let waited = now.saturating_sub(slot.since);
                self.times.delete.add(waited, 1);
                self.rows -= 1;
                self.stragglers.remove(&ticket);
                self.due.remove(&ticket);
            }
        }
        self.trim();
    }

    /// A delete left the row in the table: it leaves the ring and stays known. Returns whether that
    /// is new.
    pub(crate) fn left(&mut self, ticket: Ticket, row: RowId, reason: Reason) -> bool {
        let hash = self.slot(ticket).map_or(0, |slot| slot.hash);
        self.undeleted.add(row, hash, reason)
    }

    /// Rows that Kafka has and that a delete left in the table.
    pub(crate) fn undeleted_rows(&mut self) -> &mut Undeleted {
        &mut self.undeleted
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    pub(crate) fn len(&self) -> usize {
        self.rows + self.undeleted.len()
    }

    pub(crate) fn known(&self) -> FxHashSet<RowId> {
        let slots = self.stragglers.values().chain(&self.slots);
        let not_over = slots.filter(|slot| slot.state != SlotState::Over);
        let in_flight = not_over.map(|slot| slot.row);
        in_flight.chain(self.undeleted.rows()).collect()
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        match ticket.checked_sub(self.first) {
            Some(index) => self.slots.get_mut(index),
            None => self.stragglers.get_mut(&ticket),
        }
    }

    /// Ends the wait for a report. Returns the row, and how long the wait was.
    fn leave_the_wire(&mut self, ticket: Ticket, state: SlotState) -> Option<(RowId, u64)> {
        let now = self.now.run;
        let slot = self
            .slot(ticket)
            .filter(|slot| slot.state == SlotState::Sent)?;
        let waited = now.saturating_sub(slot.since);
        (slot.state, slot.since) = (state, now);
        let (row, bytes) = (slot.row, slot.bytes);
        self.bytes -= bytes;
        self.unacknowledged -= 1;
        Some((row, waited))
    }

    fn trim(&mut self) {
        while let Some(slot) = self.slots.front() {
            let is_over = slot.state == SlotState::Over;
            if !is_over && self.slots.len() <= self.limits.rows.saturating_mul(2) {
                break;
            }
            let topic = (!is_over).then(|| self.topic(self.first));
            if let (Some(mut slot), Some(topic)) = (self.slots.pop_front(), topic) {
                slot.policy.topic = topic;
                self.stragglers.insert(self.first, slot);
            }
            self.first += 1;
        }
        while self
            .topics
            .get(1)
            .is_some_and(|(first, _)| *first <= self.first)
        {
            self.topics.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "in_flight_test.rs"]
mod tests;
