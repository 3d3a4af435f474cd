//! Transactions of tokio-postgres 0.7.

use tokio_postgres_0_7::types::Type;
use tokio_postgres_0_7::{Error, Transaction};

use super::sealed::Sealed;
use crate::statement::Statement;

impl Sealed for Transaction<'_> {}

/// The types of the parameters are declared: one round trip, and nothing that a pooler would have
/// to keep.
impl super::Transaction for Transaction<'_> {
    type Error = Error;

    async fn write_events(&mut self, statement: Statement<'_>) -> Result<(), Error> {
        let parameters: &[(&(dyn tokio_postgres_0_7::types::ToSql + Sync), Type)] = &[
            (&statement.types, Type::TEXT_ARRAY),
            (&statement.keys, Type::TEXT_ARRAY),
            (&statement.payloads, Type::BYTEA_ARRAY),
            (&statement.headers, Type::TEXT_ARRAY),
            (&statement.topics, Type::TEXT_ARRAY),
            (&statement.not_before, Type::INT8_ARRAY),
        ];
        let executed = self.execute_typed(&statement.sql, parameters);
        executed.await.map(drop)
    }

    async fn texts(&mut self, sql: String) -> Result<Vec<String>, Error> {
        let rows = self.query_typed(&sql, &[]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }
}
