//! Ids that a fetch jumped over, and when to stop looking for them.
//!
//! A row may commit after a row with a higher id was fetched. So the ids that a batch jumped over
//! become gaps, and each later fetch reads them too. A gap ends when every transaction that could
//! own one of its ids has ended and a fetch that began after that found nothing in it. A writer
//! holds a lock on the table from before it draws its id until after its commit is visible. The
//! candidates are therefore the holders of that lock after the gap was seen.
//!
//! The order of calls makes it exact: [`Gaps::saw`] after a fetch, [`Gaps::held`] with holders that
//! were read after that, then [`Gaps::look`], a fetch that begins after it, and [`Gaps::looked`].

use std::collections::BTreeSet;

/// Both ends are in it.
pub(crate) type Range = (i64, i64);

/// Most ranges that a fetch reads (measured: 0.7 ms for a thousand). More collapse into a wide one.
const MAX_RANGES: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Ranges since the holders were last read: any writer may own their ids.
    fresh: Vec<Range>,
    watches: Vec<Watch>,
    /// The wide range, too large to be read with each fetch: it is checked at longer intervals.
    wide: Option<Watch>,
    /// Prepared transactions among the last holders.
    prepared: BTreeSet<String>,
}

/// Ranges with the same candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    /// Ascending.
    ranges: Vec<Range>,
    /// Virtual transaction ids of the possible owners. With none left, one more fetch reads them.
    writers: BTreeSet<String>,
    /// Whether ranges joined since the holders were last read.
    stale: bool,
}

impl Gaps {
    /// Notes what a fetch jumped over: it asked for ids above `after` and got `ids`, ascending.
    pub(crate) fn saw(&mut self, after: i64, ids: impl IntoIterator<Item = i64>) {
        let mut next = after.checked_add(1);
        for id in ids {
            if let Some(expected) = next.filter(|expected| id > *expected) {
                self.fresh.push((expected, id - 1));
            }
            next = id.checked_add(1);
        }
        if self.count() > MAX_RANGES {
            self.collapse();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.watches.is_empty() && self.wide.is_none()
    }

    /// Whether there is a wide range, which [`Gaps::look`] leaves to a check of the whole table.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide.is_some()
    }

    pub(crate) fn count(&self) -> usize {
        let watched: usize = self.watches.iter().map(|watch| watch.ranges.len()).sum();
        self.fresh.len() + watched + usize::from(self.wide.is_some())
    }

    /// Takes in the holders of the lock, read after the fetch that [`Gaps::saw`] noted.
    pub(crate) fn held(&mut self, holders: impl IntoIterator<Item = String>) {
        let holders: BTreeSet<String> = holders.into_iter().collect();
        let prepared = holders.iter().filter(|it| is_prepared(it));
        let prepared: BTreeSet<String> = prepared.cloned().collect();
        let newly_prepared = &prepared - &self.prepared;
        for watch in self.watches.iter_mut().chain(&mut self.wide) {
            let before = watch.writers.len();
            watch.writers.retain(|writer| holders.contains(writer));
            // A writer that is gone may have prepared its transaction, which has another name.
            if watch.writers.len() < before {
                watch.writers.extend(newly_prepared.iter().cloned());
            }
            if watch.stale {
                watch.writers.extend(holders.iter().cloned());
                watch.stale = false;
            }
        }
        self.prepared = prepared;
        if !self.fresh.is_empty() {
            self.watches.push(Watch {
                ranges: std::mem::take(&mut self.fresh),
                writers: holders,
                stale: false,
            });
        }
        self.merge();
    }

    /// The ranges that the next fetch has to read, ascending.
    pub(crate) fn look(&self) -> Vec<Range> {
        let watched = self.watches.iter().flat_map(|watch| &watch.ranges);
        let mut ranges: Vec<Range> = watched.chain(&self.fresh).copied().collect();
        ranges.sort_unstable();
        ranges
    }

    /// Notes a fetch of all of [`Gaps::look`], after [`Gaps::found`] for its rows: gaps without a
    /// candidate end.
    pub(crate) fn looked(&mut self) {
        self.watches.retain(|watch| !watch.writers.is_empty());
    }

    /// Whether a check that begins now ends the wide range, if it finds no unknown row.
    pub(crate) fn is_wide_over(&self) -> bool {
        let is_over = |wide: &Watch| wide.writers.is_empty() && !wide.stale;
        self.wide.as_ref().is_some_and(is_over)
    }

    /// Notes that a check from the start of the table found no unknown row.
    pub(crate) fn looked_wide(&mut self) {
        if self.is_wide_over() {
            self.wide = None;
        }
    }

    /// The lowest id that may still commit.
    pub(crate) fn lowest(&self) -> Option<i64> {
        let watched = self.watches.iter().chain(&self.wide);
        let ranges = watched.flat_map(|watch| &watch.ranges).chain(&self.fresh);
        ranges.map(|range| range.0).min()
    }

    /// Notes a row that was found in a gap.
    pub(crate) fn found(&mut self, id: i64) {
        if !take_out(&mut self.fresh, id) {
            for watch in &mut self.watches {
                if take_out(&mut watch.ranges, id) {
                    break;
                }
            }
            self.watches.retain(|watch| !watch.ranges.is_empty());
        }
    }

    /// Forgets the gaps above `cursor`, which went back there: they will be seen again.
    pub(crate) fn forget_above(&mut self, cursor: i64) {
        let cut = |ranges: &mut Vec<Range>| {
            ranges.retain(|range| range.0 <= cursor);
            for range in ranges {
                range.1 = range.1.min(cursor);
            }
        };
        cut(&mut self.fresh);
        for watch in self.watches.iter_mut().chain(&mut self.wide) {
            cut(&mut watch.ranges);
        }
        self.watches.retain(|watch| !watch.ranges.is_empty());
        self.wide.take_if(|wide| wide.ranges.is_empty());
    }

    /// Joins watches with the same candidates: a long transaction leaves one, not one a check.
    fn merge(&mut self) {
        let mut merged: Vec<Watch> = Vec::new();
        for watch in self.watches.drain(..) {
            let mut others = merged.iter_mut();
            match others.find(|other| other.writers == watch.writers) {
                Some(other) => other.ranges.extend(watch.ranges),
                None => merged.push(watch),
            }
        }
        for watch in &mut merged {
            watch.ranges.sort_unstable();
        }
        self.watches = merged;
    }

    fn collapse(&mut self) {
        let stale = !self.fresh.is_empty() || self.wide.as_ref().is_some_and(|wide| wide.stale);
        let all: Vec<Watch> = self.watches.drain(..).chain(self.wide.take()).collect();
        let watched = all.iter().flat_map(|watch| &watch.ranges);
        let ranges = watched.chain(&self.fresh);
        let low = ranges.clone().map(|range| range.0).min();
        let high = ranges.map(|range| range.1).max();
        self.fresh.clear();
        if let (Some(low), Some(high)) = (low, high) {
            self.wide = Some(Watch {
                ranges: vec![(low, high)],
                writers: all.into_iter().flat_map(|watch| watch.writers).collect(),
                stale,
            });
        }
    }
}

/// Whether a prepared transaction holds the lock. It has no process, and PostgreSQL may show it as
/// `-1/xid` (PostgreSQL 18 was seen to keep the former name).
fn is_prepared(virtual_transaction: &str) -> bool {
    virtual_transaction.starts_with("-1/")
}

/// Takes an id out of ascending ranges. Returns whether it was in one.
fn take_out(ranges: &mut Vec<Range>, id: i64) -> bool {
    let at = ranges.partition_point(|range| range.1 < id);
    let Some(&(low, high)) = ranges.get(at) else {
        return false;
    };
    if id < low {
        return false;
    }
    let left = (low < id).then(|| (low, id - 1));
    let right = (id < high).then(|| (id + 1, high));
    ranges.splice(at..=at, left.into_iter().chain(right));
    true
}

#[cfg(test)]
#[path = "gaps_test.rs"]
mod tests;
