//! Pairs the records of two relays by an id, and finds how they differ. Pure: it reads nothing by
//! itself.
//!
//! Of a record that waits for its pair it keeps hashes of 64 bits, and of a pair its id and place.

use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::json::json_hash;
use super::pairing::{Difference, Pairing};
use crate::cli::tally::{RecordPlace, Tally};

/// A record as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared<'a> {
    pub(super) id: &'a [u8],
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// In milliseconds since the Unix epoch.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub(super) payload: Option<&'a [u8]>,
}

/// The times between which a record without a pair is a fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) since: i64,
    pub(super) until: i64,
}

/// Names of headers that may differ; `*` at the end stands for any end.
pub(super) struct Ignored(pub(super) Vec<String>);

impl Ignored {
    fn has(&self, name: &str) -> bool {
        let is = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        self.0.iter().any(is)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Its place in the list of topics.
    topic: u32,
    partition: i32,
    offset: i64,
}

/// The first record of an event that either relay sent.
struct Known {
    place: Place,
    timestamp: Option<i64>,
    /// Of a record of the old relay that waits for its pair.
    contents: Option<Box<Contents>>,
    is_old: bool,
    is_new: bool,
}

/// Hashes of a record.
#[derive(PartialEq, Eq)]
struct Contents {
    key: u64,
    value: u64,
    /// `None`: it is no JSON.
    json: Option<u64>,
    /// By the numbers of their names, in ascending order.
    headers: Box<[(u32, u64)]>,
}

/// Takes the records of the old relay, then those of the new one; those of a partition in order.
pub(super) struct PairJudge {
    judged: Judged,
    ignored: Ignored,
    /// Names and numbers of partitions.
    topics: Vec<(String, usize)>,
    names: FxHashMap<String, u32>,
    events: FxHashMap<[u8; 16], Known>,
    /// The place at the old relay of the latest event of a key in a partition of the new one.
    latest: FxHashMap<(u32, i32, u64), (Place, Place)>,
    pub(super) found: Pairing,
}

impl PairJudge {
    pub(super) fn new(judged: Judged, ignored: Ignored) -> Self {
        Self {
            judged,
            ignored,
            topics: Vec::new(),
            names: FxHashMap::default(),
            events: FxHashMap::default(),
            latest: FxHashMap::default(),
            found: Pairing::default(),
        }
    }

    /// Starts a topic: the records that follow are in it.
    pub(super) fn begin(&mut self, topic: &str, partitions: usize) {
        self.topics.push((topic.to_owned(), partitions));
    }

    /// Takes a record of the old relay.
    pub(super) fn see_old(&mut self, record: &Compared<'_>) {
        self.found.old += 1;
        let contents = self.contents(record, json_hash);
        let known = Known {
            place: self.place(record),
            timestamp: record.timestamp,
            contents: Some(Box::new(contents)),
            is_old: true,
            is_new: false,
        };
        match self.events.entry(event(record.id)) {
            Entry::Vacant(new) => {
                new.insert(known);
            }
            Entry::Occupied(_) => self.found.doubled_in_old += 1,
        }
    }

    /// Takes a record of the new relay.
    pub(super) fn see_new(&mut self, record: &Compared<'_>) {
        self.found.new += 1;
        let place = self.place(record);
        let (earlier, old) = match self.events.entry(event(record.id)) {
            Entry::Vacant(new) => {
                new.insert(Known {
                    place,
                    timestamp: record.timestamp,
                    contents: None,
                    is_old: false,
                    is_new: true,
                });
                return;
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.is_new = true;
                (known.place, known.contents.take())
            }
        };
        match old {
            Some(old) => self.pair(record, place, earlier, &old),
            None => {
                let found = self.difference(place, Some(earlier));
                self.found.doubled.add(|| found);
            }
        }
    }

    fn pair(&mut self, record: &Compared<'_>, place: Place, old: Place, contents: &Contents) {
        self.found.pairs += 1;
        let (from, to) = (
            &self.topics[old.topic as usize],
            &self.topics[place.topic as usize],
        );
        let same_partitions = from.1 == to.1;
        let topics = format!("{} → {}", from.0, to.0);
        *self.found.topics.entry(topics).or_default() += 1;
        // JSON of a value is only read if its bytes differ.
        let new = self.contents(record, |_| None);
        let found = self.difference(place, Some(old));
        if new.key != contents.key {
            self.found.other_key.add(|| found.clone());
        }
        if new.value != contents.value {
            let same =
                contents.json.is_some() && record.payload.and_then(json_hash) == contents.json;
            let tally = match same {
                true => &mut self.found.same_json,
                false => &mut self.found.other_value,
            };
            tally.add(|| found.clone());
        }
        if new.headers != contents.headers {
            self.compare_headers(&new.headers, &contents.headers);
            self.found.other_headers.add(|| found.clone());
        }
        if record.key.is_some() {
            if same_partitions && place.partition != old.partition {
                self.found.other_partition.add(|| found);
            }
            self.compare_order(place, old, new.key);
        }
    }

    /// Checks that the events of a key come in the order in which the old relay sent them.
    fn compare_order(&mut self, place: Place, old: Place, key: u64) {
        let latest = self.latest.entry((place.topic, place.partition, key));
        let (new, before) = match latest {
            Entry::Vacant(first) => {
                first.insert((place, old));
                return;
            }
            Entry::Occupied(mut latest) => {
                let (new, before) = *latest.get();
                // Nothing is known of the order of two partitions.
                let together = (before.topic, before.partition) == (old.topic, old.partition);
                if !together || before.offset <= old.offset {
                    latest.insert((place, old));
                    return;
                }
                (new, before)
            }
        };
        debug_assert!(before > old, "it is later");
        let found = self.difference(place, Some(new));
        self.found.out_of_order.add(|| found);
    }

    fn compare_headers(&mut self, new: &[(u32, u64)], old: &[(u32, u64)]) {
        let find = |all: &[(u32, u64)], name| all.iter().find(|(it, _)| *it == name).copied();
        let mut numbers: Vec<u32> = new.iter().chain(old).map(|(name, _)| *name).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let name = self.names.iter().find(|(_, it)| **it == number);
            let Some((name, _)) = name else { continue };
            let (old, new) = (find(old, number), find(new, number));
            if old == new {
                continue;
            }
            let header = self.found.headers.entry(name.clone()).or_default();
            match (old, new) {
                (Some(_), None) => header.only_old += 1,
                (None, _) => header.only_new += 1,
                (Some(_), Some(_)) => header.other_value += 1,
            }
        }
    }

    fn contents(&mut self, record: &Compared<'_>, json: impl Fn(&[u8]) -> Option<u64>) -> Contents {
        let mut headers: Vec<(u32, u64)> = Vec::with_capacity(record.headers.len());
        for (name, value) in record.headers {
            if self.ignored.has(name) {
                continue;
            }
            let number = self.number(name);
            // Those of one name count in their order.
            match headers.iter_mut().find(|(it, _)| *it == number) {
                Some((_, earlier)) => *earlier = hash((*earlier, value)),
                None => headers.push((number, hash(value))),
            }
        }
        headers.sort_unstable();
        Contents {
            key: hash(record.key),
            value: hash(record.payload),
            json: record.payload.and_then(json),
            headers: headers.into(),
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.insert(name.to_owned(), number);
        number
    }

    fn place(&self, record: &Compared<'_>) -> Place {
        Place {
            topic: self.topics.len().saturating_sub(1) as u32,
            partition: record.partition,
            offset: record.offset,
        }
    }

    fn difference(&self, place: Place, other: Option<Place>) -> Difference {
        let shown = |it: Place| {
            let (topic, _) = &self.topics[it.topic as usize];
            RecordPlace::new(topic, it.partition, it.offset)
        };
        Difference {
            place: shown(place),
            other: other.map(shown),
        }
    }

    /// Returns the findings.
    pub(super) fn finish(mut self) -> Pairing {
        let (mut missing, mut extra) = (Vec::new(), Vec::new());
        let Judged { since, until } = self.judged;
        for known in std::mem::take(&mut self.events).into_values() {
            let alone = match (known.is_old, known.is_new) {
                (true, true) => continue,
                (true, false) => &mut missing,
                (false, _) => &mut extra,
            };
            match known.timestamp {
                Some(time) if !(since..=until).contains(&time) => self.found.at_the_edge += 1,
                _ => alone.push(known.place),
            }
        }
        let tally = |mut places: Vec<Place>| {
            places.sort_unstable();
            let mut tally = Tally::default();
            for place in places {
                tally.add(|| self.difference(place, None));
            }
            tally
        };
        let (missing, extra) = (tally(missing), tally(extra));
        Pairing {
            missing,
            extra,
            ..self.found
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Records with the same id are of the same event.
fn event(id: &[u8]) -> [u8; 16] {
    let mut event = [0; 16];
    event.copy_from_slice(&Sha256::digest(id)[..16]);
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_takes_few_bytes() {
        // docs/operation.md says how much memory that is, with the space between entries.
        assert_eq!(size_of::<([u8; 16], Known)>(), 64);
        assert_eq!(size_of::<Contents>() + 4 * size_of::<(u32, u64)>(), 112);
    }
}
