//! Ids that a fetch jumped over, and when to stop looking for them.
//!
//! A row may commit after a row with a higher id was fetched. So the ids that a batch jumped over become gaps, and each later fetch looks
//! into them. A gap ends when every transaction that could own one of its ids has ended and a look that began after that found
//! nothing. Whoever inserts holds a lock on the table from before it draws its id until after its commit is visible; so those who hold
//! that lock when the gap has been seen are the candidates.
//!
//! The order of calls makes it exact: [`Gaps::saw`] after a fetch, [`Gaps::held`] with holders that were read after that, then
//! [`Gaps::look`], a fetch that begins after it, and [`Gaps::looked`].

use std::collections::BTreeSet;

/// Closed ranges, not empty.
pub(crate) type Range = (i64, i64);

/// So many ranges are looked into with each fetch (measured: 0.7 ms for a thousand). More collapse into one wide range.
const MAX_RANGES: usize = 1_000;

/// The gaps of one outbox.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Seen since the last look at the holders: everybody may own them.
    fresh: Vec<Range>,
    watches: Vec<Watch>,
    /// What overflowed: too large to look into with each fetch, so it is swept at a slower pace.
    wide: Option<Watch>,
    /// Prepared transactions among the holders of the last time.
    prepared: BTreeSet<String>,
}

/// Ranges with the same candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    /// Ascending.
    ranges: Vec<Range>,
    /// Virtual transaction ids of those who may own ids of these ranges. None left: the next look is the last.
    writers: BTreeSet<String>,
    /// Whether ranges joined since the last look at the holders.
    stale: bool,
}

impl Gaps {
    /// Notes what a fetch jumped over. It asked for ids above `after` and got `ids`, ascending.
    pub(crate) fn saw(&mut self, after: i64, ids: impl IntoIterator<Item = i64>) {
        let mut next = after.checked_add(1);
        for id in ids {
            match next {
                Some(expected) if id > expected => self.fresh.push((expected, id - 1)),
                _ => {}
            }
            next = id.checked_add(1);
        }
        if self.count() > MAX_RANGES {
            self.collapse();
        }
    }

    /// Whether anything is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.watches.is_empty() && self.wide.is_none()
    }

    /// Whether there is a wide range, which [`Gaps::look`] leaves out: it wants a look from the start of the table now and then.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide.is_some()
    }

    /// How many ranges are open.
    pub(crate) fn count(&self) -> usize {
        let watched: usize = self.watches.iter().map(|watch| watch.ranges.len()).sum();
        self.fresh.len() + watched + usize::from(self.wide.is_some())
    }

    /// Takes in who holds the lock now: read after the fetch that [`Gaps::saw`] was told of.
    pub(crate) fn held(&mut self, holders: impl IntoIterator<Item = String>) {
        let holders: BTreeSet<String> = holders.into_iter().collect();
        let prepared: BTreeSet<String> = holders
            .iter()
            .filter(|holder| is_prepared(holder))
            .cloned()
            .collect();
        let newly_prepared: Vec<&String> = prepared.difference(&self.prepared).collect();
        for watch in self.watches.iter_mut().chain(&mut self.wide) {
            let before = watch.writers.len();
            watch.writers.retain(|writer| holders.contains(writer));
            // One that is gone may have become one of the prepared: they go on under another name.
            if watch.writers.len() < before {
                watch
                    .writers
                    .extend(newly_prepared.iter().copied().cloned());
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

    /// The ranges to look into with the next fetch, ascending.
    pub(crate) fn look(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = self
            .watches
            .iter()
            .flat_map(|watch| &watch.ranges)
            .chain(&self.fresh)
            .copied()
            .collect();
        ranges.sort_unstable();
        ranges
    }

    /// A look into all of [`Gaps::look`] is over, and [`Gaps::found`] was told of what it gave: what nobody can own any more ends here.
    pub(crate) fn looked(&mut self) {
        self.watches.retain(|watch| !watch.writers.is_empty());
    }

    /// A look from the start of the table is over and found nothing unknown.
    pub(crate) fn looked_wide(&mut self) {
        if self
            .wide
            .as_ref()
            .is_some_and(|wide| wide.writers.is_empty() && !wide.stale)
        {
            self.wide = None;
        }
    }

    /// A row was found in a gap.
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

    /// The cursor goes back to `cursor`: what lies above will be seen again.
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

    /// Joins watches with the same candidates: a long transaction leaves one watch, not one for each check.
    fn merge(&mut self) {
        let mut merged: Vec<Watch> = Vec::new();
        for watch in self.watches.drain(..) {
            match merged
                .iter_mut()
                .find(|other| other.writers == watch.writers)
            {
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
        let ranges = all
            .iter()
            .flat_map(|watch| &watch.ranges)
            .chain(&self.fresh);
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

/// A prepared transaction has no process: PostgreSQL may show it as `-1/xid`. (18 was seen to keep its name.)
fn is_prepared(virtual_transaction: &str) -> bool {
    virtual_transaction.starts_with("-1/")
}

/// Takes an id out of ascending ranges; whether it was there.
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
