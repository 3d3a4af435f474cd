//! Descriptions of sessions, locks and snapshots, for the commands and for the pages.

use crate::numbers::{age, counted};
use crate::postgres::Holder;
use crate::postgres::inspect::{OldSnapshot, SnapshotHolder};

/// Describes who holds an old snapshot, and what ends it.
pub(crate) fn held(pin: &OldSnapshot) -> (String, String) {
    let since = match pin.seconds {
        Some(seconds) => age(seconds),
        None => counted(pin.transactions, "transaction"),
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
        SnapshotHolder::Session => {
            let state = pin.state.as_deref().unwrap_or("state unknown");
            (
                format!("the session {name:?} ({state}, user {user}, from {from}{process})"),
                match pin.pid {
                    Some(pid) => format!("SELECT pg_terminate_backend({pid})"),
                    None => "find it in pg_stat_activity".to_owned(),
                },
            )
        }
        SnapshotHolder::IdleSlot => (
            format!("the inactive replication slot {name}"),
            format!(
                "SELECT pg_drop_replication_slot('{}') if its standby is gone for good; else bring the standby back",
                name.replace('\'', "''")
            ),
        ),
        SnapshotHolder::Slot => (
            format!("the standby of the replication slot {name}{process}"),
            on_the_standby(),
        ),
        SnapshotHolder::Standby => (
            format!("the standby server {name:?} (user {user}, from {from}{process})"),
            on_the_standby(),
        ),
        SnapshotHolder::Prepared => (
            format!("the prepared transaction {name:?} of {user}"),
            rollback_prepared(name),
        ),
    };
    (
        format!("{who} holds an old snapshot (xmin) for {since}"),
        remedy,
    )
}

/// Describes the leader of an outbox; `true` if nothing is delivered.
pub(crate) fn leader(holder: Option<&Holder>) -> (String, bool) {
    match holder {
        None => ("none: no relay runs for this outbox".to_owned(), true),
        Some(holder) if holder.is_doorbell => (described(holder), false),
        Some(holder) => (
            format!(
                "its lock is held by {}, which is no relay: nothing is delivered until that ends; {} ends it",
                described(holder),
                end(holder)
            ),
            true,
        ),
    }
}

/// Describes relays that are connected while none leads. A pooler keeps sessions under such names.
pub(crate) fn waiting(relays: &[String]) -> String {
    format!(
        "no relay runs for this outbox, unless one that is connected waits for Kafka and says so in its log: doorbell {}",
        relays.join(", doorbell ")
    )
}

/// Describes a holder by name and origin.
pub(crate) fn described(holder: &Holder) -> String {
    let name = match (&holder.prepared, holder.application.as_str()) {
        (Some(name), _) => format!("the prepared transaction {name:?}"),
        (None, "") => "a session without a name".to_owned(),
        (None, name) if holder.is_doorbell => name.to_owned(),
        (None, name) => format!("{name:?}"),
    };
    format!("{name} ({})", origin(holder))
}

/// Describes process, user, address and times, as far as the role may see them.
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
            .map(|it| format!("connected for {}", age(it))),
        holder
            .transaction_seconds
            .map(|it| format!("in a transaction for {}", age(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Returns the SQL that ends a holder.
pub(crate) fn end(holder: &Holder) -> String {
    match (&holder.prepared, holder.pid) {
        (Some(name), _) => rollback_prepared(name),
        (None, Some(pid)) => format!("SELECT pg_terminate_backend({pid})"),
        (None, None) => "ending the session that pg_locks names".into(),
    }
}

/// Returns both ways to end a prepared transaction.
fn rollback_prepared(name: &str) -> String {
    let name = name.replace('\'', "''");
    format!("ROLLBACK PREPARED '{name}' or COMMIT PREPARED '{name}'")
}
