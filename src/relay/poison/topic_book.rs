//! What is known of topics: whether they take records, and how many of their rows were refused.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::kafka::Refusal;

/// An answer of a broker about a topic is used for this long.
const FRESH: Duration = Duration::from_secs(1);

/// Number of a topic. The default is that of no topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicNumber(u32);

/// What becomes of a row that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is refused by the policy.
    Refuse,
    /// It waits, with all rows of its topic.
    Wait,
    /// The same, since the topic has just turned out to be missing.
    Missing,
    /// The same, since so many rows of its topic were refused before it.
    Breaks,
}

#[derive(Debug, Default)]
struct TopicState {
    name: String,
    /// Whether it took the last row that was sent to it as doubtful.
    is_proven: bool,
    /// The last answer about it: why it takes no record, or that it does.
    answer: Option<(Instant, Option<Refusal>)>,
    /// Since when the brokers do not know it.
    missing: Option<Instant>,
    /// Rows that were refused for the topic's sake since it last took one.
    refused: usize,
    /// Whether they were so many that the others wait.
    is_broken: bool,
}

#[derive(Debug, Default)]
pub(crate) struct TopicBook {
    numbers: FxHashMap<String, TopicNumber>,
    states: Vec<TopicState>,
}

impl TopicBook {
    /// Returns the number of a topic.
    pub(crate) fn number(&mut self, name: &str) -> TopicNumber {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.states.push(TopicState {
            name: name.to_owned(),
            ..TopicState::default()
        });
        let number = TopicNumber(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Returns the name of a topic.
    pub(crate) fn name(&self, topic: TopicNumber) -> Option<&str> {
        self.state(topic).map(|it| it.name.as_str())
    }

    /// Returns the number of a topic that a row went to.
    pub(crate) fn known(&self, name: &str) -> Option<TopicNumber> {
        self.numbers.get(name).copied()
    }

    fn state(&self, topic: TopicNumber) -> Option<&TopicState> {
        self.states.get((topic.0 as usize).checked_sub(1)?)
    }

    fn state_mut(&mut self, topic: TopicNumber) -> Option<&mut TopicState> {
        self.states.get_mut((topic.0 as usize).checked_sub(1)?)
    }

    /// Whether the topic is known to take records.
    pub(crate) fn is_proven(&self, topic: TopicNumber) -> bool {
        self.state(topic).is_some_and(|it| it.is_proven)
    }

    /// Whether a topic of this name is known to take records.
    pub(crate) fn takes_records(&self, name: &str) -> bool {
        self.known(name).is_some_and(|it| self.is_proven(it))
    }

    /// Whether only a record that it takes shows that its rows may go on.
    pub(crate) fn is_broken(&self, topic: TopicNumber) -> bool {
        self.state(topic).is_some_and(|it| it.is_broken)
    }

    /// Records whether the topic took a row.
    pub(super) fn prove(&mut self, topic: TopicNumber, is_proven: bool) {
        let Some(state) = self.state_mut(topic) else {
            return;
        };
        state.is_proven = is_proven;
        if is_proven {
            (state.missing, state.refused, state.is_broken) = (None, 0, false);
        }
    }

    /// Forgets what may have changed between two terms.
    pub(super) fn start_over(&mut self) {
        for state in &mut self.states {
            (state.is_proven, state.answer) = (false, None);
        }
    }

    /// Returns the last answer about the topic, if it is fresh.
    pub(crate) fn answer(&self, topic: TopicNumber, now: Instant) -> Option<Option<Refusal>> {
        let (at, answer) = self.state(topic)?.answer.as_ref()?;
        (now.saturating_duration_since(*at) < FRESH).then(|| answer.clone())
    }

    /// Takes in an answer about the topic.
    pub(crate) fn answered(&mut self, topic: TopicNumber, now: Instant, answer: Option<Refusal>) {
        if let Some(state) = self.state_mut(topic) {
            if answer.is_none() {
                state.missing = None;
            }
            state.answer = Some((now, answer));
        }
    }

    /// Decides about a row that was refused. The brokers have `patience` to get to know a topic,
    /// and no more than `breaker` rows are refused for the sake of their topic.
    pub(crate) fn judge(
        &mut self,
        topic: TopicNumber,
        refusal: &Refusal,
        now: Instant,
        patience: Duration,
        breaker: Option<usize>,
    ) -> Judgement {
        let Some(state) = self.state_mut(topic).filter(|_| refusal.is_of_topic()) else {
            return Judgement::Refuse;
        };
        state.is_proven = false;
        if refusal.is_missing_topic() {
            let is_new = state.missing.is_none();
            let since = *state.missing.get_or_insert(now);
            if now.saturating_duration_since(since) < patience {
                return match is_new {
                    true => Judgement::Missing,
                    false => Judgement::Wait,
                };
            }
        }
        state.refused += 1;
        if breaker.is_none_or(|most| state.refused <= most) {
            return Judgement::Refuse;
        }
        match std::mem::replace(&mut state.is_broken, true) {
            true => Judgement::Wait,
            false => Judgement::Breaks,
        }
    }
}
