//! The incident log: changes of state, and what was wrong from when to when. What ends is written
//! to the log; its beginning was, by the code that found it.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing::info;

use super::kinds::ProblemKind;
use crate::relay::clock::unix_micros;

/// Entries that are kept for the life of the process: hours of a relay that is never well.
const KEPT: usize = 100;

/// What an entry of the incident log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The relay leads, stands by, or starts.
    State,
    /// No row gets through.
    Outage,
    /// An operator paused the outbox.
    Pause,
    /// Rows get through, and an operator should act.
    Warning,
}

impl ChangeKind {
    fn of(problem: ProblemKind) -> Self {
        match problem {
            ProblemKind::Start | ProblemKind::Stranger | ProblemKind::Locked => Self::Outage,
            ProblemKind::Pause => Self::Pause,
            _ => Self::Warning,
        }
    }
}

/// An entry of the incident log.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When it happened, or began.
    pub at: f64,
    /// When it ended; `None` for a change of state, and for what lasts.
    pub until: Option<f64>,
    /// What it is about.
    pub kind: ChangeKind,
    /// The new state, or what was wrong.
    pub words: String,
    /// The problem that it is the history of.
    #[serde(skip)]
    pub problem: Option<ProblemKind>,
}

#[derive(Debug, Default)]
pub(super) struct Incidents(pub(super) VecDeque<Change>);

impl Incidents {
    /// Adds a change of state.
    pub(super) fn note(&mut self, words: &str) {
        if self.0.back().is_none_or(|last| last.words != words) {
            self.push(ChangeKind::State, None, words);
        }
    }

    /// Adds what is wrong from now on. It is one entry for as long as it lasts, whatever each
    /// attempt meets; a pause with other words is another pause.
    pub(super) fn begin(&mut self, problem: Option<ProblemKind>, words: &str) {
        let open = self.open(problem).filter(|it| it.kind != ChangeKind::Pause);
        if let Some(open) = open {
            words.clone_into(&mut open.words);
            return;
        }
        self.end(problem);
        let kind = problem.map_or(ChangeKind::Outage, ChangeKind::of);
        self.push(kind, problem, words);
    }

    /// Ends what was wrong, and logs for how long it lasted.
    pub(super) fn end(&mut self, problem: Option<ProblemKind>) {
        if let Some(it) = self.open(problem) {
            let now = seconds();
            it.until = Some(now);
            let lasted = Duration::from_secs_f64((now - it.at).max(0.0).round());
            let lasted = humantime::format_duration(lasted);
            info!("over after {lasted}: {}", it.words);
        }
    }

    pub(super) fn open(&mut self, problem: Option<ProblemKind>) -> Option<&mut Change> {
        let is_it = |it: &&mut Change| {
            it.kind != ChangeKind::State && it.until.is_none() && it.problem == problem
        };
        self.0.iter_mut().rev().find(is_it)
    }

    fn push(&mut self, kind: ChangeKind, problem: Option<ProblemKind>, words: &str) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Change {
            at: seconds(),
            until: None,
            kind,
            words: words.to_owned(),
            problem,
        });
    }
}

fn seconds() -> f64 {
    unix_micros(SystemTime::now()) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_entry_and_a_new_reason_of_a_pause_another() {
        let mut log = Incidents::default();
        log.note("leading");
        log.note("leading");
        for words in ["the session is lost", "unreachable"] {
            log.begin(Some(ProblemKind::Start), words);
        }
        log.end(Some(ProblemKind::Start));
        log.end(Some(ProblemKind::Start));
        for words in ["paused by ann", "paused by bob"] {
            log.begin(Some(ProblemKind::Pause), words);
        }
        for words in ["the table keeps 1", "the table keeps 2"] {
            log.begin(Some(ProblemKind::Delete), words);
        }
        log.begin(None, "stuck");
        let shown: Vec<_> = log
            .0
            .iter()
            .map(|it| (it.words.as_str(), it.until.is_some()))
            .collect();
        let expected = [
            ("leading", false),
            ("unreachable", true),
            ("paused by ann", true),
            ("paused by bob", false),
            ("the table keeps 2", false),
            ("stuck", false),
        ];
        assert_eq!(shown, expected);
        for _ in 0..2 * KEPT {
            log.note("leading");
            log.note("standby");
        }
        assert_eq!(log.0.len(), KEPT);
    }
}
