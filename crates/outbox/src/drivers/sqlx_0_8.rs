//! Transactions of sqlx 0.8.

use sqlx_0_8::{Error, Postgres, Transaction, query, query_scalar};

use super::sealed::Sealed;
use crate::statement::Statement;

impl Sealed for Transaction<'_, Postgres> {}

impl super::Transaction for Transaction<'_, Postgres> {
    type Error = Error;

    async fn write_events(&mut self, statement: Statement<'_>) -> Result<(), Error> {
        let query = query(&statement.sql)
            .bind(statement.types)
            .bind(statement.keys)
            .bind(statement.payloads)
            .bind(statement.headers)
            .bind(statement.topics)
            .bind(statement.not_before);
        query.execute(&mut **self).await.map(drop)
    }

    async fn texts(&mut self, sql: String) -> Result<Vec<String>, Error> {
        query_scalar(&sql).fetch_all(&mut **self).await
    }
}
