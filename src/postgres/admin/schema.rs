//! The migration, and whether a schema is as it makes it.

use std::time::Duration;

use super::due_indexes::DueColumns;
use super::scripts::{literal, without_transaction};
use crate::config::{Outbox, TableName};
use crate::postgres::error::{Error, Result};
use crate::postgres::session::{PINNED, Session, from_row};
use crate::postgres::table::{TO_RELAY, Table};

const MIGRATION: &str = include_str!("../../../migrations/0001_outbox.sql");

const UNDO: &str = include_str!("../../../sql/undo.sql");

/// The statement of the migration that names the table.
const DEFAULT_OUTBOX: &str = "doorbell.create_outbox('outbox')";

/// A migration waits for its locks, for about 40 s each.
const DEADLINE: Duration = Duration::from_secs(300);
/// An index is built while writers go on, and waits for each transaction that began before.
const INDEX_DEADLINE: Duration = Duration::from_secs(86_400);

/// Returns the SQL that makes `table` an outbox. For the table `outbox` it is the very file that
/// `psql -f` runs.
pub(crate) fn migration(table: &TableName) -> String {
    let name = literal(&table.to_string());
    MIGRATION.replace(DEFAULT_OUTBOX, &format!("doorbell.create_outbox({name})"))
}

/// Returns the SQL that takes off again what the migration made for `table`.
pub(crate) fn undoing(table: &TableName) -> String {
    let name = literal(&table.to_string());
    UNDO.replace("to_regclass('outbox')", &format!("to_regclass({name})"))
}

/// Makes the table an outbox. If it cannot be one, nothing is changed.
pub(crate) async fn migrate(session: &mut Session, outbox: &Outbox) -> Result<Table> {
    let table = migrate_table(session, outbox).await?;
    let missing = match DueColumns::of(outbox, &table) {
        Some(columns) => columns.missing(session).await?,
        None => Vec::new(),
    };
    for index in missing {
        match index.is_concurrent {
            // All of its names are qualified: it cannot be in one transaction with a search_path.
            true => session.batch_within(INDEX_DEADLINE, &index.sql).await?,
            false => patient_ddl(session, &index.sql).await?,
        }
    }
    Ok(table)
}

async fn migrate_table(session: &mut Session, outbox: &Outbox) -> Result<Table> {
    const ENCODING: &str = "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text FROM pg_catalog.pg_database d \
        WHERE d.datname = pg_catalog.current_database()";
    let sql = unpinned(&migration(&outbox.table));
    session
        .writing(async |session| {
            if session.value::<String>(ENCODING, |q| q).await? == "SQL_ASCII" {
                return Err(Error::refused(
                    "the encoding of the database is SQL_ASCII: a row with a byte that is not UTF-8 could not be read",
                    "dump the database, and restore it into one with ENCODING 'UTF8'",
                ));
            }
            session.batch_within(DEADLINE, &sql).await?;
            Table::look_up(session, outbox, TO_RELAY).await
        })
        .await
}

/// An outbox that stands for no table: it was dropped or renamed.
pub(crate) struct Vanished {
    pub(crate) name: String,
    /// The outbox that was set up last, and after this one. It may be the same table under a new
    /// name.
    pub(crate) later: Option<String>,
}

from_row! { Vanished: name later }

pub(crate) async fn vanished(session: &mut Session) -> Result<Vec<Vanished>> {
    const VANISHED: &str = "SELECT o.name, (SELECT l.name FROM doorbell.outbox l \
            WHERE l.created_at > o.created_at AND pg_catalog.to_regclass(l.name) IS NOT NULL ORDER BY l.created_at DESC LIMIT 1) AS later \
        FROM doorbell.outbox o WHERE pg_catalog.to_regclass(o.name) IS NULL ORDER BY 1";
    session
        .reading(async |session| session.rows(VANISHED, |q| q).await)
        .await
}

/// Takes off what the migration made.
pub(crate) async fn undo(session: &mut Session, name: &TableName) -> Result<()> {
    let sql = unpinned(&undoing(name));
    session
        .writing(async |session| session.batch_within(DEADLINE, &sql).await)
        .await
}

/// In a transaction of ours the table is found by the role's own `search_path` all the same.
fn unpinned(sql: &str) -> String {
    let sql = without_transaction(sql);
    format!("SET LOCAL search_path TO DEFAULT; {sql}")
}

/// Runs one DDL statement that waits for its locks without blocking writers. The schema `doorbell`
/// must exist.
pub(crate) async fn patient_ddl(session: &mut Session, statement: &str) -> Result<()> {
    let quoted = statement.replace('\'', "''");
    let call = format!(
        "{PINNED}DO $patient$ BEGIN PERFORM doorbell.patient_ddl('{quoted}'); END $patient$"
    );
    session.batch_within(DEADLINE, &call).await
}

/// Lists what in the schema `doorbell` differs from this version's migration. `None`: the schema
/// does not exist.
pub(crate) async fn schema_differences(session: &mut Session) -> Result<Option<Vec<String>>> {
    const THERE: &str = "SELECT pg_catalog.to_regnamespace('doorbell') IS NOT NULL";
    const FUNCTIONS: &str = "SELECT 'function doorbell.' || w.name FROM unnest($1::text[], $2::text[]) AS w (name, body) \
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.to_regnamespace('doorbell') AND p.proname = w.name \
        AND p.prosrc = w.body AND p.proconfig IS NOT NULL)";
    const COLUMNS: &str = "SELECT DISTINCT CASE WHEN c.oid IS NULL THEN 'table doorbell.' || w.name ELSE 'column ' || w.column_name || ' of doorbell.' || w.name END \
        FROM unnest($1::text[], $2::text[]) AS w (name, column_name) \
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = pg_catalog.to_regnamespace('doorbell') AND c.relname = w.name \
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped) ORDER BY 1";
    session
        .reading(async |session| {
            if !session.value::<bool>(THERE, |q| q).await? {
                return Ok(None);
            }
            let mut different: Vec<String> = Vec::new();
            for (sql, wanted) in [(FUNCTIONS, functions()), (COLUMNS, columns())] {
                let (first, second): (Vec<String>, Vec<String>) = wanted.into_iter().unzip();
                let rows = session.values(sql, |q| q.bind(first).bind(second));
                different.extend(rows.await?);
            }
            Ok(Some(different))
        })
        .await
}

/// Returns the functions of the migration with their bodies.
fn functions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in MIGRATION
        .split("CREATE OR REPLACE FUNCTION doorbell.")
        .skip(1)
    {
        let name = part.split('(').next();
        let body = part
            .split("AS $$")
            .nth(1)
            .and_then(|it| it.split("$$;").next());
        if let (Some(name), Some(body)) = (name, body) {
            found.push((name.to_owned(), body.to_owned()));
        }
    }
    found
}

/// Returns the tables of the migration with their columns.
fn columns() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in MIGRATION
        .split("CREATE TABLE IF NOT EXISTS doorbell.")
        .skip(1)
    {
        let Some((table, rest)) = part.split_once(" (\n") else {
            continue;
        };
        for line in rest.lines().take_while(|line| !line.starts_with(')')) {
            let word = line.trim_start().split(' ').next().unwrap_or_default();
            // Not a CHECK, a key or a comment.
            if !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                found.push((table.to_owned(), word.to_owned()));
            }
        }
    }
    for part in MIGRATION.split("ALTER TABLE doorbell.").skip(1) {
        let Some((table, rest)) = part.split_once(" ADD COLUMN IF NOT EXISTS ") else {
            continue;
        };
        if let (false, Some(column)) = (table.contains(';'), rest.split(' ').next()) {
            found.push((table.to_owned(), column.to_owned()));
        }
    }
    found
}

/// Returns the storage parameters that the migration sets on the table, as `reloptions` shows them.
pub(crate) fn storage_parameters() -> Vec<String> {
    let list = MIGRATION.split("wanted text[] := ARRAY[").nth(1);
    let list = list
        .and_then(|rest| rest.split("];").next())
        .unwrap_or_default();
    let lines = list.lines().map(str::trim);
    let quoted = lines.filter_map(|line| line.strip_prefix('\'')?.split('\'').next());
    quoted.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migration_says_what_a_schema_must_have() {
        let functions = functions();
        let names: Vec<_> = functions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names.len(),
            MIGRATION.matches("CREATE OR REPLACE FUNCTION").count()
        );
        for name in ["ring", "lock_within", "patient_ddl", "create_outbox"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert!(
            functions
                .iter()
                .all(|(_, body)| body.contains("BEGIN") && body.contains("END"))
        );
        let columns = columns();
        for (table, column) in [
            ("outbox", "name"),
            ("outbox", "id"),
            ("dead", "outbox"),
            ("dead", "retried_at"),
        ] {
            let wanted = (table.to_owned(), column.to_owned());
            assert!(columns.contains(&wanted), "{wanted:?} in {columns:?}");
        }
        let parameters = storage_parameters();
        for wanted in [
            "fillfactor=100",
            "vacuum_truncate=off",
            "autovacuum_vacuum_threshold=20000",
        ] {
            assert!(parameters.iter().any(|it| it == wanted), "{parameters:?}");
        }
    }

    #[test]
    fn the_default_migration_is_the_file_and_another_table_changes_one_statement() {
        let table = |text: &str| TableName::parse(text).expect("a table's name");
        assert_eq!(migration(&table("outbox")), MIGRATION);
        let other = migration(&table("\"it's\".\"x\""));
        assert!(other.contains("doorbell.create_outbox('\"it''s\".x')"));
        assert_eq!(MIGRATION.matches(DEFAULT_OUTBOX).count(), 1);
    }
}
