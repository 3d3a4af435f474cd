//! The rows between fetch and delete, and the room that is left for more.
//!
//! Rows enter in the order in which they were fetched and get a ticket: the number that travels with the record through the producer
//! and comes back with its delivery report. Slots are a ring by ticket, so a report finds its row without a search.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::postgres::Sent;

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

#[derive(Debug)]
struct Slot {
    row: Sent,
    bytes: usize,
    state: State,
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
    /// Rows that Kafka has and somebody else has locked: known, but off the ring, so that one of them holds nothing up.
    locked: FxHashMap<i64, i64>,
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
        }
    }

    /// The room for the next fetch; `None` while it is too small to be worth one. A quarter of the rows and of the bytes must be free: smaller bites
    /// would make as many statements as rows.
    pub(crate) fn room(&self) -> Option<Room> {
        let rows = self.limits.rows.saturating_sub(self.rows);
        let bytes = self.limits.bytes.saturating_sub(self.bytes);
        // The ring is longer than its rows while an old slot is not over: bounded as well.
        let ring_is_long = self.slots.len() >= self.limits.rows * 4;
        let enough = rows > 0
            && bytes > 0
            && rows * 4 >= self.limits.rows
            && bytes * 4 >= self.limits.bytes
            && !ring_is_long;
        enough.then_some(Room { rows, bytes })
    }

    /// A row was fetched and goes to Kafka.
    pub(crate) fn admit(&mut self, row: Sent, bytes: usize) -> Ticket {
        self.rows += 1;
        self.bytes += bytes;
        self.unacknowledged += 1;
        self.slots.push_back(Slot {
            row,
            bytes,
            state: State::Sent,
        });
        self.first + self.slots.len() - 1
    }

    /// The ticket that the next row will get.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.first + self.slots.len()
    }

    /// Kafka has the row: which one.
    pub(crate) fn acknowledge(&mut self, ticket: Ticket) -> Option<Sent> {
        let row = self.leave_the_wire(ticket, State::Acknowledged);
        self.acknowledged += usize::from(row.is_some());
        row
    }

    /// The row does not go to Kafka, or not now: it stays in the table.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> Option<Sent> {
        let row = self.leave_the_wire(ticket, State::Over);
        if row.is_some() {
            self.rows -= 1;
            self.trim();
        }
        row
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
        for ticket in tickets {
            if let Some(slot) = self.slot(ticket)
                && slot.state == State::Taken
            {
                slot.state = State::Over;
                self.rows -= 1;
            }
        }
        self.trim();
    }

    /// A row that was taken cannot be deleted now, since somebody holds it locked.
    pub(crate) fn is_locked(&mut self, row: Sent) {
        self.locked.insert(row.id, row.created_at);
    }

    /// Rows that were locked when they should have been deleted.
    pub(crate) fn locked(&self) -> Vec<i64> {
        self.locked.keys().copied().collect()
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
                    .map(|(id, created_at)| (*id, *created_at)),
            )
            .collect()
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        self.slots.get_mut(ticket.checked_sub(self.first)?)
    }

    fn leave_the_wire(&mut self, ticket: Ticket, state: State) -> Option<Sent> {
        let slot = self.slot(ticket).filter(|slot| slot.state == State::Sent)?;
        slot.state = state;
        let (row, bytes) = (slot.row, slot.bytes);
        self.bytes -= bytes;
        self.unacknowledged -= 1;
        Some(row)
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
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        rows: 8,
        bytes: 100,
    };

    fn row(id: i64) -> Sent {
        Sent {
            id,
            created_at: id * 10,
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit(usize),
        Acknowledge(usize),
        GiveUp(usize),
        Take(bool),
        DeleteSome(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..40_usize).prop_map(Step::Admit),
            4 => any::<usize>().prop_map(Step::Acknowledge),
            1 => any::<usize>().prop_map(Step::GiveUp),
            2 => any::<bool>().prop_map(Step::Take),
            2 => any::<usize>().prop_map(Step::DeleteSome),
        ];
        prop::collection::vec(step, 0..150)
    }

    /// What the window should think, in the plainest words.
    #[derive(Default)]
    struct Model {
        sent: BTreeMap<Ticket, usize>,
        acknowledged: BTreeMap<Ticket, ()>,
        taken: Vec<Ticket>,
    }

    proptest! {
        #[test]
        fn random_completions_keep_the_books(steps in steps()) {
            let mut window = Window::new(LIMITS);
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Admit(bytes) => {
                        let ticket = window.next_ticket();
                        prop_assert_eq!(window.admit(row(ticket as i64), bytes), ticket);
                        model.sent.insert(ticket, bytes);
                    }
                    Step::Acknowledge(n) => if let Some(&ticket) = model.sent.keys().nth(n % model.sent.len().max(1)) {
                        window.acknowledge(ticket);
                        window.acknowledge(ticket);
                        model.sent.remove(&ticket);
                        model.acknowledged.insert(ticket, ());
                    },
                    Step::GiveUp(n) => if let Some(&ticket) = model.sent.keys().nth(n % model.sent.len().max(1)) {
                        prop_assert_eq!(window.give_up(ticket), Some(row(ticket as i64)));
                        prop_assert_eq!(window.give_up(ticket), None);
                        model.sent.remove(&ticket);
                    },
                    Step::Take(all) => {
                        let limit = if all { Ticket::MAX } else { model.sent.keys().next().copied().unwrap_or(Ticket::MAX) };
                        let expected: Vec<_> = model.acknowledged.range(..limit).map(|(ticket, ())| *ticket).collect();
                        let taken: Vec<_> = window.take(all).into_iter().map(|(ticket, _)| ticket).collect();
                        prop_assert_eq!(&taken, &expected);
                        model.acknowledged.retain(|ticket, ()| *ticket >= limit);
                        model.taken.extend(taken);
                    }
                    Step::DeleteSome(n) => {
                        let rest = model.taken.split_off(n.min(model.taken.len()));
                        window.deleted(std::mem::replace(&mut model.taken, rest));
                    }
                }
                let known = model.sent.len() + model.acknowledged.len() + model.taken.len();
                prop_assert_eq!(window.len(), known);
                prop_assert_eq!(window.known().len(), known);
                prop_assert_eq!(window.unacknowledged(), model.sent.len());
                prop_assert_eq!(window.has_acknowledged(), !model.acknowledged.is_empty());
                prop_assert_eq!(window.bytes, model.sent.values().sum::<usize>());
            }
            let rest = window.next_ticket();
            for ticket in model.sent.into_keys() {
                window.acknowledge(ticket);
            }
            window.deleted(model.taken);
            let left: Vec<_> = window.take(true).into_iter().map(|(ticket, _)| ticket).collect();
            window.deleted(left);
            prop_assert!(window.slots.is_empty(), "a slot stayed behind");
            prop_assert_eq!(window.next_ticket(), rest, "tickets are never given twice");
        }
    }

    #[test]
    fn the_bounds_hold_and_room_comes_in_bites() {
        let mut window = Window::new(LIMITS);
        assert_eq!(
            window.room(),
            Some(Room {
                rows: 8,
                bytes: 100
            })
        );
        let tickets: Vec<_> = (0..7).map(|id| window.admit(row(id), 1)).collect();
        assert_eq!(window.room(), None, "one row free is not worth a statement");
        window.acknowledge(tickets[0]);
        window.take(false);
        assert_eq!(window.room(), None, "it is not deleted yet");
        window.deleted([tickets[0]]);
        assert_eq!(window.room(), Some(Room { rows: 2, bytes: 94 }));
        window.admit(row(9), 1_000);
        assert_eq!(
            window.room(),
            None,
            "one row larger than the bound goes, and fills it"
        );
    }

    #[test]
    fn a_locked_row_is_known_and_holds_nothing_up() {
        let mut window = Window::new(LIMITS);
        let ticket = window.admit(row(1), 1);
        window.acknowledge(ticket);
        window.take(true);
        window.is_locked(row(1));
        window.deleted([ticket]);
        assert!(window.slots.is_empty());
        assert_eq!(window.known().get(&1), Some(&10));
        assert_eq!(window.locked(), [1]);
        window.still_locked(&[]);
        assert!(window.known().is_empty());
    }

    #[test]
    fn rows_that_never_reached_the_producer_are_as_if_never_fetched() {
        let mut window = Window::new(LIMITS);
        let tickets: Vec<_> = (0..3).map(|id| window.admit(row(id), 1)).collect();
        window.give_up_from(tickets[1]);
        assert_eq!(window.unacknowledged(), 1);
        assert_eq!(window.known().len(), 1);
    }
}
