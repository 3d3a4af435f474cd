//! The judge on records that are made up.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::judge::*;
use crate::cli::tally::NAMED;

fn id(seq: i64) -> Uuid {
    Uuid::from_u128(seq as u128)
}

/// Records of one partition: key and seq, with the offset by position.
fn judged(records: &[(Option<&str>, i64)]) -> Judge {
    let mut judge = Judge::default();
    judge.begin("t");
    for (offset, (key, seq)) in records.iter().enumerate() {
        judge.see(&Sighting {
            partition: 0,
            offset: offset as i64,
            key: key.map(str::as_bytes),
            seq: *seq,
            id: id(*seq),
        });
    }
    judge
}

fn table(seqs: &[i64]) -> Vec<(i64, Uuid)> {
    seqs.iter().map(|seq| (*seq, id(*seq))).collect()
}

#[test]
fn a_replay_after_a_crash_is_doubles_and_no_disorder() {
    let a = Some("a");
    let found = judged(&[(a, 1), (a, 2), (a, 3), (a, 2), (a, 3), (a, 4)]).finish(&[], &[], None);
    assert_eq!((found.records, found.events), (6, 4));
    assert_eq!(found.doubled.count, 2);
    assert_eq!(found.out_of_order.count, 0);
    let second = &found.doubled.first[0];
    assert_eq!((second.seq, second.place.offset), (2, 3));
    assert_eq!(second.earlier.offset, 1);
}

#[test]
fn order_is_judged_within_a_key_and_names_both_records() {
    let (a, b) = (Some("a"), Some("b"));
    let found =
        judged(&[(a, 5), (b, 4), (None, 9), (None, 8), (a, 3), (a, 6)]).finish(&[], &[], None);
    assert_eq!(found.out_of_order.count, 1);
    let late = &found.out_of_order.first[0];
    assert_eq!(
        (late.seq, late.place.offset, late.key.as_deref()),
        (3, 4, a)
    );
    assert_eq!((late.earlier_seq, late.earlier.offset), (5, 0));
}

#[test]
fn a_key_has_an_order_of_its_own_in_each_topic_and_partition() {
    let mut judge = judged(&[(Some("a"), 5)]);
    let one = |partition, seq| Sighting {
        partition,
        offset: 0,
        key: Some(b"a"),
        seq,
        id: id(seq),
    };
    judge.see(&one(1, 4));
    judge.begin("u");
    judge.see(&one(0, 3));
    judge.see(&one(1, 5));
    let found = judge.finish(&[], &[], None);
    assert_eq!(found.out_of_order.count, 0);
    assert_eq!(found.doubled.count, 1);
    assert_eq!(found.doubled.first[0].place.topic, "u");
    assert_eq!(found.doubled.first[0].earlier.topic, "t");
}

#[test]
fn a_listed_id_is_sent_waits_is_parked_or_is_missing() {
    let found = judged(&[(None, 1), (None, 7)]).finish(
        &table(&[2, 7]),
        &table(&[2, 3, 1, 3]),
        Some(vec![4, 3, 2, 1]),
    );
    assert_eq!((found.waiting, found.sent_but_in_table), (1, 1));
    assert_eq!(found.parked, 1, "the third: the others are elsewhere too");
    let missing = found.missing.expect("judged");
    assert_eq!((missing.count, missing.first), (1, vec![4]));
    let unlisted = found.unlisted.expect("judged");
    assert_eq!((unlisted.count, unlisted.first), (1, vec![7]));
    assert_eq!(found.unaccounted, None);
}

#[test]
fn without_a_list_gaps_are_counted() {
    let found = judged(&[(None, -2), (None, 7)]).finish(&table(&[3]), &[], None);
    // -1, 0, 1, 2 and 4, 5, 6
    assert_eq!(found.unaccounted, Some(7));
    assert_eq!(found.missing, None);
    assert_eq!(judged(&[]).finish(&[], &[], None).unaccounted, Some(0));
}

#[test]
fn an_id_that_two_events_have_is_counted() {
    let mut judge = judged(&[(None, 1)]);
    judge.see(&Sighting {
        partition: 0,
        offset: 1,
        key: None,
        seq: 1,
        id: id(100),
    });
    let found = judge.finish(&[], &[], Some(vec![1]));
    assert_eq!((found.events, found.repeated_seqs), (2, 1));
    assert_eq!(found.doubled.count, 0);
}

proptest! {
    #[test]
    fn counts_are_those_of_a_plain_reckoning(
        records in prop::collection::vec((prop::option::of(0..3_u8), 0..30_i64), 0..60),
        rows in prop::collection::btree_set(0..30_i64, 0..10),
        listed in prop::collection::btree_set(0..30_i64, 0..30),
    ) {
        // A key belongs to the event, not to the record.
        let key = |seq: i64, keyed: Option<u8>| keyed.map(|_| ["a", "b", "c"][(seq % 3) as usize]);
        let records: Vec<_> = records.iter().map(|(k, seq)| (key(*seq, *k), *seq)).collect();
        let rows: Vec<_> = rows.into_iter().collect();
        let found = judged(&records).finish(&table(&rows), &[], Some(listed.iter().copied().collect()));
        let sent: BTreeSet<_> = records.iter().map(|(_, seq)| *seq).collect();
        prop_assert_eq!(found.doubled.count, (records.len() - sent.len()) as u64);
        let missing = listed.iter().filter(|seq| !sent.contains(seq) && !rows.contains(seq)).count();
        prop_assert_eq!(found.missing.expect("judged").count, missing as u64);
        let unlisted: Vec<_> = sent.difference(&listed).copied().take(NAMED).collect();
        prop_assert_eq!(found.unlisted.expect("judged").first, unlisted);
        let late = records.iter().enumerate().filter(|(at, (key, seq))| {
            let before = &records[..*at];
            let firsts = |i: usize| !records[..i].iter().any(|(_, s)| *s == records[i].1);
            key.is_some()
                && firsts(*at)
                && before.iter().enumerate().any(|(i, (k, s))| k == key && s > seq && firsts(i))
        });
        prop_assert_eq!(found.out_of_order.count, late.count() as u64);
    }
}
