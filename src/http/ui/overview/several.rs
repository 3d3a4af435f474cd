//! Contents of the page of several outboxes, for its template.

use askama::Template;

use super::history::History;
use super::incidents::Incident;
use super::view::OutboxState;
use crate::http::health::OutboxHealth;
use crate::http::ui::advice::{Advice, advised};

#[derive(Template)]
#[template(path = "overview/several.html")]
pub(crate) struct Several {
    mood: &'static str,
    verdict: String,
    outboxes: Vec<OutboxState>,
    /// The outbox that each is about, and what to read.
    advice: Vec<(String, Advice)>,
    incidents: Vec<Incident>,
}

impl Several {
    pub(crate) fn of(all: &[OutboxHealth], histories: &[History]) -> Self {
        let states = all.iter().zip(histories);
        let outboxes: Vec<_> = states
            .map(|(it, history)| OutboxState::of(it, history, false))
            .collect();
        let (mood, verdict) = sum(&outboxes);
        let advice = all.iter().flat_map(|it| {
            let reasons = it.readiness.words.iter().filter(|_| !it.readiness.ready);
            let words = reasons.chain(&it.readiness.warnings);
            words.map(|words| (it.relay.outbox.clone(), advised(&it.relay, words)))
        });
        Self {
            mood,
            verdict,
            outboxes,
            advice: advice.collect(),
            incidents: Incident::merged(all.iter().map(|it| &it.relay)),
        }
    }

    pub(crate) fn title(&self) -> String {
        format!("{} · Doorbell", self.verdict)
    }
}

/// Sums up several outboxes, the worst first.
fn sum(outboxes: &[OutboxState]) -> (&'static str, String) {
    let all = outboxes.len();
    let moods = [
        ("bad", "not ready"),
        ("paused", "paused"),
        ("warned", "to look at"),
    ];
    let count = |mood: &str| outboxes.iter().filter(|it| it.mood == mood).count();
    let mut faults = moods
        .into_iter()
        .map(|(mood, words)| (mood, count(mood), words))
        .filter(|(_, count, _)| *count > 0);
    let (mood, mut verdict) = match faults.next() {
        None => ("good", format!("All {all} outboxes are well")),
        Some((mood, count, words)) => (mood, format!("{count} of {all} outboxes {words}")),
    };
    for (_, count, words) in faults {
        verdict += &format!(", {count} {words}");
    }
    match outboxes.iter().filter(|it| it.has_letters()).count() {
        0 => (mood, verdict),
        some => (mood, format!("{verdict}; dead letters in {some}")),
    }
}
