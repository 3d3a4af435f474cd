//! Inserting events by a driver.

use std::borrow::Borrow;

use crate::drivers::Transaction;
use crate::event::Event;
use crate::outbox::Outbox;

impl Outbox {
    /// Inserts an event in the caller's transaction: it is sent if and only if that commits.
    ///
    /// # Errors
    /// The driver's, whose transaction has failed then.
    pub async fn insert<T: Transaction>(
        &self,
        tx: &mut T,
        event: impl Borrow<Event>,
    ) -> Result<(), T::Error> {
        self.insert_all(tx, std::slice::from_ref(event.borrow()))
            .await
    }

    /// Inserts events in the caller's transaction, in their order, in one round trip. (A group of
    /// events with headers and one without them are two statements.)
    ///
    /// # Errors
    /// The driver's, whose transaction has failed then.
    pub async fn insert_all<T: Transaction>(
        &self,
        tx: &mut T,
        events: &[Event],
    ) -> Result<(), T::Error> {
        for statement in self.statement(events) {
            tx.write_events(statement).await?;
        }
        Ok(())
    }
}
