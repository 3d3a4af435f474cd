//! Findings about one table, from the catalogue.

use super::finding::{Code, Finding};
use super::{hazards, ids};
use crate::numbers::counted;
use crate::postgres::Trigger;
use crate::postgres::inspect::TableShape;

/// Defaults of `created_at` that are the current time.
const TIMES: &[&str] = &[
    "now()",
    "CURRENT_TIMESTAMP",
    "clock_timestamp()",
    "transaction_timestamp()",
    "statement_timestamp()",
];

/// Reports on the schema `doorbell`: `None` if it is missing, else its differences from this
/// version.
pub(super) fn schema(differences: Option<&[String]>) -> Option<Finding> {
    match differences {
        None => Some(Finding::error(
            Code::SchemaMissing,
            "the schema doorbell does not exist in this database",
            "it holds the identity of each outbox, and the dead letters",
            "doorbell migrate",
        )),
        Some([]) => None,
        Some(differences) => Some(Finding::error(
            Code::SchemaEarlier,
            format!(
                "the schema doorbell is not that of this version: {}",
                differences.join(", ")
            ),
            "parts that this version needs are missing or different",
            "upgrade the relays first, then run: doorbell migrate",
        )),
    }
    .map(Finding::migrates)
}

/// `elsewhere`: where a table of this name is, and how to name it.
pub(super) fn missing(table: &str, elsewhere: Option<&str>) -> Finding {
    const WHY: &str = "there is nothing to relay, and inserts fail";
    match elsewhere {
        Some(elsewhere) => Finding::error(
            Code::TableMissing,
            format!("table {table} is not in the search_path of the role"),
            WHY,
            elsewhere,
        ),
        None => Finding::error(
            Code::TableMissing,
            format!(
                "table {table} does not exist in this database, or the role may not use its schema"
            ),
            WHY,
            format!("doorbell migrate --table '{table}', or correct --table or DATABASE_URL"),
        )
        .migrates(),
    }
}

/// Reports a table that lacks something that the relay needs.
pub(super) fn unfit(problem: &str, remedy: &str) -> Finding {
    Finding::error(
        Code::TableUnfit,
        problem,
        "the relay refuses to start with a table that it cannot read completely and fast",
        remedy,
    )
}

pub(super) fn unregistered(table: &str) -> Finding {
    Finding::error(
        Code::NotRegistered,
        format!("table {table} was not set up as an outbox"),
        "it has no identity, from which the ids of its events are derived; a renamed table would get a new one",
        format!("doorbell migrate --table '{table}'; for a renamed table: UPDATE doorbell.outbox SET name = ... WHERE name = ..."),
    )
    .migrates()
}

pub(super) fn not_unique(table: &str, id: &str) -> Finding {
    Finding::warning(
        Code::IdNotUnique,
        format!("two rows can have the same {id}"),
        "rows are then deleted one by one, which is slower, and two rows with the same id and time are one event to consumers",
        format!("ALTER TABLE {table} ADD PRIMARY KEY (\"{id}\")"),
    )
}

pub(super) fn event_id_not_unique(table: &str, column: &str) -> Finding {
    Finding::warning(
        Code::IdNotUnique,
        format!("two rows can have the same event_id, the column {column}"),
        "it is the header id, by which consumers drop duplicates: they would lose the second event",
        format!("CREATE UNIQUE INDEX CONCURRENTLY ON {table} (\"{column}\")"),
    )
}

pub(super) fn no_due_index(table: &str, column: &str) -> Finding {
    Finding::warning(
        Code::NotBeforeIndex,
        format!("an index on not_before, the column {column}, is missing"),
        "rows that are not to be sent yet slow down every fetch, instead of costing nothing",
        format!("doorbell migrate --table '{table}'"),
    )
    .migrates()
}

pub(super) fn future(rows: i64) -> Finding {
    Finding::warning(
        Code::CreatedAt,
        format!(
            "created_at of {} is more than a minute in the future",
            counted(rows, "waiting row")
        ),
        "created_at is the record's timestamp, which consumers and retention by time use; Kafka may reject one that is an hour ahead",
        "use the column's default, or synchronise the clocks of the writers",
    )
}

/// Reports on the parts of the table. `table` is its configured name, `created_at` that of a
/// column.
pub(super) fn shape(shape: &TableShape, table: &str, created_at: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(trigger(shape, table));
    found.extend(bypasses(shape));
    found.extend(deletes(shape, table));
    found.extend(upkeep(shape, table));
    found.extend(times(shape, created_at));
    found.extend(ids::sequence(shape.sequence.as_ref()));
    found.extend(hazards::hazards(&shape.hazards));
    found
}

fn trigger(shape: &TableShape, table: &str) -> Option<Finding> {
    const UNNOTIFIED: &str =
        "the relay is not notified: each row waits for the sweep, up to a minute by default";
    const RINGS: &str = "an earlier version rings at every insert, which slows writers down a lot; a changed one may not ring at all";
    let (code, what, why) = match shape.trigger {
        Trigger::Enabled => return None,
        Trigger::Disabled => (Code::TriggerDisabled, "is disabled", UNNOTIFIED),
        Trigger::Missing => (
            Code::TriggerMissing,
            "does not exist on the table",
            UNNOTIFIED,
        ),
        Trigger::Earlier => (Code::TriggerEarlier, "is not that of this version", RINGS),
    };
    let finding = |remedy| {
        Finding::error(
            code,
            format!("the trigger doorbell_ring {what}"),
            why,
            remedy,
        )
    };
    let quoted = &shape.quoted;
    Some(match shape.trigger {
        Trigger::Disabled => {
            finding(format!("ALTER TABLE {quoted} ENABLE TRIGGER doorbell_ring")).runs_remedy()
        }
        _ => finding(format!("doorbell migrate --table '{table}'")).migrates(),
    })
}

/// Reports ways into the table on which no trigger fires, and ways out of it besides the relay.
fn bypasses(shape: &TableShape) -> Vec<Finding> {
    let mut found = Vec::new();
    if !shape.partitions.is_empty() {
        found.push(Finding::note(
            Code::Partitions,
            format!("the table has the partitions {}", shape.partitions.join(", ")),
            "a statement that inserts directly into a partition does not fire the table's trigger: its rows wait for the sweep",
            "insert into the table, not into its partitions",
        ));
    }
    for name in &shape.subscriptions {
        found.push(Finding::warning(
            Code::Subscription,
            format!("the subscription {name} writes into the table"),
            "replicated rows fire no statement trigger: they wait for the sweep; if the publisher has a relay too, each event is sent twice",
            "relay events where they are written, and remove the table from that server's publication: ALTER PUBLICATION ... DROP TABLE ...",
        ));
    }
    if !shape.publications.is_empty() {
        found.push(Finding::note(
            Code::Published,
            format!("the table is in the publications {}", shape.publications.join(", ")),
            "every insert and delete is decoded and sent there too; a second tool that reads it sends each event twice",
            "ALTER PUBLICATION ... DROP TABLE ..., unless a subscriber needs it; for a publication FOR ALL TABLES, name the tables instead",
        ));
    }
    if !shape.rules.is_empty() {
        found.push(Finding::warning(
            Code::Rules,
            format!("the table has the rules {}", shape.rules.join(", ")),
            "a rule changes what an INSERT or DELETE does: rows may not be inserted, or be sent again because they cannot be deleted",
            "DROP RULE ... ON ..., or make sure that inserts and deletes go through",
        ));
    }
    found
}

fn deletes(shape: &TableShape, table: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if shape.deletes_impossible {
        found.push(Finding::error(
            Code::DeletesImpossible,
            "deletes of the table are published, and it has no replica identity",
            "PostgreSQL rejects each DELETE of the relay, so sent rows remain and are sent again after each restart",
            format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT, with a primary key; or REPLICA IDENTITY FULL"),
        ));
    }
    if shape.row_security {
        found.push(Finding::error(
            Code::RowSecurity,
            "row security applies to the role on this table",
            "the relay must see every row, and refuses to start if a policy may hide some",
            format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE ... BYPASSRLS for the relay's role"),
        ));
    }
    if shape.unlogged {
        found.push(Finding::warning(
            Code::Unlogged,
            "the table is unlogged",
            "a crash of the server empties it: committed events are lost",
            format!("ALTER TABLE {table} SET LOGGED"),
        ));
    }
    found
}

fn upkeep(shape: &TableShape, table: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for relation in &shape.autovacuum_off {
        found.push(
            Finding::warning(
                Code::AutovacuumOff,
                format!("autovacuum is disabled for {relation}"),
                "rows live for milliseconds: without autovacuum the table and its index grow without bound",
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
                "with PostgreSQL's defaults a queue is vacuumed too late, or its empty end is truncated under an exclusive lock",
                format!("doorbell migrate --table '{table}'"),
            )
            .migrates(),
        );
    }
    found
}

fn times(shape: &TableShape, created_at: &str) -> Option<Finding> {
    let default = shape.created_at_default.as_deref();
    let is_time = default.is_some_and(|text| TIMES.iter().any(|time| text.contains(time)));
    (shape.has_created_at && !is_time).then(|| {
        Finding::note(
            Code::CreatedAt,
            match default {
                None => "the column for created_at has no default".to_owned(),
                Some(default) => format!("the default of created_at is {default}"),
            },
            "it is the record's timestamp and part of the event's identity; `status` computes ages from it",
            format!(
                "ALTER TABLE {} ALTER COLUMN \"{created_at}\" SET DEFAULT now(), unless the writers set the time themselves",
                shape.quoted
            ),
        )
    })
}
