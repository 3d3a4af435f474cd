//! Admission checks before a row is produced: by its topic, until that has taken records, and by
//! its key, if `hold-key` is used.

use std::time::{Instant, SystemTime};

use crate::config::Poison;
use crate::event::Event;
use crate::kafka::{Code, Refusal, TopicFacts};
use crate::relay::clock::unix_micros;
use crate::relay::in_flight::{RefusalPolicy, Ticket};
use crate::relay::poison::{HoldId, Refusals, Refused, TopicNumber};
use crate::relay::term_state::TermState;

/// A generous bound on the bytes of the frame of a batch beside its records, and of the headers of
/// a record beside its contents.
pub(super) const FRAME: usize = 512;

/// Why rows wait of a topic that the brokers are to be asked about.
const UNASKED: &str = "the brokers do not list its topic; it is asked about later";

/// What applies to the rows of one topic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopicRules {
    pub(super) policy: Poison,
    pub(super) topic: TopicNumber,
    pub(super) facts: TopicFacts,
    /// Whether the topic takes records, and no row of it waits.
    pub(super) is_open: bool,
}

/// Whether a row is produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It goes to the producer.
    Send,
    /// It goes to the producer if a broker knows its topic, which has not taken a row yet. Other
    /// rows of its key or topic wait for it.
    Probe,
    /// It stays in the table, because its key or topic waits for another row.
    Leave,
}

impl Refusals {
    /// Returns what applies to a topic.
    pub(crate) fn rules(&self, name: &str, facts: TopicFacts) -> TopicRules {
        let mut held = self.held();
        let topic = held.topics.number(name);
        TopicRules {
            policy: self.policies.policy(name),
            topic,
            facts,
            is_open: held.is_open(topic),
        }
    }

    /// Records what a refusal of the row leads to.
    pub(crate) fn mark(
        &self,
        shared: &TermState,
        ticket: Ticket,
        event: &Event<'_>,
        rules: &TopicRules,
    ) {
        if self.policies.are_plain() {
            return;
        }
        let key_hash = self.held().key_hash(event.key, event.row());
        let TopicRules { policy, topic, .. } = *rules;
        shared.window().mark(
            ticket,
            RefusalPolicy {
                policy,
                key_hash,
                topic,
            },
        );
    }

    /// Leaves a row in the table, and all rows of its key or topic, to be tried again later.
    /// Returns `false` if too many wait.
    pub(super) fn put_off(
        &self,
        shared: &TermState,
        ticket: Ticket,
        event: &Event<'_>,
        rules: &TopicRules,
    ) -> bool {
        self.mark(shared, ticket, event, rules);
        let (row, now) = (event.row(), Instant::now());
        let mut held = self.held();
        let id = match rules.policy {
            Poison::HoldKey => held.key_hash(event.key, row),
            Poison::Park | Poison::Stop => HoldId::Topic(rules.topic),
        };
        match held.refused(id, row, rules.topic, now) {
            Refused::Full => return false,
            Refused::Behind => {}
            Refused::First | Refused::Again => held.explain(id, UNASKED),
        }
        drop(held);
        self.suspects.clear([&row]);
        shared.window().give_up(ticket);
        shared.room.notify_waiters();
        shared.held.notify_one();
        true
    }

    /// Decides whether a row may be produced now.
    pub(crate) fn admit(
        &self,
        shared: &TermState,
        ticket: Ticket,
        event: &Event<'_>,
        rules: &TopicRules,
    ) -> Admission {
        self.mark(shared, ticket, event, rules);
        let holds_keys = self.policies.hold_keys();
        if rules.is_open && !holds_keys {
            return Admission::Send;
        }
        let row = event.row();
        let by_key = rules.policy == Poison::HoldKey;
        let mut held = self.held();
        let is_proven = held.topics.is_proven(rules.topic);
        let mut passes = true;
        if holds_keys {
            let doubtful = by_key
                && (!is_proven || rules.may_be_too_large(event) || self.suspects.contains(&row));
            let key_hash = held.key_hash(event.key, row);
            passes = held.passes(key_hash, row, rules.topic, doubtful);
        }
        if passes && !by_key && !rules.is_open {
            passes = held.passes(HoldId::Topic(rules.topic), row, rules.topic, !is_proven);
        }
        if passes {
            return match is_proven {
                true => Admission::Send,
                false => Admission::Probe,
            };
        }
        drop(held);
        self.suspects.clear([&row]);
        shared.window().give_up(ticket);
        shared.room.notify_waiters();
        Admission::Leave
    }
}

impl TopicRules {
    /// What is known beforehand of the row: why its topic cannot take it.
    pub(super) fn foresee(&self, event: &Event<'_>, time: Option<i64>) -> Option<Refusal> {
        if self.facts.needs_key && event.key.is_none() {
            return Some(Refusal::foreseen(
                Code::InvalidRecord,
                "its topic is compacted and takes no record without a key",
            ));
        }
        let most = self.facts.most_age?;
        let time = time.filter(|time| *time >= 1_000)?;
        let age = unix_micros(SystemTime::now()).saturating_sub(time) / 1_000;
        (age > most).then(|| {
            Refusal::foreseen(
                Code::InvalidTimestamp,
                "its created_at is older than its topic's message.timestamp.before.max.ms allows: raise that, or set timestamp = \"sent\"",
            )
        })
    }

    /// Whether the row may exceed the limit of its topic. The broker checks the compressed batch,
    /// so this is only a suspicion.
    pub(super) fn may_be_too_large(&self, event: &Event<'_>) -> bool {
        let fields = [
            event.payload,
            event.key,
            event.headers,
            Some(event.event_type),
        ];
        let bytes: usize = fields.into_iter().flatten().map(<[u8]>::len).sum();
        let bytes = bytes + event.more.len();
        self.facts.limit.is_some_and(|limit| bytes + FRAME > limit)
    }
}
