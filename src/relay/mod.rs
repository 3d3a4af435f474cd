//! The relay: rows of an outbox become records, and are deleted when Kafka has them.
//!
//! | file | what |
//! |---|---|
//! | `fleet` | many outboxes in one process |
//! | `run` | the life of one outbox's relay: connect, stand by, lead, start over |
//! | `term` | one term of a leader: its three stages and how it ends |
//! | `fetcher` | first stage: notifications to batches of rows |
//! | `publisher` | second stage: batches to records, in order |
//! | `settler` | third stage: delivery reports to deletes |
//! | `error` | why a relay cannot go on |
//! | `shared` | what the stages share |
//! | `refusal` | rows that Kafka can never take |
//! | `position` | where the first stage's reading stands |
//! | `gaps` | ids that a fetch jumped over (pure) |
//! | `window` | rows in flight, and the room that is left (pure) |
//! | `backoff` | waits between tries (pure) |

mod backoff;
mod error;
mod fetcher;
mod fleet;
mod gaps;
mod position;
mod publisher;
mod refusal;
mod run;
mod settler;
mod shared;
mod term;
mod window;

pub use error::RelayError;
pub use fleet::Relay;
