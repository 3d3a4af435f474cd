//! Finds duplicates, wrong order and loss in records, table and list of committed ids. Pure: it
//! reads nothing by itself.

use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::tally::{RecordPlace, Tally};

/// A wrong record, and the earlier one that it conflicts with.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Offender {
    #[serde(flatten)]
    pub(super) place: RecordPlace,
    /// Bytes that are not UTF-8 are replaced.
    pub(super) key: Option<String>,
    pub(super) seq: i64,
    pub(super) id: Uuid,
    pub(super) earlier: RecordPlace,
    pub(super) earlier_seq: i64,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Records with both headers.
    pub(super) records: u64,
    /// Events among them: each counts once.
    pub(super) events: u64,
    /// Rows in the table whose event is not in the topics yet.
    pub(super) waiting: u64,
    /// Rows in the table whose time is to come, as far as they were counted.
    pub(super) delayed: u64,
    /// Rows in the table whose event is in the topics: they will be deleted, or sent again.
    pub(super) sent_but_in_table: u64,
    /// Dead letters whose event is in neither topics nor table.
    pub(super) parked: u64,
    /// Events with a row id that an earlier event had: a reset sequence, a restored backup, or
    /// another outbox in the same topic.
    pub(super) repeated_seqs: u64,
    /// Listed ids that are nowhere. Judged with a list only.
    pub(super) missing: Option<Tally<i64>>,
    /// Events that the list does not have. Counted with a list only.
    pub(super) unlisted: Option<Tally<i64>>,
    /// Ids between the lowest and the highest that are nowhere. Counted without a list only.
    pub(super) unaccounted: Option<u64>,
    /// Records of events that were there before.
    pub(super) doubled: Tally<Offender>,
    /// Events that come after one of the same key with a higher id.
    pub(super) out_of_order: Tally<Offender>,
}

/// A record with the headers of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) seq: i64,
    pub(super) id: Uuid,
}

/// First record of an event.
struct First {
    seq: i64,
    offset: i64,
    partition: i32,
    topic: u32,
}

/// Event with the highest id of a key.
struct Highest {
    seq: i64,
    offset: i64,
}

/// Checks records one by one, those of a partition in their order.
#[derive(Default)]
pub(super) struct Judge {
    topics: Vec<String>,
    events: FxHashMap<Uuid, First>,
    /// Keys of the current topic.
    keys: FxHashMap<(i32, Box<[u8]>), Highest>,
    findings: Findings,
}

impl Judge {
    /// Starts a topic: the records that follow are in it.
    pub(super) fn begin(&mut self, topic: &str) {
        self.topics.push(topic.to_owned());
        self.keys.clear();
    }

    pub(super) fn see(&mut self, record: &Sighting<'_>) {
        self.findings.records += 1;
        let topic = self.topics.len().saturating_sub(1);
        match self.events.entry(record.id) {
            Entry::Occupied(known) => {
                let first = known.get();
                let earlier_topic = &self.topics[first.topic as usize];
                let earlier = RecordPlace::new(earlier_topic, first.partition, first.offset);
                let offender = || offender(&self.topics[topic], record, earlier, first.seq);
                return self.findings.doubled.add(offender);
            }
            Entry::Vacant(new) => {
                new.insert(First {
                    seq: record.seq,
                    offset: record.offset,
                    partition: record.partition,
                    topic: topic as u32,
                });
            }
        }
        // Records without a key have no order.
        if let Some(key) = record.key {
            self.compare(topic, key, record);
        }
    }

    /// Checks that the first records of a key's events ascend.
    fn compare(&mut self, topic: usize, key: &[u8], record: &Sighting<'_>) {
        let this = Highest {
            seq: record.seq,
            offset: record.offset,
        };
        match self.keys.entry((record.partition, key.into())) {
            Entry::Vacant(new) => {
                new.insert(this);
            }
            Entry::Occupied(mut highest) if highest.get().seq <= record.seq => {
                highest.insert(this);
            }
            Entry::Occupied(highest) => {
                let (topic, highest) = (&self.topics[topic], highest.get());
                let earlier = RecordPlace::new(topic, record.partition, highest.offset);
                let offender = || offender(topic, record, earlier, highest.seq);
                self.findings.out_of_order.add(offender);
            }
        }
    }

    /// Returns the findings. `table`: its rows; `parked`: dead letters; `committed`: ids that must
    /// be in one of the places.
    pub(super) fn finish(
        mut self,
        table: &[(i64, Uuid)],
        parked: &[(i64, Uuid)],
        committed: Option<Vec<i64>>,
    ) -> Findings {
        self.findings.events = self.events.len() as u64;
        for (_, id) in table {
            match self.events.contains_key(id) {
                true => self.findings.sent_but_in_table += 1,
                false => self.findings.waiting += 1,
            }
        }
        let mut elsewhere: FxHashSet<&Uuid> = table.iter().map(|(_, id)| id).collect();
        for (_, id) in parked {
            if !self.events.contains_key(id) && elsewhere.insert(id) {
                self.findings.parked += 1;
            }
        }
        let mut seen: Vec<i64> = self.events.values().map(|first| first.seq).collect();
        drop(self.events);
        sort(&mut seen);
        self.findings.repeated_seqs = self.findings.events - seen.len() as u64;
        let rows = table.iter().chain(parked).map(|(seq, _)| *seq);
        match committed {
            Some(mut listed) => {
                sort(&mut listed);
                self.findings.unlisted = Some(without(&seen, &listed));
                seen.extend(rows);
                sort(&mut seen);
                self.findings.missing = Some(without(&listed, &seen));
            }
            None => {
                seen.extend(rows);
                sort(&mut seen);
                self.findings.unaccounted = Some(gaps(&seen));
            }
        }
        self.findings
    }
}

fn offender(
    topic: &str,
    record: &Sighting<'_>,
    earlier: RecordPlace,
    earlier_seq: i64,
) -> Offender {
    Offender {
        place: RecordPlace::new(topic, record.partition, record.offset),
        key: record
            .key
            .map(|key| String::from_utf8_lossy(key).into_owned()),
        seq: record.seq,
        id: record.id,
        earlier,
        earlier_seq,
    }
}

fn sort(numbers: &mut Vec<i64>) {
    numbers.sort_unstable();
    numbers.dedup();
}

/// Returns the numbers of the first list that are not in the second; both ascend.
fn without(these: &[i64], those: &[i64]) -> Tally<i64> {
    let mut tally = Tally::default();
    let mut those = those.iter().peekable();
    for number in these {
        while those.next_if(|other| *other < number).is_some() {}
        if those.peek() != Some(&number) {
            tally.add(|| *number);
        }
    }
    tally
}

/// Counts the numbers that are missing between the first and the last; they ascend.
fn gaps(numbers: &[i64]) -> u64 {
    match numbers {
        [first, .., last] => last.abs_diff(*first) - (numbers.len() as u64 - 1),
        _ => 0,
    }
}
