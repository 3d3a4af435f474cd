//! What the relay asks of the database, counted by the server itself.

use super::{Relay, World};

/// Counts the statements of a relay that runs as a role of its own, by `pg_stat_statements`.
pub(crate) struct Meter {
    role: String,
}

impl Meter {
    pub(crate) fn new(world: &mut World) -> Self {
        // Roles belong to the whole server.
        let role = format!("meter_{}", world.name());
        world.sql(&format!(
            "CREATE EXTENSION pg_stat_statements; CREATE ROLE {role} SUPERUSER LOGIN"
        ));
        Self { role }
    }

    /// Starts a relay that leads and whose statements are counted.
    pub(crate) fn leading(&self, world: &World, flags: &[&str]) -> Relay {
        let url = world
            .database_url
            .replace("//postgres@", &format!("//{}@", self.role));
        Relay::leading(world, &[flags, &["--database-url", &url]].concat())
    }

    /// Returns the statements so far.
    pub(crate) fn statements(&self, world: &mut World) -> i64 {
        self.statements_like(world, "")
    }

    /// Forgets the statements so far. The server itself forgets the rarest when it has seen many
    /// others.
    pub(crate) fn start_over(&self, world: &mut World) {
        world.sql(&format!(
            "SELECT pg_stat_statements_reset('{}'::regrole, 0, 0)",
            self.role
        ));
    }

    /// Returns those so far that match a regular expression.
    pub(crate) fn statements_like(&self, world: &mut World, pattern: &str) -> i64 {
        world.number(&format!(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
             WHERE userid = '{}'::regrole AND query ~ '{pattern}'",
            self.role
        ))
    }

    /// Returns the blocks that its fetches and deletes have read so far, from memory or disk: the
    /// work of relaying, whatever else the machine does.
    pub(crate) fn blocks(&self, world: &mut World) -> i64 {
        world.number(&format!(
            "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements \
             WHERE userid = '{}'::regrole AND (query LIKE '%octet_length(payload)%' OR query LIKE '%DELETE FROM %')",
            self.role
        ))
    }

    /// Lists the statements, the most frequent first, for the failure message.
    pub(crate) fn list(&self, world: &mut World) -> String {
        use sqlx::Row;
        let rows = world.rows(&format!(
            "SELECT format('%s %s', calls, left(query, 150)) FROM pg_stat_statements WHERE userid = '{}'::regrole ORDER BY calls DESC",
            self.role
        ));
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        lines.join("\n")
    }

    /// Drops the role. The relay must have ended.
    pub(crate) fn remove(self, world: &mut World) {
        world.sql(&format!("DROP ROLE {}", self.role));
    }
}
