//! The window under random completions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::relay::poison::TopicBook;

const LIMITS: Limits = Limits {
    rows: 8,
    bytes: 100,
};

fn row(id: i64) -> RowId {
    RowId {
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

/// What the window should hold, in the simplest form.
#[derive(Default)]
struct Model {
    sent: BTreeMap<Ticket, usize>,
    acknowledged: BTreeMap<Ticket, ()>,
    taken: Vec<Ticket>,
}

#[test]
fn a_dropped_row_is_deleted_with_the_others_and_no_receipt_names_it() {
    let mut window = Window::new(LIMITS);
    let tickets: Vec<_> = (1..=3).map(|id| window.admit(row(id), 7)).collect();
    window.drop_row(tickets[1]);
    let named = |window: &Window| -> Vec<i64> {
        let named = window.named_before(window.next_ticket());
        named.iter().map(|it| it.row.id).collect()
    };
    assert_eq!(named(&window), [1, 3]);
    let standing = window.standing();
    assert_eq!((standing.unacknowledged, standing.bytes), (2, 14));
    assert_eq!(window.acknowledge(tickets[1]), None, "it is on no wire");
    assert_eq!(
        window.on_the_wire(0, window.next_ticket()),
        [tickets[0], tickets[2]]
    );
    window.acknowledge(tickets[0]);
    assert_eq!(
        window.take(false),
        [(tickets[0], row(1)), (tickets[1], row(2))]
    );
    assert!(window.is_dropped(tickets[1]) && !window.is_dropped(tickets[0]));
    window.deleted([tickets[0], tickets[1]]);
    assert_eq!(named(&window), [3]);
    assert_eq!(window.len(), 1);
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
                    let on_the_ring = || model.sent.range(window.first..).next();
                    let limit = if all { None } else { on_the_ring() };
                    let limit = limit.map_or(Ticket::MAX, |(ticket, _)| *ticket);
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
            prop_assert_eq!(window.acknowledged(), model.acknowledged.len());
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
    assert!(window.left(ticket, row(1), Reason::Locked));
    window.deleted([ticket]);
    assert!(window.slots.is_empty());
    assert!(window.known().contains(&row(1)));
    assert_eq!(window.room().map(|it| it.rows), Some(LIMITS.rows - 1));
    window.undeleted_rows().gone(&row(1));
    assert!(window.known().is_empty());
}

#[test]
fn a_row_that_waits_leaves_the_others_their_room() {
    let mut window = Window::new(LIMITS);
    let mut book = TopicBook::default();
    let [its, others] = ["its", "others"].map(|name| book.number(name));
    let waits = window.admit(row(1), 1);
    window.goes_to(waits, its);
    for id in 2..1_000 {
        assert!(window.room().is_some(), "row {id}");
        let ticket = window.admit(row(id), 1);
        window.goes_to(ticket, others);
        window.acknowledge(ticket);
        let taken = window.take(true);
        window.deleted(taken.into_iter().map(|(ticket, _)| ticket));
        assert!(window.slots.len() <= 2 * LIMITS.rows);
    }
    assert_eq!((window.first_ticket(), window.len()), (waits, 1));
    assert_eq!(window.sent(waits).map(|(_, it)| it.topic), Some(its));
    assert!(window.known().contains(&row(1)));
    assert_eq!(window.acknowledge(waits), Some(row(1)));
    assert_eq!(window.take(false), [(waits, row(1))]);
    window.deleted([waits]);
    assert_eq!(
        (window.first_ticket(), window.len()),
        (window.next_ticket(), 0)
    );
}

#[test]
fn rows_that_never_reached_the_producer_are_as_if_never_fetched() {
    let mut window = Window::new(LIMITS);
    let tickets: Vec<_> = (0..3).map(|id| window.admit(row(id), 1)).collect();
    window.give_up_from(tickets[1]);
    assert_eq!(window.unacknowledged(), 1);
    assert_eq!(window.known().len(), 1);
}

fn at(window: &mut Window, run: u64) {
    let unix = 1_000_000 + i64::try_from(run).expect("small");
    window.tick(Moment { run, unix });
}

#[test]
fn what_waits_is_told_with_its_age_and_each_stage_is_timed() {
    let mut window = Window::new(LIMITS);
    at(&mut window, 100);
    assert_eq!(window.standing().unacknowledged_for, None);
    let first = window.admit(row(1), 7);
    at(&mut window, 150);
    let second = window.admit(row(2), 5);
    at(&mut window, 400);
    let standing = window.standing();
    assert_eq!(
        (standing.rows, standing.unacknowledged, standing.bytes),
        (2, 2, 12)
    );
    assert_eq!(standing.oldest, Some(10));
    // Since the first was sent: no report has come since.
    assert_eq!(standing.unacknowledged_for, Some(300));
    assert_eq!(standing.undeleted_for, None);

    window.acknowledge(second);
    at(&mut window, 600);
    let standing = window.standing();
    assert_eq!(standing.unacknowledged_for, Some(200));
    assert_eq!(standing.undeleted_for, Some(200));
    // A row that is given up does not show that Kafka takes any.
    let third = window.admit(row(3), 1);
    window.give_up(third);
    assert_eq!(window.standing().unacknowledged_for, Some(200));
    window.give_up(first);
    let taken = window.take(true);
    window.deleted(taken.into_iter().map(|(ticket, _)| ticket));
    let standing = window.standing();
    assert_eq!(
        (standing.unacknowledged_for, standing.undeleted_for),
        (None, None)
    );
    assert_eq!(standing.oldest, None);

    let (mut acknowledge, mut delete, mut total) =
        <(DurationCounts, DurationCounts, DurationCounts)>::default();
    acknowledge.add(250, 1);
    delete.add(200, 1);
    total.add(1_000_400 - 20, 1);
    let times = window.take_times();
    assert_eq!(times.acknowledge, acknowledge);
    assert_eq!(times.delete, delete);
    assert_eq!(times.total, total);
    assert!(window.take_times().total.is_empty());
}
