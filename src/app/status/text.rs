//! The status of an outbox as people read it: a block of lines, or one line.

use std::fmt::Write;
use std::time::Duration;

use super::snapshots::held;
use crate::app::terminal::{BAD, CAREFUL, GOOD, TITLE, styled};
use crate::postgres::{Holder, Pause, Status};

/// A transaction that is open for longer keeps the relay awake; those of ordinary writers come and go.
const LONG_OPEN: f64 = 1.0;

/// A block of lines. Colours are in it; whoever writes it leaves them out where they do not belong.
pub(super) fn block(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:8} {value}").expect("writing into a String cannot fail");
    };
    if let Some(pause) = &status.paused {
        line("PAUSED", &styled(BAD, paused(pause)));
    }
    line("backlog", &format!("{} rows", backlog(status)));
    if let Some(seconds) = status.oldest_seconds {
        line("oldest", &age(seconds));
    }
    if let Some(dead @ 1..) = status.dead {
        let dead = format!("{dead} rows; see `doorbell dead list`");
        line("dead", &styled(CAREFUL, dead));
    }
    if let keys @ 1.. = status.held_keys {
        let held = format!(
            "{keys} keys wait behind a row that Kafka cannot take; the log of the relay names the rows"
        );
        line("held", &styled(CAREFUL, held));
    }
    line("leader", &leader(status));
    line("standbys", &status.standbys.len().to_string());
    for bell in bell(status) {
        line("bell", &bell);
    }
    if let Some(seconds) = stuck(status) {
        let stuck = format!(
            "the oldest row waits for {} although a relay leads; `doorbell check` looks for the cause",
            age(seconds)
        );
        line("stuck", &styled(BAD, stuck));
    }
    for pin in &status.snapshots {
        let (held, end) = held(pin);
        line(
            "snapshot",
            &styled(
                CAREFUL,
                format!("{held}: deleted rows cannot be cleaned up; {end}"),
            ),
        );
    }
    let remedy = match status.trigger {
        "missing" => ": rows wait for the sweep; run `doorbell migrate`",
        "of an earlier version" => {
            ": it rings at every insert, which costs writers; run `doorbell migrate`"
        }
        "disabled" => ": rows wait for the sweep; ALTER TABLE ... ENABLE TRIGGER doorbell_ring",
        _ => "",
    };
    let style = if remedy.is_empty() { GOOD } else { CAREFUL };
    let trigger = format!("{}{remedy}", status.trigger);
    line("trigger", &styled(style, trigger));
    format!("{}\n{text}", styled(TITLE, &status.outbox))
}

/// Everything that changes, on one line.
pub(super) fn line(status: &Status) -> String {
    let or = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    let leader = match &status.leader {
        None => "none",
        Some(holder) if holder.is_doorbell => &holder.application,
        Some(_) => "a stranger",
    };
    let bell = match &status.bell.held_by {
        Some(holder) if holder.is_doorbell => "asleep",
        Some(_) => "taken",
        None if status.leader.is_some() && status.paused.is_none() => "awake",
        None => "-",
    };
    let mut line = format!(
        "{} backlog={} oldest={} dead={} held={} leader={leader:?} standbys={} bell={bell} trigger={:?}",
        status.outbox,
        backlog(status).replace(' ', "-"),
        or(status.oldest_seconds.map(age)).replace(' ', ""),
        or(status.dead.map(|dead| dead.to_string())),
        status.held_keys,
        status.standbys.len(),
        status.trigger,
    );
    if status.paused.is_some() {
        line += &format!(" {}", styled(BAD, "PAUSED"));
    }
    line
}

fn backlog(status: &Status) -> String {
    let more = if status.backlog_is_more {
        "more than "
    } else {
        ""
    };
    format!("{more}{}", status.backlog)
}

fn paused(pause: &Pause) -> String {
    let by = pause
        .by
        .as_ref()
        .map_or(String::new(), |by| format!(" by {by}"));
    let reason = pause
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(": {reason}"));
    let age = age(pause.seconds);
    format!("for {age}{by}{reason}; no row leaves before `doorbell resume`")
}

/// A row that waits for longer than this, the default of the sweep, is not just on its way.
const LONG_WAIT: f64 = 60.0;

/// For how long a row has waited that a relay should have carried.
fn stuck(status: &Status) -> Option<f64> {
    let led = status.leader.as_ref().is_some_and(|it| it.is_doorbell) && status.paused.is_none();
    status
        .oldest_seconds
        .filter(|seconds| led && *seconds >= LONG_WAIT)
}

fn leader(status: &Status) -> String {
    match &status.leader {
        None => styled(BAD, "none: no relay runs for this outbox"),
        Some(holder) if holder.is_doorbell => {
            format!("{} ({})", holder.application, origin(holder))
        }
        Some(holder) => styled(
            BAD,
            format!(
                "its lock is taken by {}, which is no relay: nothing is delivered until that ends; {}",
                described(holder),
                remedy(holder)
            ),
        ),
    }
}

/// What the key of the bell says: who sleeps, and who keeps the relay from it.
fn bell(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    match &status.bell.held_by {
        Some(holder) if holder.is_doorbell => lines.push(styled(GOOD, "asleep: writers ring")),
        Some(holder) => lines.push(styled(CAREFUL, format!(
            "its key is taken by {}, which is no relay: writers ring at each commit and the relay cannot sleep, but rows flow; {}",
            described(holder),
            remedy(holder)
        ))),
        None if status.paused.is_some() => {}
        None if status.leader.is_some() => {
            lines.push(styled(GOOD, "awake: writers are silent"));
        }
        None => {}
    }
    if let Some(oldest) = &status.bell.oldest_silent_writer
        && oldest
            .transaction_seconds
            .is_none_or(|seconds| seconds >= LONG_OPEN)
    {
        let others = match status.bell.silent_writers - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        lines.push(styled(CAREFUL, format!(
            "a transaction that was silent is open{others}: {}; the relay cannot sleep before it has ended",
            described(oldest)
        )));
    }
    lines
}

/// Name and origin of whoever is no relay.
pub(in crate::app) fn described(holder: &Holder) -> String {
    let name = match (&holder.prepared, holder.application.as_str()) {
        (Some(name), _) => format!("the prepared transaction {name:?}"),
        (None, "") => "a session without a name".to_owned(),
        (None, name) => format!("{name:?}"),
    };
    format!("{name} ({})", origin(holder))
}

/// Process, role, address and times, as far as our role may see them.
fn origin(holder: &Holder) -> String {
    let address = match (&holder.address, holder.connected_seconds) {
        (Some(address), _) => Some(format!("from {address}")),
        (None, Some(_)) => Some("from a local socket".to_owned()),
        (None, None) => None,
    };
    let parts = [
        holder.pid.map(|pid| format!("server process {pid}")),
        holder.user.as_ref().map(|user| format!("user {user}")),
        address,
        holder
            .connected_seconds
            .map(|it| format!("for {}", age(it))),
        holder
            .transaction_seconds
            .map(|it| format!("in a transaction for {}", age(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How to end it.
fn remedy(holder: &Holder) -> String {
    format!("{} ends it", end(holder))
}

/// The SQL that ends it.
pub(in crate::app) fn end(holder: &Holder) -> String {
    match (&holder.prepared, holder.pid) {
        (Some(name), _) => rollback_prepared(name),
        (None, Some(pid)) => format!("SELECT pg_terminate_backend({pid})"),
        (None, None) => "what pg_locks names".into(),
    }
}

/// Both ways to end a prepared transaction.
pub(super) fn rollback_prepared(name: &str) -> String {
    let name = name.replace('\'', "''");
    format!("ROLLBACK PREPARED '{name}' or COMMIT PREPARED '{name}'")
}

pub(in crate::app) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}
