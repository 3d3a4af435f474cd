//! The time before which a row is not sent, as conditions of statements.
//!
//! Rows without such a time are read by id, all others by their time once it has come. Each kind
//! has an index of its own, so rows that wait cost the others nothing. The time is judged by the
//! server's clock, at the begin of a statement: an index needs a time that stands still.

use super::columns::MappedColumns;
use super::table::Table;

const NOW: &str = "pg_catalog.statement_timestamp()";

impl Table {
    /// Selects something of the rows that may be sent now.
    pub(crate) fn sendable_rows(&self, select: &str) -> String {
        let (c, from) = (&self.columns, &self.quoted);
        let by_id = format!(
            "SELECT {select} FROM {from} WHERE {} IS NOT NULL{}",
            c.id,
            c.undelayed()
        );
        match c.came_due() {
            None => by_id,
            Some(due) => format!("{by_id} UNION ALL SELECT {select} FROM {from} WHERE {due}"),
        }
    }

    /// Counts the rows whose time is to come, up to a limit, and selects how many seconds it is
    /// until the next one. `None`: no row has such a time.
    pub(crate) fn delayed_rows(&self, limit: i64) -> Option<String> {
        let (time, from) = (self.columns.not_before.as_ref()?, &self.quoted);
        let delayed = self.columns.delayed()?;
        Some(format!(
            "SELECT (SELECT count(*) FROM (SELECT FROM {from} WHERE {delayed} ORDER BY {time} LIMIT {limit}) r), \
             (SELECT pg_catalog.date_part('epoch', {time} - pg_catalog.clock_timestamp()) FROM {from} \
             WHERE {delayed} AND {time} < 'infinity' ORDER BY {time} LIMIT 1)"
        ))
    }
}

impl MappedColumns {
    /// The further condition on the rows that are read by id.
    pub(crate) fn undelayed(&self) -> String {
        let condition = |it: &String| format!(" AND {it} IS NULL");
        self.not_before.as_ref().map(condition).unwrap_or_default()
    }

    /// The further condition on the rows that may be sent now.
    pub(crate) fn due(&self) -> String {
        let condition = |it: &String| format!(" AND ({it} IS NULL OR {it} <= {NOW})");
        self.not_before.as_ref().map(condition).unwrap_or_default()
    }

    /// The condition on the rows whose time has come, if there can be any.
    pub(crate) fn came_due(&self) -> Option<String> {
        let condition = |it: &String| format!("{it} <= {NOW} AND {} IS NOT NULL", self.id);
        self.not_before.as_ref().map(condition)
    }

    /// The condition on the rows whose time is to come, if there can be any.
    pub(crate) fn delayed(&self) -> Option<String> {
        let condition = |it: &String| format!("{it} > {NOW} AND {} IS NOT NULL", self.id);
        self.not_before.as_ref().map(condition)
    }
}
