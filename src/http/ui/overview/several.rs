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

/// Sums up several outboxes, by the worst.
fn sum(outboxes: &[OutboxState]) -> (&'static str, String) {
    let all = outboxes.len();
    let of = |mood: &str| outboxes.iter().filter(|it| it.mood == mood).count();
    let (bad, paused, warned) = (of("bad"), of("paused"), of("warned"));
    let (mood, count, words) = match (bad, paused, warned) {
        (0, 0, 0) => return ("good", format!("All {all} outboxes are well")),
        (0, 0, warned) => ("warned", warned, "to look at"),
        (0, paused, _) => ("paused", paused, "paused"),
        (bad, ..) => ("bad", bad, "not ready"),
    };
    (mood, format!("{count} of {all} outboxes {words}"))
}
