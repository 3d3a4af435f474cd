//! Findings about current activity: leadership, backlog, and sessions that block the relay.

use std::time::Duration;

use super::finding::{Code, Finding};
use crate::describe::{described, end, waiting};
use crate::numbers::{age, counted, counted_verb};
use crate::postgres::inspect::DeadReason;
use crate::postgres::{Holder, Pause, Status};

const OURS: &str = env!("CARGO_PKG_VERSION");

/// Reports on one outbox. `name`: as configured; `old`: age from which on something waits for too
/// long; `us`: the role of `check`, if it could be that of a relay.
pub(super) fn traffic(
    name: &str,
    status: &Status,
    dead: &[DeadReason],
    old: Duration,
    us: Option<&Relaying>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(strangers(status));
    found.extend(silent_writer(status, old));
    found.extend(match &status.paused {
        Some(pause) => Some(paused(pause, name)),
        None => delivery(status, old),
    });
    found.extend(versions(status));
    found.extend(frozen_takeover(status, us));
    found.extend(dead_letters(status, dead, name));
    found.extend(held(status));
    found.extend(kept(status));
    found
}

/// Role that could be a relay's: it has the privileges for it, and is no superuser.
pub(super) struct Relaying<'a> {
    pub(super) role: &'a str,
    pub(super) quoted: &'a str,
    /// Whether it may execute `pg_terminate_backend`.
    pub(super) may_terminate: bool,
}

/// Reports if a standby could not end a frozen leader.
fn frozen_takeover(status: &Status, us: Option<&Relaying>) -> Option<Finding> {
    const WHY: &str = "a standby takes over from a frozen leader by ending its sessions, which PostgreSQL allows if both log in as the same role; otherwise rows wait until an operator ends that leader";
    const REMEDY: &str = "use the same role, the user in DATABASE_URL, for all relays";
    let relays = status.leader.iter().chain(&status.standbys);
    let mut roles: Vec<&str> = relays
        .filter(|it| it.is_doorbell)
        .filter_map(|it| it.user.as_deref())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    match (roles.as_slice(), us) {
        ([_, _, ..], _) => {
            let roles = roles.join(", ");
            let what = format!("relays of this outbox log in as several roles: {roles}");
            return Some(Finding::warning(Code::FrozenTakeover, what, WHY, REMEDY));
        }
        // It has a relay's privileges, and may be the owner of the table all the same.
        ([role], Some(us)) if *role != us.role => {
            let us = us.role;
            let what = format!(
                "relays of this outbox log in as {role}; one that logs in as {us}, like this command, would be of another role"
            );
            return Some(Finding::note(Code::FrozenTakeover, what, WHY, REMEDY));
        }
        _ => {}
    }
    us.filter(|us| !us.may_terminate).map(|us| {
        Finding::warning(
            Code::FrozenTakeover,
            format!("role {} may not execute pg_terminate_backend", us.role),
            WHY,
            format!(
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend TO {}",
                us.quoted
            ),
        )
    })
}

fn held(status: &Status) -> Option<Finding> {
    let keys = status.held_keys;
    (keys > 0).then(|| {
        Finding::warning(
            Code::KeysHeld,
            counted_verb(keys, "key", "wait") + " behind a row that Kafka rejected",
            "rows of these keys stay in the table, by the policy hold-key; all others are sent",
            "the relay's log names the rows and Kafka's reason: correct them with UPDATE, or DELETE them; they are retried within a minute",
        )
    })
}

fn kept(status: &Status) -> Option<Finding> {
    let rows = status.kept_rows;
    (rows > 0).then(|| {
        Finding::warning(
            Code::RowsKept,
            counted_verb(rows, "row", "stay") + " in the table although Kafka has them",
            "a trigger, a rule, row security or a foreign key keeps them: they take room in flight, and the next relay sends them again",
            "resolve deletes-kept, foreign-keys, rules or row-security; the relay's log names the first row, and retries within a minute",
        )
    })
}

fn strangers(status: &Status) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(holder) = status.leader.as_ref().filter(|it| !it.is_doorbell) {
        found.push(Finding::error(
            Code::LeaderStranger,
            format!(
                "the leader's lock is held by {}, which is no relay",
                described(holder)
            ),
            "nothing is delivered until that ends",
            end(holder),
        ));
    }
    if let Some(holder) = status.bell.held_by.as_ref().filter(|it| !it.is_doorbell) {
        found.push(Finding::warning(
            Code::BellStranger,
            format!("the wake lock is held by {}, which is no relay", described(holder)),
            "writers ring at each commit, which slows them down a lot, and the relay cannot sleep; rows flow",
            end(holder),
        ));
    }
    for holder in &status.order_strangers {
        found.push(Finding::warning(
            Code::OrderStranger,
            format!(
                "locks of strict order are held by {}, which is no writer",
                described(holder)
            ),
            "inserts of rows with these keys wait until that ends",
            end(holder),
        ));
    }
    found
}

fn silent_writer(status: &Status, old: Duration) -> Option<Finding> {
    let holder = status.bell.oldest_silent_writer.as_ref()?;
    let seconds = holder.transaction_seconds?;
    (seconds >= old.as_secs_f64()).then(|| {
        Finding::warning(
            Code::SilentWriter,
            format!("a transaction that inserted into the outbox stays open: {}", described(holder)),
            "its rows are sent only after its commit; until it ends the relay cannot sleep, and dead rows cannot be vacuumed",
            end(holder),
        )
    })
}

fn paused(pause: &Pause, name: &str) -> Finding {
    let by = pause.by.as_deref().unwrap_or("an unknown user");
    let reason = pause.reason.as_deref().unwrap_or("without a reason");
    Finding::warning(
        Code::Paused,
        format!(
            "the outbox was paused by {by}, {} ago: {reason}",
            age(pause.seconds)
        ),
        "no relay sends a row",
        format!("doorbell resume --table '{name}'"),
    )
}

fn delivery(status: &Status, old: Duration) -> Option<Finding> {
    let waits = status.oldest_seconds.filter(|_| status.backlog > 0);
    match (&status.leader, waits) {
        (None, _) if status.backlog == 0 => Some(Finding::note(
            Code::NoLeader,
            no_leader(status),
            "new rows wait in the table",
            "doorbell run",
        )),
        (None, oldest) => Some(Finding::error(
            Code::NoLeader,
            format!(
                "{}, and {}{}",
                no_leader(status),
                counted_verb(status.backlog, "row", "wait"),
                oldest.map_or_else(String::new, |it| format!(", the oldest for {}", age(it)))
            ),
            "nothing is delivered",
            "doorbell run, on as many hosts as you like",
        )),
        (Some(_), Some(_)) => status.stuck(old.as_secs_f64()).map(|oldest| {
            Finding::error(
                Code::Stuck,
                format!(
                    "the oldest of {} has waited for {} although a relay leads",
                    counted(status.backlog, "row"),
                    age(oldest)
                ),
                "Kafka does not accept rows, or the database does not return them, or more is written than can be sent",
                "resolve the other findings first; then read the warnings in the relay's log",
            )
        }),
        _ => None,
    }
}

fn no_leader(status: &Status) -> String {
    match status.connected.as_slice() {
        [] => "no relay runs for this outbox".to_owned(),
        relays => waiting(relays),
    }
}

/// Reports relays of another version. They name their sessions `doorbell VERSION+WORD leader PID`.
fn versions(status: &Status) -> Option<Finding> {
    let version = |holder: &Holder| {
        let version = holder.application.split([' ', '+']).nth(1)?;
        (holder.is_doorbell && version != OURS).then(|| version.to_owned())
    };
    let mut others: Vec<String> = status
        .leader
        .iter()
        .chain(&status.standbys)
        .filter_map(version)
        .collect();
    others.sort();
    others.dedup();
    (!others.is_empty()).then(|| {
        Finding::warning(
            Code::OtherVersion,
            format!(
                "relays of version {} run for this outbox, and this program is {OURS}",
                others.join(", ")
            ),
            "expected during an upgrade; otherwise a relay was forgotten, and may lead some day",
            "upgrade all relays first, and the schema (doorbell migrate) last",
        )
    })
}

fn dead_letters(status: &Status, dead: &[DeadReason], name: &str) -> Option<Finding> {
    let count = status.dead.filter(|count| *count > 0)?;
    let reasons = dead.iter().map(|it| {
        let topic = it.topic.as_deref().unwrap_or("no topic");
        format!("{} for {topic}: {}", it.rows, it.code)
    });
    let reasons: Vec<_> = reasons.collect();
    let why = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join("; "))
    };
    Some(Finding::warning(
        Code::DeadLetters,
        counted_verb(count, "dead letter", "are") + " kept of rows that Kafka rejected" + &why,
        "they are kept, and are not sent again by themselves",
        format!(
            "doorbell dead list --table '{name}' shows the reasons; remove the causes, then: doorbell dead retry --all --table '{name}'"
        ),
    ))
}
