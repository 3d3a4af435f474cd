//! What the page says, in words.

use std::time::{Duration, SystemTime};

use askama::Template;

use super::chart;
use super::history::{History, STAGES};
use crate::app::http::Judged;
use crate::relay::{BellState, Role, Snapshot};

/// Changes of state that are shown.
const CHANGES: usize = 10;

/// The page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Whole {
    pub(super) title: String,
    /// HTML.
    pub(super) live: String,
}

/// The part that changes.
#[derive(Template)]
#[template(path = "live.html")]
pub(super) struct Live {
    outboxes: Vec<Outbox>,
}

/// One outbox.
struct Outbox {
    /// Of its elements: the number of the outbox.
    at: usize,
    name: String,
    topic: String,
    /// A class: `good`, `warned`, `paused` or `bad`.
    mood: &'static str,
    verdict: String,
    /// Why it is not well.
    reasons: Vec<String>,
    warnings: Vec<String>,
    leads: String,
    parked: String,
    rate: String,
    backlog: String,
    oldest: String,
    /// The highest rate, the largest backlog and the longest stage of what is drawn.
    tops: [String; 3],
    /// Name and milliseconds of each stage.
    stages: Vec<(&'static str, String)>,
    bell: &'static str,
    /// SVG.
    charts: [String; 4],
    /// When, and to what.
    changes: Vec<(String, String)>,
}

impl Live {
    pub(super) fn of<'a>(outboxes: impl Iterator<Item = (&'a Judged, &'a History)>) -> Self {
        let outboxes = outboxes.enumerate();
        let outboxes = outboxes.map(|(at, (judged, history))| Outbox::of(at, judged, history));
        Self {
            outboxes: outboxes.collect(),
        }
    }

    /// The title of the window: what is not well comes first.
    pub(super) fn title(&self) -> String {
        let worst = self.outboxes.iter().find(|it| it.mood != "good");
        let shown = worst.or(self.outboxes.first());
        shown.map_or("Doorbell".into(), |it| format!("{} · Doorbell", it.verdict))
    }
}

impl Outbox {
    fn of(at: usize, judged: &Judged, history: &History) -> Self {
        let (relay, readiness) = (&judged.relay, &judged.readiness);
        let (mood, verdict) = verdict(judged, history);
        let stands = readiness.words.first().cloned().unwrap_or_default();
        let (charts, tops) = charts(history);
        let backlog = relay.backlog.as_ref();
        let more = |it: &crate::relay::Backlog| if it.is_more { " or more" } else { "" };
        let changes = relay.changes.iter().rev().take(CHANGES);
        Self {
            at,
            name: relay.outbox.clone(),
            topic: relay.topic.clone(),
            mood,
            verdict,
            reasons: if readiness.ready {
                Vec::new()
            } else {
                readiness.words.clone()
            },
            warnings: readiness.warnings.clone(),
            leads: leads(relay, readiness.ready, &stands),
            parked: parked(relay.rows.parked, relay.last_parked.as_deref()),
            rate: figure(history.rate()),
            backlog: backlog.map_or("not known".into(), |it| format!("{}{}", it.rows, more(it))),
            oldest: backlog.map_or("not known".into(), |it| {
                it.oldest_seconds.map_or("none".into(), time)
            }),
            tops,
            stages: stages(history),
            bell: bell(relay),
            charts,
            changes: changes
                .map(|change| (clock(change.at), change.words.clone()))
                .collect(),
        }
    }
}

/// The one line for whoever has five seconds. It names no time that passes: a screen reader says it whenever it changes.
fn verdict(judged: &Judged, history: &History) -> (&'static str, String) {
    let (relay, readiness) = (&judged.relay, &judged.readiness);
    let waiting = relay.backlog.as_ref().is_some_and(|it| it.rows > 0);
    match relay.role {
        Role::Paused => ("paused", "PAUSED: no row is sent".into()),
        _ if !readiness.ready => ("bad", "Not ready".into()),
        Role::Standby => ("good", "Standing by".into()),
        _ if !readiness.warnings.is_empty() => ("warned", "Works, with a warning".into()),
        _ if history.rate() > 0.0 => ("good", "Rows flow".into()),
        _ if waiting => ("good", "Rows wait".into()),
        _ if relay.backlog.is_none() => ("good", "Leads, and has not counted yet".into()),
        _ => ("good", "All is sent".into()),
    }
}

fn leads(relay: &Snapshot, ready: bool, stands: &str) -> String {
    let server = relay.server.as_deref().unwrap_or("no PostgreSQL yet");
    match relay.role {
        Role::Leading => format!("this relay, for {}, at {server}", time(relay.role_seconds)),
        Role::Standby if ready => format!("another relay; {stands}; at {server}"),
        Role::Standby => format!("not this relay; at {server}"),
        Role::Paused => format!(
            "this relay, paused for {}, at {server}",
            time(relay.role_seconds)
        ),
        Role::Starting => format!("not this relay: starting for {}", time(relay.role_seconds)),
    }
}

/// What the process knows of dead letters: others may be there from before, or gone.
fn parked(rows: u64, last: Option<&str>) -> String {
    let count = match rows {
        0 => "This relay has parked no row since it began.".into(),
        1 => "This relay has parked 1 row since it began.".into(),
        rows => format!("This relay has parked {rows} rows since it began."),
    };
    match last {
        Some(why) => format!("{count} Kafka could not take the last one: {why}."),
        None => count,
    }
}

fn bell(relay: &Snapshot) -> &'static str {
    match (relay.role, relay.bell.state) {
        (Role::Leading, BellState::Awake) => "awake: the relay fetches, writers need not ring",
        (Role::Leading, BellState::Asleep) => "asleep: the next writer rings",
        (Role::Leading, BellState::Waiting) => "waiting for the end of a silent transaction",
        _ => "not ours: this relay does not lead",
    }
}

/// Rate, backlog, stages and bell, and the highest figures of the first three.
fn charts(history: &History) -> ([String; 4], [String; 3]) {
    let samples = &history.samples;
    let rate = [samples.iter().map(|it| Some(it.rate)).collect::<Vec<_>>()];
    let backlog = [samples.iter().map(|it| it.backlog).collect::<Vec<_>>()];
    let stage = |at: usize| samples.iter().map(|it| it.stages[at]).collect::<Vec<_>>();
    let stages: Vec<_> = (0..STAGES.len()).map(stage).collect();
    let states: Vec<_> = samples
        .iter()
        .map(|it| it.bell.map_or("away", BellState::word))
        .collect();
    let tops = [
        figure(chart::highest(&rate)),
        figure(chart::highest(&backlog)),
        figure(chart::highest(&stages)),
    ];
    let charts = [
        chart::lines("Rows a second over the last five minutes", &rate),
        chart::lines("Rows that wait over the last five minutes", &backlog),
        chart::lines(
            "Latency by stage, mean of each second, over the last five minutes",
            &stages,
        ),
        chart::strip("State of the bell over the last five minutes", &states),
    ];
    (charts, tops)
}

/// Of the last second in which rows passed the stage.
fn stages(history: &History) -> Vec<(&'static str, String)> {
    let last = |at: usize| history.samples.iter().rev().find_map(|it| it.stages[at]);
    let shown = |(at, name)| {
        (
            name,
            last(at).map_or("no row yet".into(), |ms| format!("{} ms", figure(ms))),
        )
    };
    STAGES.into_iter().enumerate().map(shown).collect()
}

/// Whole numbers, and small ones with a digit more.
fn figure(value: f64) -> String {
    if value == 0.0 || value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Whole seconds, in words.
pub(super) fn time(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}

/// A point in time, in UTC.
fn clock(at: f64) -> String {
    let since = Duration::try_from_secs_f64(at.max(0.0)).unwrap_or_default();
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}
