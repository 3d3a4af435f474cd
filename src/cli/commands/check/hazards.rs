//! Findings about what the catalogue has: a table of sentences for the kinds of hazards.

use super::finding::{Code, Finding, Severity};
use crate::postgres::inspect::Hazard;

/// What is said of a kind. `what`: `{}` stands for the names.
struct Words {
    kind: &'static str,
    severity: Severity,
    code: Code,
    what: &'static str,
    why: &'static str,
    /// Precedes the statements that remove it.
    remedy: &'static str,
}

macro_rules! words {
    ($($kind:literal $severity:ident $code:ident $what:literal $why:literal $remedy:literal;)*) => {
        &[$(Words { kind: $kind, severity: Severity::$severity, code: Code::$code, what: $what, why: $why, remedy: $remedy },)*]
    };
}

const KNOWN: &[Words] = words! {
    "open-schema" Warning SearchPath
        "objects may be created in a schema of the search_path: {}"
        "a function or operator of the right name there would run with the privileges of each role that has the schema in its search_path, migrations as a superuser included"
        "";
    "encoding" Error Encoding
        "the encoding of the database is {}"
        "PostgreSQL then checks and converts no text: a row with a byte that is not UTF-8 cannot be read, so it cannot be sent"
        "";
    "notify-queue" Error NotifyQueue
        "the queue of notifications is filled by {}"
        "when it is full, every COMMIT after a NOTIFY fails, writers of the outbox included while the relay sleeps"
        "";
    "delete-trigger" Warning DeletesKept
        "a trigger may keep rows from being deleted: {}"
        "rows that it keeps are sent once and stay in the table: they take room in flight, and the next relay sends them again"
        "unless it lets every DELETE through: ";
    "update-trigger" Note RowsChange
        "a trigger fires when rows are updated: {}"
        "rows are sent as they were when they were fetched: an UPDATE of a row in flight is lost with its DELETE"
        "insert a new event instead of updating one, and then: ";
    "update-right" Note RowsChange
        "writers may update rows: {}"
        "rows are sent as they were when they were fetched: an UPDATE of a row in flight is lost with its DELETE"
        "insert a new event instead of updating one, and then: ";
    "foreign-key" Warning ForeignKeys
        "foreign keys reference the table and do not let go of its rows: {}"
        "a row that is referenced cannot be deleted: it is sent once and stays in the table, and the next relay sends it again"
        "ON DELETE CASCADE or SET NULL instead, or: ";
    "required-column" Warning ColumnRequired
        "columns that Doorbell does not write are NOT NULL and have no default: {}"
        "Doorbell itself cannot insert a row: a dead letter could never go back"
        "";
    "child" Warning IdNotUnique
        "tables inherit from the outbox: {}"
        "no index covers their rows: two rows can have the same id"
        "";
    "null-id" Warning IdNotUnique
        "{} may be NULL"
        "a row whose id is NULL is never sent"
        "";
    "local-time" Warning CreatedAt
        "created_at has no time zone, and the TimeZone of writers is not UTC: {}"
        "the relay reads it as UTC: records get times that are hours off, and Kafka may drop them early"
        "set TimeZone to UTC there, or: ";
};

/// Reports on each.
pub(super) fn hazards(all: &[Hazard]) -> impl Iterator<Item = Finding> {
    all.iter().filter_map(|it| {
        let words = KNOWN.iter().find(|words| words.kind == it.kind)?;
        let what = words.what.replace("{}", &it.names.join(", "));
        let remedy = format!("{}{}", words.remedy, it.remedies.join("; "));
        Some(Finding::new(
            words.severity,
            words.code,
            what,
            words.why,
            remedy,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_hazard_has_its_words() {
        let queries = include_str!("../../../postgres/inspect/hazards.rs");
        for words in KNOWN {
            assert!(
                queries.contains(&format!("'{}'", words.kind)),
                "{}",
                words.kind
            );
        }
        let selected = queries.matches("SELECT '").count() + 1; // two are in a CASE, and one literal is no kind
        assert_eq!(selected, KNOWN.len(), "a kind without words");
    }
}
