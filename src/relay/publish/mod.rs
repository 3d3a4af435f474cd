//! Second stage: turns batches of rows into records, in order.
//!
//! | file | what |
//! |---|---|
//! | `publisher` | routes each row and hands it to the producer |
//! | `inquiries` | what it asks the brokers about topics |
//! | `routes` | to which topic a row goes, and whether it may |
//! | `admission` | checks before a row is produced: whether its topic or its key waits |
//! | `preview` | the records that rows would become, for `doorbell preview` |

mod admission;
mod inquiries;
mod preview;
mod publisher;
mod routes;

pub(crate) use preview::{Preview, Previewed, PreviewedRecord, PreviewedRow};
pub(crate) use publisher::{Publisher, TopicCache};
pub(crate) use routes::{Destination, Routes};
