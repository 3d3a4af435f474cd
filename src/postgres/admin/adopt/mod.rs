//! Makes a table in use fit for the relay: a column numbers its rows from now on.
//!
//! - `adoptable`: the table as it is, and what it has already
//! - `steps`: the statements that are left to run, with their locks
//! - `apply`: runs them without making writers wait for long

pub(crate) mod adoptable;
pub(crate) mod apply;
pub(crate) mod steps;

/// The column that numbers the rows. Rows that were there before have none, and are never sent.
pub(crate) const NUMBER: &str = "seq";

/// Tells this column from one of the same name that has another purpose.
const COMMENT: &str =
    "Number of the row, for the relay Doorbell; NULL: the row was there before, and is not sent";
