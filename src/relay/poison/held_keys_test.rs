//! The books of keys that wait.

use proptest::prelude::*;

use super::super::topic_book::Judgement;
use super::*;
use crate::kafka::{Code, Refusal};

fn row(id: i64) -> RowId {
    RowId { id, created_at: id }
}

fn refuse(held: &mut Held, key: &str, id: i64, now: Instant) -> Refused {
    let key_hash = held.key_hash(Some(key.as_bytes()), row(id));
    held.refused(key_hash, row(id), TopicNumber::default(), now)
}

fn passes(held: &mut Held, key: Option<&str>, id: i64, doubtful: bool) -> bool {
    let key_hash = held.key_hash(key.map(str::as_bytes), row(id));
    held.passes(key_hash, row(id), TopicNumber::default(), doubtful)
}

#[test]
fn a_refused_row_keeps_its_key_and_no_other_until_it_is_delivered() {
    let (mut held, now) = (Held::default(), Instant::now());
    assert_eq!(refuse(&mut held, "a", 5, now), Refused::First);
    assert!(!passes(&mut held, Some("a"), 7, false));
    assert!(!passes(&mut held, Some("a"), 6, false));
    assert!(passes(&mut held, Some("b"), 8, false));
    assert!(passes(&mut held, None, 9, false));
    assert_eq!(held.take_due(now, 9), []);
    let then = now + FIRST_WAIT;
    assert_eq!(held.next_try(), Some(then));
    assert_eq!(held.take_due(then, 9), [row(5)]);
    assert!(passes(&mut held, Some("a"), 5, false), "itself");
    assert_eq!(refuse(&mut held, "a", 5, then), Refused::Again);
    assert_eq!(held.next_try(), Some(then + FIRST_WAIT * 2));
    assert_eq!(held.take_due(then + FIRST_WAIT * 2, 9), [row(5)]);
    assert_eq!(held.delivered(row(5)), Some(true));
    assert!(
        !passes(&mut held, Some("a"), 10, false),
        "the key is not free before the reading went back"
    );
    assert!(held.has_over());
    assert_eq!(held.release(), Some(6));
    assert!(held.is_empty());
    assert!(passes(&mut held, Some("a"), 6, false));
}

#[test]
fn rows_without_a_key_wait_for_no_other_row() {
    let (mut held, now) = (Held::default(), Instant::now());
    let key_hash = held.key_hash(None, row(1));
    assert_eq!(
        held.refused(key_hash, row(1), TopicNumber::default(), now),
        Refused::First
    );
    assert!(passes(&mut held, None, 2, true));
    assert_eq!(held.delivered(row(2)), Some(false));
    held.is_gone(row(1));
    assert!(held.is_empty() && held.next_try().is_none());
    assert_eq!(held.release(), None);
}

#[test]
fn waits_double_up_to_a_minute() {
    let (mut held, mut now) = (Held::default(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..8 {
        refuse(&mut held, "a", 1, now);
        let due = held.next_try().expect("a time");
        waits.push((due - now).as_secs());
        now = due;
        assert_eq!(held.take_due(now, 1), [row(1)]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_doubtful_row_goes_alone_and_proves_its_topic() {
    let mut held = Held::default();
    let topic = held.topics.number("t");
    assert_eq!(topic, held.topics.number("t"));
    let key_hash = held.key_hash(Some(b"a"), row(1));
    assert!(held.passes(key_hash, row(1), topic, true));
    assert!(!held.passes(key_hash, row(2), topic, true));
    assert!(!held.topics.is_proven(topic));
    assert_eq!(held.delivered(row(1)), Some(false));
    assert!(held.topics.is_proven(topic));
    assert_eq!(held.release(), Some(2));
    held.refused(key_hash, row(2), topic, Instant::now());
    assert!(!held.topics.is_proven(topic));
}

#[test]
fn a_row_that_was_given_another_key_leaves_its_own() {
    let (mut held, now) = (Held::default(), Instant::now());
    refuse(&mut held, "a", 1, now);
    assert!(!passes(&mut held, Some("a"), 2, false));
    held.take_due(now + FIRST_WAIT, 1);
    assert!(passes(&mut held, Some("b"), 1, false));
    assert_eq!(held.release(), Some(2));
    assert!(
        !passes(&mut held, Some("b"), 3, false),
        "it is alone there too"
    );
}

#[test]
fn of_two_that_are_refused_in_the_wrong_order_the_lower_goes_first() {
    let (mut held, now) = (Held::default(), Instant::now());
    refuse(&mut held, "a", 2, now);
    assert_eq!(refuse(&mut held, "a", 1, now), Refused::Behind);
    assert_eq!(held.take_due(now + FIRST_WAIT, 9), [row(1)]);
    assert_eq!(held.delivered(row(1)), Some(true));
    assert_eq!(held.release(), Some(2));
}

#[test]
fn there_is_a_most() {
    let (mut held, now) = (Held::default(), Instant::now());
    for id in 0..MOST as i64 {
        assert_eq!(refuse(&mut held, &id.to_string(), id, now), Refused::First);
    }
    let next = MOST as i64;
    assert_eq!(refuse(&mut held, "one more", next, now), Refused::Full);
    assert_eq!(refuse(&mut held, "7", next, now), Refused::Behind);
    held.is_gone(row(7));
    assert_eq!(refuse(&mut held, "one more", next, now), Refused::First);
}

/// What happens to a table with few keys, one step at a time.
#[derive(Debug, Clone)]
enum Step {
    /// The reading goes on by one row, which is doubtful or not.
    Read(bool),
    /// The first or another row on its way is delivered or refused.
    Report(usize, bool),
    /// All that is due is tried again.
    Try,
    /// Keys that may go on do.
    Release,
    /// A new term begins.
    StartOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<bool>().prop_map(Step::Read),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(n, good)| Step::Report(n, good)),
        2 => Just(Step::Try),
        3 => Just(Step::Release),
        1 => Just(Step::StartOver),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Rows 0..30 of three keys: all are delivered in the end, and those of a key in their order if
    /// every row is doubtful.
    #[test]
    fn all_rows_of_all_keys_are_delivered_and_in_order(steps in steps(), careful in any::<bool>()) {
        const ROWS: i64 = 30;
        let key = |id: i64| ["a", "b", "c"][(id % 3) as usize];
        let mut held = Held::default();
        let mut now = Instant::now();
        let (mut cursor, mut on_their_way, mut delivered) = (0, Vec::new(), Vec::<i64>::new());
        // In the end everything goes well.
        let end = (0..ROWS * 4).flat_map(|_| [Step::Read(true), Step::Report(0, true), Step::Try, Step::Release]);
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Read(doubtful) if cursor < ROWS => {
                    let id = cursor;
                    cursor += 1;
                    let known = delivered.contains(&id) || on_their_way.contains(&id) || held.heads().any(|it| it == row(id));
                    if !known && passes(&mut held, Some(key(id)), id, doubtful || careful) {
                        on_their_way.push(id);
                    }
                }
                Step::Read(_) => {}
                Step::Report(n, good) => if !on_their_way.is_empty() {
                    let id = on_their_way.remove(n % on_their_way.len());
                    if good {
                        held.delivered(row(id));
                        delivered.push(id);
                    } else {
                        refuse(&mut held, key(id), id, now);
                    }
                },
                Step::Try => {
                    now += LAST_WAIT;
                    for it in held.take_due(now, 2) {
                        prop_assert!(passes(&mut held, Some(key(it.id)), it.id, true));
                        on_their_way.push(it.id);
                    }
                }
                Step::Release => if let Some(lowest) = held.release() {
                    cursor = cursor.min(lowest);
                },
                Step::StartOver => {
                    on_their_way.clear();
                    held.start_over(now);
                    cursor = 0;
                }
            }
        }
        let mut all = delivered.clone();
        all.sort_unstable();
        prop_assert_eq!(all, (0..ROWS).collect::<Vec<_>>());
        prop_assert!(held.is_empty());
        if careful {
            for one in ["a", "b", "c"] {
                let of_key: Vec<_> = delivered.iter().filter(|id| key(**id) == one).collect();
                prop_assert!(of_key.is_sorted(), "{one}: {of_key:?}");
            }
        }
    }
}

#[test]
fn a_topic_waits_while_it_is_missing_and_again_after_many_refusals() {
    let missing = Refusal::foreseen(Code::UnknownTopicOrPartition, "no such topic");
    let (mut held, start) = (Held::default(), Instant::now());
    let patience = Duration::from_secs(30);
    let topic = held.topics.number("t");
    let judge = |held: &mut Held, seconds| {
        let now = start + Duration::from_secs(seconds);
        held.topics.judge(topic, &missing, now, patience, Some(2))
    };
    assert_eq!(judge(&mut held, 0), Judgement::Missing);
    assert_eq!(judge(&mut held, 29), Judgement::Wait);
    assert_eq!(judge(&mut held, 31), Judgement::Refuse);
    assert_eq!(judge(&mut held, 31), Judgement::Refuse);
    assert_eq!(judge(&mut held, 31), Judgement::Breaks);
    assert_eq!(judge(&mut held, 99), Judgement::Wait);
    held.refused(HoldId::Topic(topic), row(3), topic, start);
    held.opened(topic);
    assert!(
        !held.is_open(topic),
        "only a record shows that it takes some"
    );
    assert!(!held.is_undecided());
    assert!(!held.passes(HoldId::Topic(topic), row(4), topic, true));
    assert!(held.waits(row(5), Some(b"k"), Some("t")));
    assert_eq!(held.delivered(row(3)), Some(true));
    assert_eq!(held.release(), Some(4));
    assert!(held.is_open(topic) && !held.waits(row(5), Some(b"k"), Some("t")));
    // What is in a row is no fault of the topic.
    let other = Refusal::foreseen(Code::InvalidRecord, "no key");
    let judged = held.topics.judge(topic, &other, start, patience, Some(0));
    assert_eq!(judged, Judgement::Refuse);
}
