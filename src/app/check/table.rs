//! Findings about one table, from what the catalogue says.

use super::finding::{Code, Finding};
use super::ids;
use crate::postgres::Trigger;
use crate::postgres::survey::Shape;

/// Defaults of `created_at` that are the time of the row.
const TIMES: &[&str] = &[
    "now()",
    "CURRENT_TIMESTAMP",
    "clock_timestamp()",
    "transaction_timestamp()",
    "statement_timestamp()",
];

/// The schema `doorbell`: `None` is missing; else what differs from this version's.
pub(super) fn schema(differences: Option<&[String]>) -> Option<Finding> {
    match differences {
        None => Some(Finding::error(
            Code::SchemaMissing,
            "there is no schema doorbell in this database",
            "the relay keeps the identity of each outbox there, and its dead letters",
            "doorbell migrate",
        )),
        Some([]) => None,
        Some(differences) => Some(Finding::error(
            Code::SchemaEarlier,
            format!(
                "the schema doorbell is not that of this version: {}",
                differences.join(", ")
            ),
            "what this version needs is missing or works differently",
            "upgrade the relays first, then run: doorbell migrate",
        )),
    }
    .map(Finding::migrates)
}

pub(super) fn missing(table: &str) -> Finding {
    Finding::error(
        Code::TableMissing,
        format!("table {table} does not exist in this database, or its schema may not be used"),
        "there is nothing to relay, and inserts fail",
        format!("doorbell migrate --table '{table}', or correct --table or DATABASE_URL"),
    )
    .migrates()
}

/// The table is there, and something that the relay needs of it is not.
pub(super) fn unfit(problem: &str, remedy: &str) -> Finding {
    Finding::error(
        Code::TableUnfit,
        problem,
        "the relay refuses to start with a table that it cannot read whole and fast",
        remedy,
    )
}

pub(super) fn unregistered(table: &str) -> Finding {
    Finding::error(
        Code::NotRegistered,
        format!("table {table} was not set up as an outbox"),
        "the identity that the ids of its events are derived from is missing; under a new name it gets a new one",
        format!("doorbell migrate --table '{table}'; of a table that was renamed: UPDATE doorbell.outbox SET name = ... WHERE name = ..."),
    )
    .migrates()
}

pub(super) fn not_unique(table: &str, id: &str) -> Finding {
    Finding::warning(
        Code::IdNotUnique,
        format!("two rows can have the same {id}"),
        "each row is then deleted by itself, which is slower, and two rows of one id and one time are one event to consumers",
        format!("ALTER TABLE {table} ADD PRIMARY KEY ({id})"),
    )
}

pub(super) fn future(rows: i64) -> Finding {
    Finding::warning(
        Code::CreatedAt,
        format!("{rows} rows that wait were created in the future, by more than a minute"),
        "created_at is the record's timestamp: consumers and retention by time see it, and Kafka may refuse one that is an hour ahead",
        "let the column's default give the time, or synchronise the clocks of the writers",
    )
}

/// The table's parts. `table` is its name as it is configured.
pub(super) fn shape(shape: &Shape, table: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(trigger(shape.trigger, table));
    found.extend(bypasses(shape));
    found.extend(deletes(shape, table));
    found.extend(upkeep(shape, table));
    found.extend(times(shape));
    found.extend(ids::sequence(shape.sequence.as_ref()));
    found
}

fn trigger(trigger: Trigger, table: &str) -> Option<Finding> {
    match trigger {
        Trigger::Enabled => None,
        Trigger::Missing => Some(
            Finding::error(
                Code::TriggerMissing,
                "the trigger doorbell_ring is not on the table",
                "nobody rings for the relay: each row waits for the sweep, up to a minute by default",
                format!("doorbell migrate --table '{table}'"),
            )
            .migrates(),
        ),
        Trigger::Disabled => Some(
            Finding::error(
                Code::TriggerDisabled,
                "the trigger doorbell_ring is disabled",
                "nobody rings for the relay: each row waits for the sweep, up to a minute by default",
                format!("ALTER TABLE {table} ENABLE TRIGGER doorbell_ring"),
            )
            .runs_remedy(),
        ),
        Trigger::Earlier => Some(
            Finding::error(
                Code::TriggerEarlier,
                "the trigger doorbell_ring is not that of this version",
                "an earlier one rings at every insert, which costs writers most of their speed; one that was changed may not ring at all",
                format!("doorbell migrate --table '{table}'"),
            )
            .migrates(),
        ),
    }
}

/// Ways into the table on which no trigger fires, and out of it besides the relay.
fn bypasses(shape: &Shape) -> Vec<Finding> {
    let mut found = Vec::new();
    if !shape.partitions.is_empty() {
        found.push(Finding::note(
            Code::Partitions,
            format!("the table has the partitions {}", shape.partitions.join(", ")),
            "a statement that inserts into a partition itself does not fire the table's trigger: its rows wait for the sweep",
            "insert into the table, not into its partitions",
        ));
    }
    for name in &shape.subscriptions {
        found.push(Finding::warning(
            Code::Subscription,
            format!("the subscription {name} writes into the table"),
            "statement triggers do not fire when replicated rows are applied: they wait for the sweep; and if the publisher has a relay too, each event is sent twice",
            "relay the events where they are written, and take the table out of that server's publication: ALTER PUBLICATION ... DROP TABLE ...",
        ));
    }
    if !shape.publications.is_empty() {
        found.push(Finding::note(
            Code::Published,
            format!("the table is in the publications {}", shape.publications.join(", ")),
            "every insert and every delete of the relay is decoded and sent there too; a second tool that reads it sends each event twice",
            "ALTER PUBLICATION ... DROP TABLE ..., unless somebody needs it; for a publication FOR ALL TABLES, name the tables instead",
        ));
    }
    if !shape.rules.is_empty() {
        found.push(Finding::warning(
            Code::Rules,
            format!("the table has the rules {}", shape.rules.join(", ")),
            "a rule changes what an INSERT or DELETE does: rows may never arrive, or be sent again since they cannot be deleted",
            "DROP RULE ... ON ..., or make sure that inserts and deletes go through",
        ));
    }
    found
}

fn deletes(shape: &Shape, table: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if shape.deletes_impossible {
        found.push(Finding::error(
            Code::DeletesImpossible,
            "the table's deletes are published, and it has no replica identity",
            "PostgreSQL refuses each DELETE of the relay, so rows stay after they were sent and are sent again after each restart",
            format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT, with a primary key; or REPLICA IDENTITY FULL"),
        ));
    }
    if shape.row_security {
        found.push(Finding::error(
            Code::RowSecurity,
            "row security applies to our role on this table",
            "the relay must see every row, and refuses to work where a policy may hide some",
            format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE ... BYPASSRLS for the relay's role"),
        ));
    }
    if shape.unlogged {
        found.push(Finding::warning(
            Code::Unlogged,
            "the table is unlogged",
            "a crash of the server empties it: events that were committed are lost",
            format!("ALTER TABLE {table} SET LOGGED"),
        ));
    }
    found
}

fn upkeep(shape: &Shape, table: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for relation in &shape.autovacuum_off {
        found.push(
            Finding::warning(
                Code::AutovacuumOff,
                format!("autovacuum is switched off for {relation}"),
                "rows live for milliseconds here: without autovacuum the table and its index grow for ever",
                format!("ALTER TABLE {relation} RESET (autovacuum_enabled, toast.autovacuum_enabled)"),
            )
            .runs_remedy(),
        );
    }
    if !shape.storage_missing.is_empty() {
        found.push(
            Finding::warning(
                Code::Storage,
                format!("storage parameters are missing or different: {}", shape.storage_missing.join(", ")),
                "with PostgreSQL's defaults a queue is cleaned up too late, or its empty end is cut off under an exclusive lock",
                format!("doorbell migrate --table '{table}'"),
            )
            .migrates(),
        );
    }
    found
}

fn times(shape: &Shape) -> Option<Finding> {
    let default = shape.created_at_default.as_deref();
    let is_time = default.is_some_and(|text| TIMES.iter().any(|time| text.contains(time)));
    (!is_time).then(|| {
        Finding::note(
            Code::CreatedAt,
            match default {
                None => "the column for created_at has no default".to_owned(),
                Some(default) => format!("the default of created_at is {default}"),
            },
            "it is the record's timestamp and part of the event's identity; ages in `status` are counted from it",
            "ALTER TABLE ... ALTER COLUMN ... SET DEFAULT now(), unless the writers give the time themselves",
        )
    })
}
