//! The statements that adopt a table, and those that undo it.

use super::adoptable::{AdoptableTable, NumberIndex};
use super::{COMMENT, NUMBER};
use crate::postgres::admin::due_indexes::{DueColumns, IndexStatement};
use crate::postgres::admin::scripts::literal;
use crate::postgres::error::Result;
use crate::postgres::session::Session;

/// Statements that run together, and what they lock.
#[derive(Debug)]
pub(crate) struct AdoptStep {
    pub sql: Vec<String>,
    /// What is locked, for how long, and what that means for writers.
    pub locks: &'static str,
    pub waits: Waits,
}

/// How a step waits for the transactions of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It is a transaction. It gives up soon and is tried again, since writers wait behind it.
    Briefly,
    /// It is one statement, outside of a transaction. No writer waits behind it.
    AsLongAsNeeded,
}

const ADD: &str = "ACCESS EXCLUSIVE on the table, for some milliseconds: no row is read or written. All rows have NULL, and no number is drawn yet.";
const GRANT: &str = "Nothing on the table.";
const INDEX: &str = "SHARE UPDATE EXCLUSIVE on the table, while it is read twice: writers go on. It waits for transactions that began before.";
const REMOVE: &str = "SHARE UPDATE EXCLUSIVE on the table, and waits for transactions that use the index that an interrupted run left.";
const DEFAULT: &str = "ACCESS EXCLUSIVE on the table, for some milliseconds. It waits for writers in progress: their rows keep NULL, and every later row gets a number.";
const DROP: &str = "ACCESS EXCLUSIVE on the table, for some milliseconds: default, index and sequence go with the column.";

/// Returns what is left to do for a table. None: it is adopted.
pub(crate) fn steps(it: &AdoptableTable) -> Vec<AdoptStep> {
    let (table, sequence) = (&it.quoted, &it.sequence);
    let mut steps = Vec::new();
    let grants = it
        .ungranted
        .iter()
        .map(|role| format!("GRANT USAGE ON SEQUENCE {sequence} TO {role}"));
    if it.has_number {
        let sql: Vec<_> = grants.collect();
        if !sql.is_empty() {
            steps.push(briefly(sql, GRANT));
        }
    } else {
        let mut sql = vec![
            format!("ALTER TABLE {table} ADD COLUMN {NUMBER} bigint"),
            format!("COMMENT ON COLUMN {table}.{NUMBER} IS {}", literal(COMMENT)),
            format!("CREATE SEQUENCE {sequence} AS bigint"),
        ];
        // A sequence can only be owned by a column of the same owner.
        let owner = it.other_owner.iter();
        sql.extend(owner.map(|role| format!("ALTER SEQUENCE {sequence} OWNER TO {role}")));
        sql.push(format!(
            "ALTER SEQUENCE {sequence} OWNED BY {table}.{NUMBER}"
        ));
        sql.extend(grants);
        steps.push(briefly(sql, ADD));
    }
    if let NumberIndex::Invalid(index) = &it.index {
        steps.push(patiently(
            format!("DROP INDEX CONCURRENTLY {index}"),
            REMOVE,
        ));
    }
    if it.index != NumberIndex::Usable {
        let [_, index] = &it.index_names;
        let sql = format!(
            "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} ({NUMBER}) WHERE {NUMBER} IS NOT NULL"
        );
        steps.push(patiently(sql, INDEX));
    }
    // Last: the numbers begin when everything that they need is there.
    if !it.has_default {
        let next = format!("nextval({}::regclass)", literal(sequence));
        let sql = format!("ALTER TABLE {table} ALTER COLUMN {NUMBER} SET DEFAULT {next}");
        steps.push(briefly(vec![sql], DEFAULT));
    }
    steps
}

/// Returns what is left to do for the indexes on the time before which a row is not sent.
pub(crate) async fn due_steps(
    session: &mut Session,
    it: &AdoptableTable,
    not_before: &str,
) -> Result<Vec<AdoptStep>> {
    let columns = DueColumns {
        oid: it.oid,
        quoted: &it.quoted,
        table: &it.name,
        id: NUMBER,
        not_before,
    };
    let missing = columns.missing(session).await?;
    let step = |index: IndexStatement| patiently(index.sql, INDEX);
    Ok(missing.into_iter().map(step).collect())
}

/// Returns the way back. None: there is nothing to undo.
pub(crate) fn undo_steps(it: &AdoptableTable) -> Vec<AdoptStep> {
    let sql = format!("ALTER TABLE {} DROP COLUMN {NUMBER}", it.quoted);
    let is_there = it.has_number.then(|| briefly(vec![sql], DROP));
    is_there.into_iter().collect()
}

fn briefly(sql: Vec<String>, locks: &'static str) -> AdoptStep {
    AdoptStep {
        sql,
        locks,
        waits: Waits::Briefly,
    }
}

fn patiently(sql: String, locks: &'static str) -> AdoptStep {
    AdoptStep {
        sql: vec![sql],
        locks,
        waits: Waits::AsLongAsNeeded,
    }
}
