//! The migration.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_migration_is_the_file_and_another_table_changes_one_statement() {
        let table = |text: &str| TableName::parse(text).expect("a table's name");
        assert_eq!(migration(&table("outbox")), MIGRATION);
        let other = migration(&table("\"it's\".\"x\""));
        assert!(other.contains("doorbell.create_outbox('\"it''s\".x')"));
        assert_eq!(MIGRATION.matches(DEFAULT_OUTBOX).count(), 1);
    }
}
