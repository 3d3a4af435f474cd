//! What the publisher asks the brokers about topics before their first rows. Rows wait meanwhile,
//! so rows for thousands of missing topics must not have it ask about one after the other.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::admission::TopicRules;
use crate::kafka::{Producer, Refusal};
use crate::relay::clock::rest_after;
use crate::relay::poison::Refusals;
use crate::relay::term_state::TermState;

/// Questions may take this long in a burst...
const BURST: Duration = Duration::from_millis(500);
/// ... and in the long run one part of the time in so many. Beyond that only topics are asked about
/// that are in a list of all topics.
const SHARE: u32 = 5;
/// No question counts for more: a broker that does not answer keeps all rows waiting anyway.
const MOST: Duration = Duration::from_millis(50);
/// The list is no older than this, and takes one part of the time in so many.
const LIST_AGE: Duration = Duration::from_secs(1);
const LIST_SHARE: u32 = 20;

pub(super) struct Inquiries {
    /// What questions took of late, by this time.
    spent: (Duration, Instant),
    listed: FxHashSet<String>,
    next_list: Instant,
}

impl Default for Inquiries {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            spent: (Duration::ZERO, now),
            listed: FxHashSet::default(),
            next_list: now,
        }
    }
}

impl Inquiries {
    /// Notes that a question was asked then, and is answered now.
    pub(super) fn took(&mut self, begun: Instant) {
        self.spent.0 += begun.elapsed().min(MOST);
    }

    fn have_time(&mut self, now: Instant) -> bool {
        let (spent, since) = self.spent;
        let earned = now.saturating_duration_since(since) / SHARE;
        self.spent = (spent.saturating_sub(earned), now);
        self.spent.0 < BURST
    }
}

/// Who asks, and what is known.
pub(super) struct Asker<'a> {
    pub(super) producer: &'a Producer,
    pub(super) refusals: &'a Refusals,
    pub(super) shared: &'a TermState,
}

impl Asker<'_> {
    /// Whether the brokers may be asked about the topic now, or need not.
    pub(super) async fn may(&self, topic: &str, inquiries: &mut Inquiries) -> bool {
        let now = Instant::now();
        if inquiries.have_time(now) || self.refusals.held().topics.takes_records(topic) {
            return true;
        }
        if inquiries.next_list <= now {
            let listing = spawn_blocking(self.producer.listing());
            let names = tokio::select! {
                names = listing => names.ok().flatten(),
                () = self.shared.halt.cancelled() => None,
            };
            let Some(names) = names else {
                // Nothing is sent now: there is time to ask.
                return true;
            };
            debug!(topics = names.len(), "asked a broker about all topics");
            inquiries.listed = names;
            let pause = rest_after(now.elapsed(), LIST_SHARE);
            inquiries.next_list = Instant::now() + pause.max(LIST_AGE);
        }
        inquiries.listed.contains(topic)
    }

    /// Returns why a topic that has not taken a row yet cannot take one now. The producer itself
    /// would look for the topic for half a minute, and keep the answer for minutes. Each topic is
    /// asked about once a second at most.
    pub(super) async fn about(&self, topic: &str, rules: &TopicRules) -> Option<Refusal> {
        let known = self
            .refusals
            .held()
            .topics
            .answer(rules.topic, Instant::now());
        if let Some(answer) = known {
            return answer;
        }
        let inquiry = spawn_blocking(self.producer.inquiry(topic));
        let answer = tokio::select! {
            answer = inquiry => answer.ok().flatten(),
            // A stop waits for no broker.
            () = self.shared.halt.cancelled() => return None,
        };
        debug!(
            topic,
            error = answer.as_ref().map(|it| &it.reason),
            "asked a broker about a topic"
        );
        let mut held = self.refusals.held();
        held.topics
            .answered(rules.topic, Instant::now(), answer.clone());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_take_a_share_of_the_time_after_a_burst() {
        let mut inquiries = Inquiries::default();
        let now = inquiries.spent.1;
        assert!(inquiries.have_time(now));
        inquiries.spent.0 += BURST;
        assert!(!inquiries.have_time(now));
        inquiries.spent.0 += BURST;
        assert!(!inquiries.have_time(now + BURST * SHARE));
        assert!(inquiries.have_time(now + BURST * SHARE * 2));
    }
}
