//! The migration.

use std::time::Duration;

use sqlx::Row;

use super::error::Result;
use super::session::Session;
use crate::config::TableName;

const MIGRATION: &str = include_str!("../../migrations/0001_outbox.sql");

/// The statement of the migration that names the table.
const DEFAULT_OUTBOX: &str = "doorbell.create_outbox('outbox')";

/// A migration waits patiently for its locks, each at most about 40 s.
const DEADLINE: Duration = Duration::from_secs(300);

/// The SQL that makes `table` an outbox: for the table `outbox` the very file that `psql -f` runs.
pub fn migration(table: &TableName) -> String {
    let name = table.to_string().replace('\'', "''");
    MIGRATION.replace(DEFAULT_OUTBOX, &format!("doorbell.create_outbox('{name}')"))
}

/// Runs the migration.
pub async fn migrate(session: &mut Session, table: &TableName) -> Result<()> {
    session.batch_within(DEADLINE, &migration(table)).await
}

/// Runs one statement of DDL that waits for its locks without making writers wait. The schema `doorbell` must be there.
pub async fn patient_ddl(session: &mut Session, statement: &str) -> Result<()> {
    let quoted = statement.replace('\'', "''");
    let call =
        format!("DO $patient$ BEGIN PERFORM doorbell.patient_ddl('{quoted}'); END $patient$");
    session.batch_within(DEADLINE, &call).await
}

/// What of the schema `doorbell` is not as this version's migration makes it. `None`: there is no such schema.
pub async fn schema_differences(session: &mut Session) -> Result<Option<Vec<String>>> {
    const THERE: &str = "SELECT pg_catalog.to_regnamespace('doorbell') IS NOT NULL";
    const FUNCTIONS: &str = "SELECT 'function doorbell.' || w.name FROM unnest($1::text[], $2::text[]) AS w (name, body) \
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = pg_catalog.to_regnamespace('doorbell') AND p.proname = w.name AND p.prosrc = w.body)";
    const COLUMNS: &str = "SELECT DISTINCT CASE WHEN c.oid IS NULL THEN 'table doorbell.' || w.name ELSE 'column ' || w.column_name || ' of doorbell.' || w.name END \
        FROM unnest($1::text[], $2::text[]) AS w (name, column_name) \
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = pg_catalog.to_regnamespace('doorbell') AND c.relname = w.name \
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped) ORDER BY 1";
    session
        .reading(async |session| {
            if !session.one(THERE, |q| q).await?.try_get::<bool, _>(0)? {
                return Ok(None);
            }
            let mut different = Vec::new();
            for (sql, wanted) in [(FUNCTIONS, functions()), (COLUMNS, columns())] {
                let (first, second): (Vec<String>, Vec<String>) = wanted.into_iter().unzip();
                let rows = session.all(sql, |q| q.bind(first).bind(second)).await?;
                for row in rows {
                    different.push(row.try_get::<String, _>(0)?);
                }
            }
            Ok(Some(different))
        })
        .await
}

/// The functions of the migration and their bodies.
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

/// The tables of the migration and their columns.
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

/// The storage parameters that the migration gives the table, as `reloptions` has them.
pub(super) fn storage_parameters() -> Vec<String> {
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
