//! Keys that wait behind a row which Kafka did not take: the policy `hold-key`, as books that know neither clock nor socket.
//!
//! A key that waits has a *head*: its first row that was refused, or may be. Rows of the key that are fetched meanwhile are left in the table, and
//! only the lowest of their ids is remembered, so that a thousand of them cost no more than one.
//!
//! | the head | what comes next |
//! |---|---|
//! | on its way | the report: delivered, or refused |
//! | refused | its time: it is fetched again and sent again, alone of its key |
//! | over: delivered, or gone from the table | the reading goes back to the lowest row that waits, and the key is free |

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::postgres::Sent;

/// Keys that may wait at once: some 10 MB of books.
pub(crate) const MOST: usize = 100_000;
/// The wait before a refused row is tried again, doubled from try to try...
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// ... up to this: somebody has to correct it, and a statement a minute is no burden.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// A row that is due goes with those that are due so much later.
const COMPANY: Duration = Duration::from_millis(100);

/// A key of this outbox, as a number; a row without a key has one of its own, for which nobody waits. Two keys that share a number, which hardly happens,
/// wait for each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(u64);

/// A topic, as a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TopicNumber(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    OnItsWay,
    Refused(Instant),
    Over,
}

#[derive(Debug)]
struct Hold {
    head: Sent,
    topic: TopicNumber,
    state: State,
    /// The wait after the next refusal.
    wait: Duration,
    /// Whether it was refused at all.
    refused: bool,
    /// The lowest of the rows that wait behind it.
    lowest: Option<i64>,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The key waits from now on.
    First,
    /// It was tried again, in vain.
    Again,
    /// Its key waits already, for another row.
    Behind,
    /// There are too many already.
    Full,
}

/// The books of one outbox.
#[derive(Debug, Default)]
pub(crate) struct Held {
    hasher: RandomState,
    holds: FxHashMap<Lane, Hold>,
    heads: FxHashMap<Sent, Lane>,
    due: BTreeSet<(Instant, Lane)>,
    over: Vec<Lane>,
    topics: FxHashMap<String, TopicNumber>,
    /// By number: whether the topic took the last row that was sent to it with care.
    proven: Vec<bool>,
}

impl Held {
    /// The lane of a row.
    pub(crate) fn lane(&self, key: Option<&[u8]>, row: Sent) -> Lane {
        let alone = key.is_none().then_some(row);
        Lane(self.hasher.hash_one((key, alone)))
    }

    /// The number of a topic.
    pub(crate) fn topic(&mut self, name: &str) -> TopicNumber {
        if let Some(number) = self.topics.get(name) {
            return *number;
        }
        let number = TopicNumber(u32::try_from(self.proven.len()).unwrap_or(u32::MAX));
        self.topics.insert(name.to_owned(), number);
        self.proven.push(false);
        number
    }

    /// Whether the topic is known to take records.
    pub(crate) fn is_proven(&self, topic: TopicNumber) -> bool {
        self.proven.get(topic.0 as usize) == Some(&true)
    }

    fn prove(&mut self, topic: TopicNumber, proven: bool) {
        if let Some(it) = self.proven.get_mut(topic.0 as usize) {
            *it = proven;
        }
    }

    /// How many keys wait behind a row that was refused.
    pub(crate) fn count(&self) -> usize {
        self.holds.values().filter(|hold| hold.refused).count()
    }

    /// Whether a row may go to Kafka now; if not, it is left in the table. `doubtful`: it may be refused, so no row of its key follows before its report.
    pub(crate) fn passes(
        &mut self,
        lane: Lane,
        row: Sent,
        topic: TopicNumber,
        doubtful: bool,
    ) -> bool {
        let mut doubtful = doubtful;
        if let Some(&former) = self.heads.get(&row)
            && former != lane
        {
            // Somebody gave it another key.
            self.end(former);
            doubtful = true;
        }
        match self.holds.get_mut(&lane) {
            Some(hold) if hold.head == row && hold.state != State::Over => {
                hold.topic = topic;
                hold.state == State::OnItsWay
            }
            Some(hold) => {
                hold.wait_behind(row.id);
                false
            }
            None => {
                if doubtful {
                    self.hold(lane, row, topic);
                }
                true
            }
        }
    }

    fn hold(&mut self, lane: Lane, head: Sent, topic: TopicNumber) {
        let hold = Hold {
            head,
            topic,
            state: State::OnItsWay,
            wait: FIRST_WAIT,
            refused: false,
            lowest: None,
        };
        self.holds.insert(lane, hold);
        self.heads.insert(head, lane);
    }

    /// Kafka did not take the row.
    pub(crate) fn refused(
        &mut self,
        lane: Lane,
        row: Sent,
        topic: TopicNumber,
        now: Instant,
    ) -> Refused {
        self.prove(topic, false);
        if let Some(hold) = self.holds.get_mut(&lane)
            && hold.head != row
        {
            if row.id > hold.head.id || !matches!(hold.state, State::Refused(_)) {
                hold.wait_behind(row.id);
                return Refused::Behind;
            }
            // Reports of two partitions can come in any order: the lower row goes first.
            hold.wait_behind(hold.head.id);
            let former = std::mem::replace(&mut hold.head, row);
            self.heads.remove(&former);
            self.heads.insert(row, lane);
            return Refused::Behind;
        }
        let is_new = self.holds.get(&lane).is_none_or(|hold| !hold.refused);
        if is_new && self.due.len() >= MOST {
            return Refused::Full;
        }
        if !self.holds.contains_key(&lane) {
            self.hold(lane, row, topic);
        }
        let Some(hold) = self.holds.get_mut(&lane) else {
            return Refused::Full;
        };
        if let State::Refused(due) = hold.state {
            self.due.remove(&(due, lane));
        }
        let due = now + hold.wait;
        hold.state = State::Refused(due);
        hold.wait = (hold.wait * 2).min(LAST_WAIT);
        hold.refused = true;
        self.due.insert((due, lane));
        if is_new {
            Refused::First
        } else {
            Refused::Again
        }
    }

    /// Kafka has the row. `Some` if others waited for that; then whether it had been refused before.
    pub(crate) fn delivered(&mut self, row: Sent) -> Option<bool> {
        let lane = *self.heads.get(&row)?;
        let hold = self.holds.get(&lane)?;
        let (topic, refused) = (hold.topic, hold.refused);
        self.prove(topic, true);
        self.end(lane);
        Some(refused)
    }

    /// The head is no more: delivered, or gone from the table.
    fn end(&mut self, lane: Lane) {
        let Some(hold) = self.holds.get_mut(&lane) else {
            return;
        };
        self.heads.remove(&hold.head);
        if let State::Refused(due) = hold.state {
            self.due.remove(&(due, lane));
        }
        hold.state = State::Over;
        if hold.lowest.is_none() {
            self.holds.remove(&lane);
        } else {
            self.over.push(lane);
        }
    }

    /// When the next refused row is to be tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Refused rows whose time has come, by their ids; they count as on their way.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Sent> {
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some((due, lane)) = self.due.pop_first()
        {
            if due > now + COMPANY {
                self.due.insert((due, lane));
                break;
            }
            if let Some(hold) = self.holds.get_mut(&lane) {
                hold.state = State::OnItsWay;
                rows.push(hold.head);
            }
        }
        rows.sort_unstable();
        rows
    }

    /// A row whose time had come could not be looked at: it is due again.
    pub(crate) fn put_off(&mut self, row: Sent, until: Instant) {
        if let Some(&lane) = self.heads.get(&row)
            && let Some(hold) = self.holds.get_mut(&lane)
            && hold.state == State::OnItsWay
        {
            hold.state = State::Refused(until);
            self.due.insert((until, lane));
        }
    }

    /// A row whose time had come is not in the table any more.
    pub(crate) fn is_gone(&mut self, row: Sent) {
        if let Some(&lane) = self.heads.get(&row) {
            self.end(lane);
        }
    }

    /// Whether keys wait for the reading to go back.
    pub(crate) fn has_over(&self) -> bool {
        !self.over.is_empty()
    }

    /// Sets the keys free whose heads are over: where the reading has to go back to. Only while no fetched row is still to be asked about, since a later
    /// row of such a key would go before those that wait.
    pub(crate) fn release(&mut self) -> Option<i64> {
        let over = std::mem::take(&mut self.over);
        let holds = over.iter().filter_map(|lane| self.holds.remove(lane));
        holds.filter_map(|hold| hold.lowest).min()
    }

    /// Nothing is on its way any more, and the table is read from its beginning. What was refused keeps its time: where each event is sent once, it is a
    /// refusal that ends a term, and would end the next one before anything else has gone.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.over.clear();
        self.due.clear();
        let due = &mut self.due;
        self.holds.retain(|lane, hold| {
            hold.lowest = None;
            let stays = hold.refused && hold.state != State::Over;
            if stays {
                let at = match hold.state {
                    State::Refused(at) => at,
                    State::OnItsWay | State::Over => now,
                };
                hold.state = State::Refused(at);
                due.insert((at, *lane));
            }
            stays
        });
        let holds = &self.holds;
        self.heads.retain(|_, lane| holds.contains_key(lane));
    }

    /// Whether rows of the lane are left in the table.
    pub(crate) fn waits(&self, lane: Lane) -> bool {
        self.holds.contains_key(&lane)
    }

    /// Whether the row was refused before.
    pub(crate) fn was_refused(&self, row: Sent) -> bool {
        let lane = self.heads.get(&row);
        lane.and_then(|lane| self.holds.get(lane))
            .is_some_and(|hold| hold.refused)
    }

    /// The first rows of the keys that wait.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Sent> {
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
#[path = "held_test.rs"]
mod tests;
