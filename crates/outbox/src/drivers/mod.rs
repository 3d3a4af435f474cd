//! The transactions of the drivers, each in a file of its own.

#[cfg(feature = "sqlx-0_8")]
mod sqlx_0_8;
#[cfg(feature = "sqlx-0_9")]
mod sqlx_0_9;
#[cfg(feature = "tokio-postgres-0_7")]
mod tokio_postgres_0_7;

use std::future::Future;

use crate::statement::Statement;

/// An open transaction of a driver. A pool or a connection is none, because the event would be
/// committed apart from the data.
///
/// | feature | type |
/// |---|---|
/// | `sqlx-0_9` | `sqlx::Transaction<'_, sqlx::Postgres>` |
/// | `sqlx-0_8` | the same of version 0.8 |
/// | `tokio-postgres-0_7` | `tokio_postgres::Transaction<'_>` |
pub trait Transaction: sealed::Sealed + Send {
    /// The driver's error.
    type Error;

    /// Executes a statement of this crate.
    #[doc(hidden)]
    fn write_events(
        &mut self,
        statement: Statement<'_>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the one column of text of a query.
    #[doc(hidden)]
    fn texts(
        &mut self,
        sql: String,
    ) -> impl Future<Output = Result<Vec<String>, Self::Error>> + Send;
}

mod sealed {
    pub trait Sealed {}
}
