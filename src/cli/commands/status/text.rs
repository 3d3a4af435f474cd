//! Status of an outbox as text: a block of lines, or one line.

use std::fmt::Write;

use crate::cli::terminal::{BAD, CAREFUL, GOOD, TITLE, styled};
use crate::describe::{self, described, end, held, waiting};
use crate::numbers::{age, counted, counted_verb};
use crate::postgres::{Holder, LONG_WAIT, Pause, Status};

/// Formats the status as a block of lines, with colours; [`terminal::write`] strips them where they
/// do not belong.
///
/// [`terminal::write`]: crate::cli::terminal::write
pub(super) fn block(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:8} {value}").expect("writing into a String cannot fail");
    };
    if let Some(pause) = &status.paused {
        line("PAUSED", &styled(BAD, paused(pause, &status.outbox)));
    }
    let rows = counted(status.backlog, "row");
    let more = if status.backlog_is_more {
        "more than "
    } else {
        ""
    };
    line("backlog", &format!("{more}{rows}"));
    if let Some(seconds) = status.oldest_seconds {
        line("oldest", &age(seconds));
    }
    if status.delayed > 0 {
        line("delayed", &delayed(status));
    }
    if let Some(dead @ 1..) = status.dead {
        let dead = counted(dead, "row") + "; see `doorbell dead list`";
        line("dead", &styled(CAREFUL, dead));
    }
    if let keys @ 1.. = status.held_keys {
        let keys = counted_verb(keys, "key", "wait");
        let held = format!("{keys} behind a row that Kafka rejected; see `doorbell held list`");
        line("held", &styled(CAREFUL, held));
    }
    if let rows @ 1.. = status.kept_rows {
        let rows = counted_verb(rows, "row", "stay");
        let kept = format!(
            "{rows} in the table although Kafka has them; run `doorbell check` to find the cause"
        );
        line("kept", &styled(CAREFUL, kept));
    }
    if let rows @ 1.. = status.dropped_rows {
        let rows = counted(rows as i64, "row");
        line(
            "dropped",
            &format!("{rows} by routes since the relay started"),
        );
    }
    line("leader", &leader(status));
    line("standbys", &status.standbys.len().to_string());
    for bell in bell(status) {
        line("bell", &bell);
    }
    for holder in &status.order_strangers {
        let (who, end) = (described(holder), end(holder));
        let order = format!(
            "inserts of some keys wait: locks of strict order are held by {who}, which is no writer; {end} ends it"
        );
        line("order", &styled(CAREFUL, order));
    }
    if let Some(seconds) = status.stuck(LONG_WAIT) {
        let stuck = format!(
            "the oldest row has waited for {} although a relay leads; run `doorbell check` to find the cause",
            age(seconds)
        );
        line("stuck", &styled(BAD, stuck));
    }
    for pin in &status.snapshots {
        let (held, end) = held(pin);
        let snapshot = format!("{held}: vacuum cannot remove deleted rows; {end}");
        line("snapshot", &styled(CAREFUL, snapshot));
    }
    let migrate = format!("run `doorbell migrate --table '{}'`", status.outbox);
    let remedy = match status.trigger {
        "missing" => format!(": rows wait for the sweep; {migrate}"),
        "of an earlier version" => {
            format!(": it rings at every insert, which slows writers down; {migrate}")
        }
        "disabled" => format!(
            ": rows wait for the sweep; run `ALTER TABLE {} ENABLE TRIGGER doorbell_ring`",
            status.outbox
        ),
        _ => String::new(),
    };
    let style = if remedy.is_empty() { GOOD } else { CAREFUL };
    let trigger = format!("{}{remedy}", status.trigger);
    line("trigger", &styled(style, trigger));
    format!("{}\n{text}", styled(TITLE, &status.outbox))
}

/// Formats what changes as one line.
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
    if status.dropped_rows > 0 {
        line += &format!(" dropped={}", status.dropped_rows);
    }
    if status.delayed > 0 {
        line += &format!(" delayed={}", status.delayed);
    }
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

/// Describes the rows whose time is to come.
fn delayed(status: &Status) -> String {
    let more = if status.delayed_is_more {
        "more than "
    } else {
        ""
    };
    let rows = counted(status.delayed, "row");
    let next = status.next_due_seconds.map(age);
    let next = next.map(|it| format!("; the next is due in {it}"));
    format!(
        "{more}{rows} not to be sent yet{}",
        next.unwrap_or_default()
    )
}

fn paused(pause: &Pause, outbox: &str) -> String {
    let part = |before: &str, text: &Option<String>| {
        let text = text.as_ref().map(|text| format!("{before}{text}"));
        text.unwrap_or_default()
    };
    let (by, reason) = (part(" by ", &pause.by), part(": ", &pause.reason));
    let age = age(pause.seconds);
    format!("for {age}{by}{reason}; no row is sent until `doorbell resume --table '{outbox}'`")
}

fn leader(status: &Status) -> String {
    if let (None, [_, ..]) = (&status.leader, status.connected.as_slice()) {
        return styled(BAD, format!("none: {}", waiting(&status.connected)));
    }
    let (mut text, mut is_bad) = describe::leader(status.leader.as_ref());
    if status.leader.as_ref().is_some_and(Holder::lacks_kafka) {
        text += "; it reaches no broker";
        is_bad = true;
    }
    if is_bad { styled(BAD, text) } else { text }
}

/// Describes the state of the bell, and what keeps the relay from sleeping.
fn bell(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    match &status.bell.held_by {
        Some(holder) if holder.is_doorbell => lines.push(styled(GOOD, "asleep: writers ring")),
        Some(holder) => lines.push(styled(CAREFUL, format!(
            "the wake lock is held by {}, which is no relay: writers ring at each commit and the relay cannot sleep, but rows flow; {}",
            described(holder),
            format_args!("{} ends it", end(holder))
        ))),
        None if status.paused.is_some() => {}
        None if status.leader.as_ref().is_some_and(|it| it.is_doorbell) => {
            lines.push(styled(GOOD, "awake: writers are silent"))
        }
        None => {}
    }
    // Of a session that the role may not see it is unknown how long its transaction is open.
    if let (Some(oldest), long @ 1..) = (
        &status.bell.oldest_silent_writer,
        status.bell.long_silent_writers,
    ) {
        let others = match long - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        lines.push(styled(CAREFUL, format!(
            "a transaction that did not ring is open{others}: {}; the relay cannot sleep until it ends",
            described(oldest)
        )));
    }
    lines
}
