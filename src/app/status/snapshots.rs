//! Who holds an old snapshot, in words.

use super::text::{age, rollback_prepared};
use crate::postgres::survey::{Pin, Pinning};

/// Who holds it since when, and what ends it.
pub(in crate::app) fn held(pin: &Pin) -> (String, String) {
    let since = match pin.seconds {
        Some(seconds) => age(seconds),
        None => format!("{} transactions", pin.transactions),
    };
    let user = pin.user.as_deref().unwrap_or("unknown");
    let from = pin.address.as_deref().unwrap_or("a local socket");
    let process = match pin.pid {
        Some(pid) => format!(", server process {pid}"),
        None => String::new(),
    };
    let on_the_standby =
        || "end the long query on that standby, or set hot_standby_feedback = off there".to_owned();
    let name = &pin.name;
    let (who, remedy) = match pin.kind {
        Pinning::Session => {
            let state = pin.state.as_deref().unwrap_or("state unknown");
            (
                format!("the session {name:?} ({state}, user {user}, from {from}{process})"),
                match pin.pid {
                    Some(pid) => format!("SELECT pg_terminate_backend({pid})"),
                    None => "look into pg_stat_activity".to_owned(),
                },
            )
        }
        Pinning::IdleSlot => (
            format!("the replication slot {name}, which nobody reads,"),
            format!(
                "SELECT pg_drop_replication_slot('{}') if its standby is gone for good; else bring the standby back",
                name.replace('\'', "''")
            ),
        ),
        Pinning::Slot => (
            format!("the standby behind the replication slot {name}{process}"),
            on_the_standby(),
        ),
        Pinning::Standby => (
            format!("the standby server {name:?} (user {user}, from {from}{process})"),
            on_the_standby(),
        ),
        Pinning::Prepared => (
            format!("the prepared transaction {name:?} of {user}"),
            rollback_prepared(name),
        ),
    };
    (
        format!("{who} holds an old snapshot (xmin) for {since}"),
        remedy,
    )
}
