//! Which entry of the runbook helps with a problem.

use super::code::with_code;
use crate::relay::{ProblemKind, Snapshot};

/// What a problem is, and the entry of the runbook for it.
pub(crate) struct Advice {
    /// HTML.
    pub(crate) words: String,
    pub(crate) title: &'static str,
    pub(crate) anchor: String,
}

impl Advice {
    fn of(words: &str, title: &'static str) -> Self {
        Self {
            words: with_code(words),
            title,
            anchor: title.to_lowercase(),
        }
    }
}

/// Finds the entry for words about a relay's health.
pub(crate) fn advised(relay: &Snapshot, words: &str) -> Advice {
    let problem = relay
        .problems
        .iter()
        .find(|it| words.starts_with(&it.words));
    let title = match problem.map(|it| it.kind) {
        Some(ProblemKind::Pause) => "DoorbellPaused",
        Some(ProblemKind::Stranger) => "DoorbellNobodyLeads",
        Some(ProblemKind::Delete) => "DoorbellDeletesFail",
        Some(ProblemKind::Park) => "DoorbellNotParked",
        Some(ProblemKind::Trigger | ProblemKind::Unannounced) => "DoorbellSwept",
        Some(ProblemKind::Start) if words.contains("Kafka") => "DoorbellKafkaAway",
        Some(ProblemKind::Start) => "DoorbellNobodyLeads",
        Some(ProblemKind::Locked) => "DoorbellNotReady",
        None if words.starts_with("Kafka is unreachable") => "DoorbellKafkaAway",
        None if words.contains("holds an old snapshot") => "DoorbellXminOld",
        None if relay.held_keys > 0 && !words.starts_with("stuck") => "DoorbellKeysHeld",
        None => "DoorbellNotReady",
    };
    Advice::of(words, title)
}

/// What is to be done about the dead letters of an outbox.
pub(crate) fn dead_letters(number: &str) -> Advice {
    let (noun, verb) = if number == "1" {
        ("letter", "waits")
    } else {
        ("letters", "wait")
    };
    let words = format!("{number} dead {noun} {verb} for an operator");
    Advice::of(&words, "DoorbellDeadLetters")
}
