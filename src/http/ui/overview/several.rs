//! Contents of the page of several outboxes, for its template.

use askama::Template;

use super::history::History;
use super::incidents::Incident;
use super::view::OutboxState;
use crate::http::health::OutboxHealth;
use crate::http::ui::advice::{Advice, advised, dead_letters};

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
        let mut advice: Vec<_> = all.iter().flat_map(advised_of).collect();
        let letters = outboxes.iter().filter(|it| it.has_letters());
        advice.extend(letters.map(|it| (it.name.clone(), dead_letters(&it.dead))));
        Self {
            mood,
            verdict,
            outboxes,
            advice,
            incidents: Incident::merged(all.iter().map(|it| &it.relay)),
        }
    }

    pub(crate) fn title(&self) -> String {
        format!("{} · Doorbell", self.verdict)
    }
}

/// Returns what is wrong with an outbox, with its name.
fn advised_of(it: &OutboxHealth) -> impl Iterator<Item = (String, Advice)> {
    let reasons = it.readiness.words.iter().filter(|_| !it.readiness.ready);
    let words = reasons.chain(&it.readiness.warnings);
    words.map(|words| (it.relay.outbox.clone(), advised(&it.relay, words)))
}

/// Sums up several outboxes, the worst first.
fn sum(outboxes: &[OutboxState]) -> (&'static str, String) {
    let all = outboxes.len();
    let moods = [
        ("bad", "not ready"),
        ("paused", "paused"),
        ("warned", "to look at"),
    ];
    let of = |mood: &str| named(outboxes, |it| it.mood == mood);
    let mut faults = moods
        .into_iter()
        .filter_map(|(mood, words)| Some((mood, words, of(mood)?)));
    let (mood, mut verdict) = match faults.next() {
        None => ("good", format!("All {all} outboxes are well")),
        Some((mood, words, (count, names))) => {
            (mood, format!("{count} of {all} outboxes {words}{names}"))
        }
    };
    for (_, words, (count, names)) in faults {
        verdict += &format!(", {count} {words}{names}");
    }
    match named(outboxes, OutboxState::has_letters) {
        None => (mood, verdict),
        Some((count, names)) => (mood, format!("{verdict}; dead letters in {count}{names}")),
    }
}

/// Returns how many outboxes are such, and the names of a few.
fn named(
    outboxes: &[OutboxState],
    is_such: impl Fn(&OutboxState) -> bool,
) -> Option<(usize, String)> {
    const FEW: usize = 3;
    let such = outboxes.iter().filter(|it| is_such(it));
    let names: Vec<&str> = such.map(|it| it.name.as_str()).collect();
    match names.len() {
        0 => None,
        count @ 1..=FEW => Some((count, format!(" ({})", names.join(", ")))),
        count => Some((count, String::new())),
    }
}
