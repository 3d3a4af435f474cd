//! Contents of the page of one outbox, for its template.

use askama::Template;

use super::chart::{self, Chart};
use super::history::{History, HistoryPoint, STAGES};
use super::incidents::Incident;
use super::words::{clock, clock_of_day, figure, grouped};
use crate::http::health::OutboxHealth;
use crate::http::ui::advice::{Advice, advised};
use crate::http::ui::code::with_code;
use crate::numbers::{age, counted, date_and_time};
use crate::relay::{Backlog, BellState, ChangeKind, Delayed, ProblemKind, Role, Snapshot};

/// The sweep counts no further.
const MOST_DEAD: u64 = 100_000;
/// Rows of the table of values.
const TABLE_ROWS: usize = 12;

#[derive(Template)]
#[template(path = "overview/outbox.html")]
pub(crate) struct OutboxPage {
    pub(crate) state: OutboxState,
    topic: String,
    advice: Vec<Advice>,
    warnings: Vec<Advice>,
    leads: String,
    /// HTML.
    parked: String,
    charts: [Chart; 3],
    /// Name and latency of each stage.
    stages: Vec<(&'static str, String)>,
    bell: &'static str,
    strip: String,
    values: Vec<TableRow>,
    incidents: Vec<Incident>,
}

/// What one line of the list of outboxes says, and the top of an outbox's page.
pub(crate) struct OutboxState {
    pub(crate) name: String,
    pub(crate) path: String,
    /// CSS class: `good`, `warned`, `paused` or `bad`.
    pub(crate) mood: &'static str,
    pub(crate) verdict: &'static str,
    /// What the verdict means, in a sentence.
    pub(crate) meaning: String,
    /// When what it names began, or nothing.
    pub(crate) beginning: String,
    pub(crate) rate: String,
    pub(crate) backlog: String,
    pub(crate) oldest: String,
    /// Rows whose time is to come, if rows can have one.
    pub(crate) delayed: Option<String>,
    pub(crate) leader: String,
    pub(crate) dead: String,
    pub(crate) letters: String,
}

/// Values of some seconds.
struct TableRow {
    time: String,
    rate: String,
    backlog: String,
    stages: Vec<String>,
}

impl OutboxPage {
    pub(crate) fn of(health: &OutboxHealth, history: &History, is_alone: bool) -> Self {
        let (relay, readiness) = (&health.relay, &health.readiness);
        let advised = |words: &[String]| words.iter().map(|it| advised(relay, it)).collect();
        Self {
            state: OutboxState::of(health, history, is_alone),
            topic: relay.topic.clone(),
            advice: if readiness.ready {
                Vec::new()
            } else {
                advised(&readiness.words)
            },
            warnings: advised(&readiness.warnings),
            leads: leads(health),
            parked: with_code(&parked(relay.rows.parked, relay.last_parked.as_deref())),
            charts: charts(history, relay.role),
            stages: stages(history),
            bell: bell(relay, history),
            strip: strip(history),
            values: values(history),
            incidents: Incident::of(relay),
        }
    }

    pub(crate) fn names(&self) -> (String, String) {
        (self.state.name.clone(), self.topic.clone())
    }

    /// Returns the title of the window.
    pub(crate) fn title(&self) -> String {
        format!("{} · {} · Doorbell", self.state.verdict, self.state.name)
    }
}

impl OutboxState {
    pub(crate) fn of(health: &OutboxHealth, history: &History, is_alone: bool) -> Self {
        let relay = &health.relay;
        let (mood, verdict) = verdict(health, history);
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("outbox", &relay.outbox).finish();
        let backlog = relay.backlog.as_ref();
        Self {
            name: relay.outbox.clone(),
            path: format!("/outbox?{query}"),
            mood,
            verdict,
            meaning: meaning(health, history),
            beginning: beginning(relay, mood),
            // The last second may lie before the end of its lead.
            rate: match relay.role {
                Role::Leading => figure(history.rate()),
                _ => "0".into(),
            },
            backlog: backlog.map_or("not known".into(), rows),
            oldest: backlog.map_or("not known".into(), |it| {
                it.oldest_seconds.map_or("none".into(), age)
            }),
            delayed: relay.delayed.as_ref().map(delayed),
            leader: match relay.role {
                Role::Leading => "this relay",
                Role::Paused => "this relay, paused",
                Role::Standby if health.readiness.ready => "another relay",
                Role::Standby => "not this relay",
                Role::Starting => "not known",
            }
            .into(),
            dead: dead(relay),
            letters: if is_alone {
                "/dead".into()
            } else {
                format!("/dead?{query}")
            },
        }
    }
}

impl OutboxState {
    pub(crate) fn has_letters(&self) -> bool {
        self.dead != "0" && self.dead != "not known"
    }
}

fn rows(it: &Backlog) -> String {
    format!(
        "{}{}",
        grouped(it.rows),
        if it.is_more { " or more" } else { "" }
    )
}

fn delayed(it: &Delayed) -> String {
    let more = if it.is_more { " or more" } else { "" };
    format!("{}{more}", grouped(it.rows))
}

/// Returns the verdict in a few words. It contains no running time: a screen reader reads it out at
/// each change.
fn verdict(health: &OutboxHealth, history: &History) -> (&'static str, &'static str) {
    let (relay, readiness) = (&health.relay, &health.readiness);
    let waiting = relay.backlog.as_ref().is_some_and(|it| it.rows > 0);
    match relay.role {
        Role::Paused => ("paused", "PAUSED: no row is sent"),
        _ if !readiness.ready => ("bad", cause(health)),
        Role::Standby => ("good", "Standing by"),
        _ if !readiness.warnings.is_empty() => ("warned", "Works, with a warning"),
        _ if history.rate() > 0.0 => ("good", "Rows flow"),
        _ if waiting => ("warned", "Rows wait"),
        _ if relay.backlog.is_none() => ("good", "Leading, backlog not counted yet"),
        _ => ("good", "All is sent"),
    }
}

/// Names what keeps a relay from being ready, as far as two words can.
fn cause(health: &OutboxHealth) -> &'static str {
    let (relay, words) = (&health.relay, health.readiness.words.join(" "));
    match () {
        () if relay.kafka.away_seconds.is_some() => "Not ready: Kafka is unreachable",
        () if words.contains("PostgreSQL") && words.contains("unreachable") => {
            "Not ready: PostgreSQL is unreachable"
        }
        () if words.contains("Kafka at") => "Not ready: Kafka does not answer",
        () if words.starts_with("stuck") => "Not ready: rows are stuck",
        () if words.starts_with("starting") => "Not ready: starting",
        () => "Not ready",
    }
}

/// Says the verdict to a reader who sees the page for the first time.
fn meaning(health: &OutboxHealth, history: &History) -> String {
    let (relay, ready) = (&health.relay, health.readiness.ready);
    let backlog = relay.backlog.as_ref();
    let wait = match backlog {
        None => "rows that wait stay in the table".into(),
        Some(it) if it.rows == 1 && !it.is_more => "1 row waits in the table".into(),
        Some(it) if it.rows > 0 => format!("{} rows wait in the table", rows(it)),
        Some(_) => "no row waits".to_owned(),
    };
    let pause = relay
        .problems
        .iter()
        .find(|it| it.kind == ProblemKind::Pause);
    match (relay.role, relay.dead_letters) {
        (Role::Paused, _) => {
            let why = pause.map_or("paused by an operator", |it| &it.words);
            let why = why.split("; `doorbell").next().unwrap_or_default();
            format!("This outbox is {why}. Writers go on; {wait}.")
        }
        (Role::Standby, _) if !ready => {
            "This relay does not lead, and could not take over: see the problems below.".into()
        }
        _ if !ready => format!("This relay sends no row to Kafka; {wait}, and none is lost."),
        (Role::Standby, _) => {
            "Another relay sends the rows. This one takes over if that one fails.".into()
        }
        _ if history.rate() > 0.0 => {
            format!(
                "{} a second; {wait}.",
                match figure(history.rate()) {
                    one if one == "1" => "1 row reaches Kafka".to_owned(),
                    rows => format!("{rows} rows reach Kafka"),
                }
            )
        }
        _ if backlog.is_some_and(|it| it.rows > 0) => {
            format!("No row was sent in the last second; {wait}.")
        }
        _ if backlog.is_none() => {
            "This relay sends the rows; those that wait are not counted yet.".into()
        }
        (_, Some(1..)) => format!(
            "Every committed row is in Kafka, except for the dead letters: {}. They wait for an operator.",
            dead(relay)
        ),
        _ if relay.delayed.as_ref().is_some_and(|it| it.rows > 0) => {
            "Every committed row that is due is in Kafka. The others leave when their time comes."
                .into()
        }
        _ => "Every committed row is in Kafka. The next one leaves within milliseconds.".into(),
    }
}

/// Says when the outage or the pause began that the verdict names.
fn beginning(relay: &Snapshot, mood: &str) -> String {
    let kind = match mood {
        "bad" => ChangeKind::Outage,
        "paused" => ChangeKind::Pause,
        _ => return String::new(),
    };
    let open = relay.changes.iter();
    let mut open = open.filter(|it| it.kind == kind && it.until.is_none());
    open.next().map_or(String::new(), |it| {
        format!("It began at {} UTC.", date_and_time(&clock(it.at)))
    })
}

fn leads(health: &OutboxHealth) -> String {
    let relay = &health.relay;
    let server = relay.server.as_deref().unwrap_or("no PostgreSQL yet");
    let since = age(relay.role_seconds);
    match relay.role {
        Role::Leading => format!("this relay, for {since}, at {server}"),
        Role::Standby if health.readiness.ready => {
            let stands = health.readiness.words.first().map_or("", String::as_str);
            format!("another relay; {stands}; at {server}")
        }
        Role::Standby => format!("not this relay; at {server}"),
        Role::Paused => format!("this relay, paused for {since}, at {server}"),
        Role::Starting => {
            let led = relay.changes.iter().any(|it| it.kind == ChangeKind::State);
            let again = if led { " again" } else { "" };
            format!("not known; this relay has been starting{again} for {since}")
        }
    }
}

/// Returns the number of dead letters that exist.
fn dead(relay: &Snapshot) -> String {
    match relay.dead_letters {
        None => "not known".into(),
        Some(MOST_DEAD) => format!("{} or more", grouped(MOST_DEAD)),
        Some(letters) => grouped(letters),
    }
}

/// Describes what the process knows of dead letters. Earlier ones may exist, and these may be gone.
fn parked(rows: u64, last: Option<&str>) -> String {
    let count = match rows {
        0 => "This relay has moved no row to the dead letters since it started.".into(),
        rows => format!(
            "This relay has moved {} to the dead letters since it started.",
            counted(rows, "row")
        ),
    };
    match last {
        Some(why) => format!("{count} Kafka rejected the last one: {why}."),
        None => count,
    }
}

fn bell(relay: &Snapshot, history: &History) -> &'static str {
    match (relay.role, relay.bell.state) {
        (Role::Leading, BellState::Asleep) if history.rate() > 0.0 => {
            "asleep between rows: inserts wake the relay"
        }
        (Role::Leading, BellState::Awake) => "awake: the relay fetches by itself",
        (Role::Leading, BellState::Asleep) => "asleep: the next insert wakes the relay",
        (Role::Leading, BellState::Waiting) => "waiting for the end of a silent transaction",
        (Role::Paused, _) => "paused: the relay neither sleeps nor fetches",
        _ => "unknown: this relay does not lead",
    }
}

fn charts(history: &History, role: Role) -> [Chart; 3] {
    let samples = &history.samples;
    let times: Vec<f64> = samples.iter().map(|it| it.at).collect();
    let series = |of: &dyn Fn(&HistoryPoint) -> Option<f64>| samples.iter().map(of).collect();
    let rate = ("Rows sent", "rows/s", "The first second is being measured.");
    let backlog = (
        "Rows that wait",
        "rows",
        match role {
            Role::Leading => "Not counted yet.",
            _ => "The relay that leads counts them.",
        },
    );
    let latency = (
        "Latency by stage",
        "ms",
        "No row has been sent in this time.",
    );
    let stages: Vec<_> = (0..STAGES.len())
        .map(|at| series(&|it| it.stages[at]))
        .collect();
    [
        Chart::of(
            "rate",
            rate,
            &["rows sent"],
            &times,
            &[series(&|it| Some(it.rate))],
        ),
        Chart::of(
            "backlog",
            backlog,
            &["rows that wait"],
            &times,
            &[series(&|it| it.backlog)],
        ),
        Chart::of("latency", latency, &STAGES, &times, &stages),
    ]
}

fn strip(history: &History) -> String {
    let samples = history.samples.iter();
    let states: Vec<_> = samples
        .map(|it| match it.bell {
            // It woke for them between two samples.
            Some(BellState::Asleep) if it.rate > 0.0 => BellState::Awake.word(),
            bell => bell.map_or("away", BellState::word),
        })
        .collect();
    chart::strip("State of the bell over the same time", &states)
}

/// Returns the latency of each stage in the last second in which rows passed it.
fn stages(history: &History) -> Vec<(&'static str, String)> {
    let last = |at: usize| history.samples.iter().rev().find_map(|it| it.stages[at]);
    let shown = |(at, name)| (name, latency(last(at)));
    STAGES.into_iter().enumerate().map(shown).collect()
}

fn latency(milliseconds: Option<f64>) -> String {
    match milliseconds {
        None => "–".into(),
        Some(ms) if ms >= 1e4 => format!("{} s", figure(ms / 1e3)),
        Some(ms) => format!("{} ms", figure(ms)),
    }
}

/// Returns the charts' values for readers without a pointer, the newest first.
fn values(history: &History) -> Vec<TableRow> {
    let samples: Vec<&HistoryPoint> = history.samples.iter().collect();
    let step = samples.len().div_ceil(TABLE_ROWS).max(1);
    let mean =
        |all: Vec<f64>| (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64);
    let row = |some: &[&HistoryPoint]| {
        let last = some.last()?;
        let stage = |at: usize| mean(some.iter().filter_map(|it| it.stages[at]).collect());
        Some(TableRow {
            time: clock_of_day(last.at),
            rate: figure(mean(some.iter().map(|it| it.rate).collect()).unwrap_or(0.0)),
            backlog: last.backlog.map_or("not known".into(), figure),
            stages: (0..STAGES.len())
                .map(|at| stage(at).map_or("–".into(), figure))
                .collect(),
        })
    };
    samples.rchunks(step).filter_map(row).collect()
}
