//! Keys and topics that wait behind a row which Kafka did not take, as books that know neither
//! clock nor socket: keys by the policy `hold-key`, topics while they are missing or take no row.
//!
//! A key that waits has a *head*: its first row that was refused, or may be. Rows of the key that
//! are fetched meanwhile are left in the table, and only the lowest of their ids is remembered, so
//! that a thousand of them cost no more than one.
//!
//! | the head | what comes next |
//! |---|---|
//! | on its way | the report: delivered, or refused |
//! | refused | when it is due, it is fetched and sent again, without other rows of its key |
//! | over: delivered, or gone | the cursor goes back to the lowest waiting row; the key is free |

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::mem::discriminant;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::topic_book::{TopicBook, TopicNumber};
use crate::event::RowId;
use crate::postgres::HeldRow;

/// Most keys that may wait at once, in about 30 MB of memory.
pub(crate) const MOST: usize = 100_000;
/// The wait before a refused row is tried again, doubled from try to try...
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The same for the first row to a topic, which may be made at this moment.
const FIRST_WAIT_FOR_TOPIC: Duration = Duration::from_millis(100);
/// ... up to this: a user has to correct the row, and a statement a minute is no burden.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Characters of a reason that are kept.
const REASON_CHARS: usize = 120;

/// Rows that are due within this time of each other are tried together.
const COMPANY: Duration = Duration::from_millis(100);

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HoldId {
    /// Hash of a key of this outbox. A row without a key has a hash of its own, so no other row
    /// waits for it. Two keys with the same hash, which is very rare, wait for each other.
    Key(u64),
    Topic(TopicNumber),
}

impl Default for HoldId {
    fn default() -> Self {
        Self::Key(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    OnItsWay,
    Refused(Instant),
    Over,
}

#[derive(Debug)]
struct Hold {
    head: RowId,
    topic: TopicNumber,
    state: HeadState,
    /// The wait after the next refusal.
    wait: Duration,
    /// Whether the head was refused at all.
    refused: bool,
    /// The lowest id of the rows that wait behind the head.
    lowest: Option<i64>,
    /// Why Kafka refused the head, cut.
    reason: String,
}

/// The effect of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The key waits from now on.
    First,
    /// The head was tried again and refused again.
    Again,
    /// The key already waits for another row.
    Behind,
    /// Too many keys wait already.
    Full,
}

/// The held keys of one outbox.
#[derive(Debug, Default)]
pub(crate) struct Held {
    hasher: RandomState,
    holds: FxHashMap<HoldId, Hold>,
    heads: FxHashMap<RowId, HoldId>,
    due: BTreeSet<(Instant, HoldId)>,
    over: Vec<HoldId>,
    /// Tells that other rows hold their key or topic than before.
    changes: watch::Sender<()>,
    pub(crate) topics: TopicBook,
}

impl Held {
    /// Returns the hash of the key of a row.
    pub(crate) fn key_hash(&self, key: Option<&[u8]>, row: RowId) -> HoldId {
        let alone = key.is_none().then_some(row);
        HoldId::Key(self.hasher.hash_one((key, alone)))
    }

    /// Returns how many keys wait behind a row that was refused.
    pub(crate) fn count(&self) -> usize {
        self.holds.values().filter(|hold| hold.refused).count()
    }

    /// Notes why Kafka refused the head.
    pub(crate) fn explain(&mut self, id: HoldId, reason: &str) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.reason = reason.chars().take(REASON_CHARS).collect();
        }
    }

    /// Returns the refused rows that others wait for, the lowest first, at most so many.
    pub(crate) fn list(&self, most: usize, now: Instant) -> Vec<HeldRow> {
        let mut holds: Vec<_> = self.refused_holds().collect();
        holds.sort_unstable_by_key(|(_, hold)| hold.head);
        let row = |(id, hold): (&HoldId, &Hold)| HeldRow {
            row: hold.head.id,
            holds_topic: matches!(id, HoldId::Topic(_)),
            reason: hold.reason.clone(),
            next_try_seconds: match hold.state {
                HeadState::Refused(due) => due.saturating_duration_since(now).as_secs_f64(),
                HeadState::OnItsWay | HeadState::Over => 0.0,
            },
            key: None,
        };
        holds.into_iter().take(most).map(row).collect()
    }

    /// Returns the refused rows that others wait for: whether those are of its key, and not of its
    /// topic.
    pub(crate) fn holding(&self) -> FxHashMap<RowId, bool> {
        let row = |(id, hold): (&HoldId, &Hold)| (hold.head, matches!(id, HoldId::Key(_)));
        self.refused_holds().map(row).collect()
    }

    /// Tells when other rows do.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn refused_holds(&self) -> impl Iterator<Item = (&HoldId, &Hold)> {
        let is_refused = |hold: &Hold| hold.refused && hold.state != HeadState::Over;
        self.holds.iter().filter(move |(_, hold)| is_refused(hold))
    }

    /// Returns whether a row may go to Kafka now; otherwise it stays in the table. A `doubtful` row
    /// may be refused, so no later row of its key goes before its report.
    pub(crate) fn passes(
        &mut self,
        key_hash: HoldId,
        row: RowId,
        topic: TopicNumber,
        doubtful: bool,
    ) -> bool {
        let mut doubtful = doubtful;
        if let Some(&former) = self.heads.get(&row)
            && former != key_hash
            && discriminant(&former) == discriminant(&key_hash)
        {
            // A user gave the row another key.
            self.end(former);
            doubtful = true;
        }
        match self.holds.get_mut(&key_hash) {
            Some(hold) if hold.head == row && hold.state != HeadState::Over => {
                hold.topic = topic;
                hold.state == HeadState::OnItsWay
            }
            Some(hold) => {
                hold.wait_behind(row.id);
                false
            }
            None => {
                if doubtful {
                    self.hold(key_hash, row, topic);
                }
                true
            }
        }
    }

    fn hold(&mut self, key_hash: HoldId, head: RowId, topic: TopicNumber) {
        let hold = Hold {
            head,
            topic,
            state: HeadState::OnItsWay,
            wait: match key_hash {
                HoldId::Key(_) => FIRST_WAIT,
                HoldId::Topic(_) => FIRST_WAIT_FOR_TOPIC,
            },
            refused: false,
            lowest: None,
            reason: String::new(),
        };
        self.holds.insert(key_hash, hold);
        self.heads.insert(head, key_hash);
    }

    /// Records that Kafka refused the row.
    pub(crate) fn refused(
        &mut self,
        key_hash: HoldId,
        row: RowId,
        topic: TopicNumber,
        now: Instant,
    ) -> Refused {
        self.topics.prove(topic, false);
        if let Some(hold) = self.holds.get_mut(&key_hash)
            && hold.head != row
        {
            if row.id > hold.head.id || !matches!(hold.state, HeadState::Refused(_)) {
                hold.wait_behind(row.id);
                return Refused::Behind;
            }
            // Reports of two partitions can arrive in any order; the lower row goes first.
            hold.wait_behind(hold.head.id);
            let former = std::mem::replace(&mut hold.head, row);
            self.heads.remove(&former);
            self.heads.insert(row, key_hash);
            self.changes.send_replace(());
            return Refused::Behind;
        }
        let is_new = self.holds.get(&key_hash).is_none_or(|hold| !hold.refused);
        if is_new && self.due.len() >= MOST {
            return Refused::Full;
        }
        if !self.holds.contains_key(&key_hash) {
            self.hold(key_hash, row, topic);
        }
        let Some(hold) = self.holds.get_mut(&key_hash) else {
            return Refused::Full;
        };
        if let HeadState::Refused(due) = hold.state {
            self.due.remove(&(due, key_hash));
        }
        let due = now + hold.wait;
        hold.state = HeadState::Refused(due);
        hold.wait = (hold.wait * 2).min(LAST_WAIT);
        hold.refused = true;
        self.due.insert((due, key_hash));
        if is_new {
            self.changes.send_replace(());
            Refused::First
        } else {
            Refused::Again
        }
    }

    /// Records that Kafka has the row. Returns `None` if no row waited for it, or else whether it
    /// had been refused before.
    pub(crate) fn delivered(&mut self, row: RowId) -> Option<bool> {
        let key_hash = *self.heads.get(&row)?;
        let hold = self.holds.get(&key_hash)?;
        let (topic, refused) = (hold.topic, hold.refused);
        self.topics.prove(topic, true);
        self.end(key_hash);
        Some(refused)
    }

    /// Ends the wait for a head that was delivered or is gone from the table.
    fn end(&mut self, key_hash: HoldId) {
        let Some(hold) = self.holds.get_mut(&key_hash) else {
            return;
        };
        self.heads.remove(&hold.head);
        if let HeadState::Refused(due) = hold.state {
            self.due.remove(&(due, key_hash));
        }
        hold.state = HeadState::Over;
        if hold.refused {
            self.changes.send_replace(());
        }
        if hold.lowest.is_none() {
            self.holds.remove(&key_hash);
        } else {
            self.over.push(key_hash);
        }
    }

    /// Records that the topic takes records: its rows go on, unless only a record can show that.
    pub(crate) fn opened(&mut self, topic: TopicNumber) {
        if !self.topics.is_broken(topic) {
            self.topics.prove(topic, true);
            self.end(HoldId::Topic(topic));
        }
    }

    /// Whether rows of the topic go on.
    pub(crate) fn is_open(&self, topic: TopicNumber) -> bool {
        self.topics.is_proven(topic) && !self.holds.contains_key(&HoldId::Topic(topic))
    }

    /// Whether rows of a topic wait and will go on or be refused soon.
    pub(crate) fn is_undecided(&self) -> bool {
        let waits = |id: &HoldId| matches!(id, HoldId::Topic(it) if !self.topics.is_broken(*it));
        self.holds.keys().any(waits)
    }

    /// Returns when the next refused row has to be tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the refused rows that are due, by their ids. They count as on their way.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<RowId> {
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some((due, key_hash)) = self.due.pop_first()
        {
            if due > now + COMPANY {
                self.due.insert((due, key_hash));
                break;
            }
            if let Some(hold) = self.holds.get_mut(&key_hash) {
                hold.state = HeadState::OnItsWay;
                rows.push(hold.head);
            }
        }
        rows.sort_unstable();
        rows
    }

    /// Postpones a due row that could not be fetched.
    pub(crate) fn put_off(&mut self, row: RowId, until: Instant) {
        if let Some(&key_hash) = self.heads.get(&row)
            && let Some(hold) = self.holds.get_mut(&key_hash)
            && hold.state == HeadState::OnItsWay
        {
            hold.state = HeadState::Refused(until);
            self.due.insert((until, key_hash));
        }
    }

    /// Records that a due row is gone from the table.
    pub(crate) fn is_gone(&mut self, row: RowId) {
        if let Some(&key_hash) = self.heads.get(&row) {
            self.end(key_hash);
        }
    }

    /// Whether released keys wait until the cursor goes back.
    pub(crate) fn has_over(&self) -> bool {
        !self.over.is_empty()
    }

    /// Frees the keys whose heads are over, and returns the id to which the cursor has to go back.
    /// Only call it while no fetched row waits for admission, since a later row of such a key would
    /// go before the waiting ones.
    pub(crate) fn release(&mut self) -> Option<i64> {
        let over = std::mem::take(&mut self.over);
        let holds = over
            .iter()
            .filter_map(|key_hash| self.holds.remove(key_hash));
        holds.filter_map(|hold| hold.lowest).min()
    }

    /// Starts a term: nothing is on its way, and the table is read from its start. Refused rows
    /// keep their due time. With exactly-once delivery a refusal ends the term, so trying them at
    /// once would end the next term before any other row was sent.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.topics.start_over();
        self.over.clear();
        self.due.clear();
        let due = &mut self.due;
        self.holds.retain(|key_hash, hold| {
            hold.lowest = None;
            let stays = hold.refused && hold.state != HeadState::Over;
            if stays {
                let at = match hold.state {
                    HeadState::Refused(at) => at,
                    HeadState::OnItsWay | HeadState::Over => now,
                };
                hold.state = HeadState::Refused(at);
                due.insert((at, *key_hash));
            }
            stays
        });
        let holds = &self.holds;
        self.heads
            .retain(|_, key_hash| holds.contains_key(key_hash));
    }

    /// Whether a row with this key and topic stays in the table.
    pub(crate) fn waits(&self, row: RowId, key: Option<&[u8]>, topic: Option<&str>) -> bool {
        let topic = topic.and_then(|name| self.topics.known(name));
        let waits_for_topic = |it| self.holds.contains_key(&HoldId::Topic(it));
        topic.is_some_and(waits_for_topic) || self.holds.contains_key(&self.key_hash(key, row))
    }

    /// Whether such a row stays in the table. If so, it is read again when the wait ends.
    pub(crate) fn keeps_waiting(
        &mut self,
        row: RowId,
        key: Option<&[u8]>,
        topic: Option<&str>,
    ) -> bool {
        let topic = topic.and_then(|name| self.topics.known(name));
        let ids = topic.map(HoldId::Topic).into_iter();
        let id = ids
            .chain([self.key_hash(key, row)])
            .find(|id| self.holds.contains_key(id));
        let hold = id.and_then(|id| self.holds.get_mut(&id));
        hold.map(|hold| hold.wait_behind(row.id)).is_some()
    }

    /// Whether the row was refused before.
    pub(crate) fn was_refused(&self, row: RowId) -> bool {
        let key_hash = self.heads.get(&row);
        key_hash
            .and_then(|key_hash| self.holds.get(key_hash))
            .is_some_and(|hold| hold.refused)
    }

    /// Returns the first rows of the keys that wait.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowId> {
        self.heads.keys().copied()
    }

    /// Whether no key waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }
}

impl Hold {
    fn wait_behind(&mut self, id: i64) {
        self.lowest = Some(self.lowest.map_or(id, |lowest| lowest.min(id)));
    }
}

#[cfg(test)]
#[path = "held_keys_test.rs"]
mod tests;
