//! The incident log as the page shows it.

use super::words::clock;
use crate::http::ui::code::with_code;
use crate::numbers::{age, date_and_time};
use crate::relay::{Change, ChangeKind, Snapshot};

/// One line.
pub(crate) struct Incident {
    /// Seconds since 1970, for the order of several outboxes.
    at: f64,
    pub(crate) outbox: String,
    pub(crate) time: String,
    /// CSS class and name of the kind.
    pub(crate) kind: &'static str,
    /// HTML.
    pub(crate) words: String,
    /// How long it lasted, or that it goes on.
    pub(crate) lasted: String,
}

impl Incident {
    /// Returns those of an outbox, the newest first.
    pub(crate) fn of(relay: &Snapshot) -> Vec<Self> {
        let changes = relay.changes.iter().rev();
        changes.map(|it| Self::shown(&relay.outbox, it)).collect()
    }

    /// Returns those of several outboxes, the newest first.
    pub(crate) fn merged<'a>(relays: impl Iterator<Item = &'a Snapshot>) -> Vec<Self> {
        let mut all: Vec<Self> = relays.flat_map(Self::of).collect();
        all.sort_by(|one, other| other.at.total_cmp(&one.at));
        all
    }

    fn shown(outbox: &str, change: &Change) -> Self {
        let lasted = match (change.kind, change.until) {
            (ChangeKind::State, _) => String::new(),
            (_, None) => "goes on".into(),
            (_, Some(until)) => match age((until - change.at).round()).as_str() {
                "0s" => "under 1s".into(),
                time => format!("for {time}"),
            },
        };
        Self {
            at: change.at,
            outbox: outbox.to_owned(),
            time: date_and_time(&clock(change.at)),
            kind: match change.kind {
                ChangeKind::State => "leader",
                ChangeKind::Outage => "outage",
                ChangeKind::Pause => "pause",
                ChangeKind::Warning => "warning",
            },
            words: match (change.kind, change.words.as_str()) {
                (ChangeKind::State, "leading") => "this relay leads".into(),
                (ChangeKind::State, "standby") => "this relay stands by".into(),
                (_, words) => with_code(words),
            },
            lasted,
        }
    }
}
