//! Findings about what goes on: who leads, what waits, who is in the way.

use std::time::Duration;

use super::finding::{Code, Finding};
use crate::app::status::{age, described, end};
use crate::postgres::survey::DeadReason;
use crate::postgres::{Holder, Pause, Status};

const OURS: &str = env!("CARGO_PKG_VERSION");

/// Judges one outbox as the role `us`, if that is a relay's. `old`: from this age on something waits for too long.
pub(super) fn traffic(
    status: &Status,
    dead: &[DeadReason],
    old: Duration,
    us: Option<&Relaying>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(strangers(status));
    found.extend(silent_writer(status, old));
    found.extend(match &status.paused {
        Some(pause) => Some(paused(pause)),
        None => delivery(status, old),
    });
    found.extend(versions(status));
    found.extend(frozen_takeover(status, us));
    found.extend(dead_letters(status, dead));
    found.extend(held(status));
    found
}

/// A role that could be a relay's: it has what that needs, and not every right there is.
pub(super) struct Relaying<'a> {
    pub(super) role: &'a str,
    /// Whether it may execute `pg_terminate_backend`.
    pub(super) may_terminate: bool,
}

/// Whether a standby could end a leader that is frozen.
fn frozen_takeover(status: &Status, us: Option<&Relaying>) -> Option<Finding> {
    const WHY: &str = "a standby takes over from a leader that is frozen by ending its sessions, which it can where both are the same role: else rows wait until somebody ends that leader";
    let relays = status.leader.iter().chain(&status.standbys);
    let mut roles: Vec<&str> = relays
        .filter(|it| it.is_doorbell)
        .filter_map(|it| it.user.as_deref())
        .collect();
    if let (Some(us), Some(leader)) = (us, &status.leader)
        && leader.is_doorbell
    {
        roles.push(us.role);
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.len() > 1 {
        return Some(Finding::warning(
            Code::FrozenTakeover,
            format!(
                "relays of this outbox log in as several roles: {}",
                roles.join(", ")
            ),
            WHY,
            "let all relays log in as the same role: the user in their DATABASE_URL",
        ));
    }
    us.filter(|us| !us.may_terminate).map(|us| {
        Finding::warning(
            Code::FrozenTakeover,
            format!("role {} may not execute pg_terminate_backend", us.role),
            WHY,
            format!(
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend TO {}",
                us.role
            ),
        )
    })
}

fn held(status: &Status) -> Option<Finding> {
    let keys = status.held_keys;
    (keys > 0).then(|| {
        Finding::warning(
            Code::KeysHeld,
            format!("{keys} keys wait behind a row that Kafka cannot take"),
            "rows of these keys stay in the table, as the policy hold-key says; all others go on",
            "the log of the relay names the rows and what Kafka said: correct them with UPDATE, or DELETE them; they are tried again within a minute",
        )
    })
}

fn strangers(status: &Status) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(holder) = status.leader.as_ref().filter(|it| !it.is_doorbell) {
        found.push(Finding::error(
            Code::LeaderStranger,
            format!(
                "the leader's lock is taken by {}, which is no relay",
                described(holder)
            ),
            "nothing is delivered until that ends",
            end(holder),
        ));
    }
    if let Some(holder) = status.bell.held_by.as_ref().filter(|it| !it.is_doorbell) {
        found.push(Finding::warning(
            Code::BellStranger,
            format!("the key of the bell is taken by {}, which is no relay", described(holder)),
            "writers ring at each commit, which costs them most of their speed, and the relay cannot sleep; rows flow",
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
            "its rows leave at its commit only; until it ends the relay cannot sleep, and dead rows cannot be cleaned up",
            end(holder),
        )
    })
}

fn paused(pause: &Pause) -> Finding {
    let by = pause.by.as_deref().unwrap_or("somebody");
    let reason = pause.reason.as_deref().unwrap_or("no reason was given");
    Finding::warning(
        Code::Paused,
        format!(
            "the outbox was paused by {by}, {} ago: {reason}",
            age(pause.seconds)
        ),
        "no row leaves, whichever relays run",
        "doorbell resume",
    )
}

fn delivery(status: &Status, old: Duration) -> Option<Finding> {
    let waits = status.oldest_seconds.filter(|_| status.backlog > 0);
    match (&status.leader, waits) {
        (None, None) => Some(Finding::note(
            Code::NoLeader,
            "no relay runs for this outbox",
            "rows that are written now wait in the table",
            "doorbell run",
        )),
        (None, Some(oldest)) => Some(Finding::error(
            Code::NoLeader,
            format!(
                "no relay runs for this outbox, and {} rows wait, the oldest for {}",
                status.backlog,
                age(oldest)
            ),
            "nothing is delivered",
            "doorbell run, in as many copies as you like",
        )),
        (Some(leader), Some(oldest)) if leader.is_doorbell && oldest >= old.as_secs_f64() => {
            Some(Finding::error(
                Code::Stuck,
                format!(
                    "the oldest of {} rows waits for {} although a relay leads",
                    status.backlog,
                    age(oldest)
                ),
                "either Kafka does not take what is sent, or the database does not give it, or more is written than is carried",
                "cure the other findings first; then look into the log of the relay, whose warnings name the cause",
            ))
        }
        _ => None,
    }
}

/// Relays call themselves `doorbell VERSION leader PID`.
fn versions(status: &Status) -> Option<Finding> {
    let version = |holder: &Holder| {
        let version = holder.application.split(' ').nth(1)?;
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
            format!("relays of version {} run for this outbox, and this is {OURS}", others.join(", ")),
            "during an upgrade that is as it should be; else a copy was forgotten, and will lead one day",
            "upgrade all copies, the relays first and the schema (doorbell migrate) last",
        )
    })
}

fn dead_letters(status: &Status, dead: &[DeadReason]) -> Option<Finding> {
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
        format!("{count} rows that Kafka could not take are among the dead letters{why}"),
        "they are kept, and nobody sends them again by himself",
        "doorbell dead list says why; cure that, then: doorbell dead retry --all",
    ))
}
