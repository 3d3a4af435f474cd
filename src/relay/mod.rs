//! The relay: rows of an outbox become records, and are deleted when Kafka has them.
//!
//! | file | what |
//! |---|---|
//! | `fleet` | many outboxes in one process |
//! | `spread` | outboxes that several processes share |
//! | `standby` | waits for the leader's lock, and watches the leader |
//! | `run` | the life of one outbox's relay: get ready, lead, start over |
//! | `ready` | connects, finds the table, waits for Kafka, stands by |
//! | `term` | one term of a leader: its three stages and how it ends |
//! | `fetcher` | first stage: when to look into the table |
//! | `scan` | what it asks the table |
//! | `tending` | ... for keys that wait |
//! | `sweep` | ... about what it has passed |
//! | `publisher` | second stage: batches to records, in order |
//! | `settler` | third stage: delivery reports to deletes |
//! | `transactor` | second stage, where each event is sent once: batches to transactions |
//! | `sender` | the producer that a term begins with |
//! | `opening` | what comes before the first transaction: shut out, read, clear |
//! | `clearing` | deletes the rows of the last receipt that are still in the table |
//! | `once` | its steps (pure) |
//! | `blame` | whose fault it is that a transaction cannot be committed (pure) |
//! | `ledger` | how far receipts and deletes have come |
//! | `error` | why a relay cannot go on |
//! | `voice` | a word of the leader's now and then, while it waits for Kafka |
//! | `shared` | what the stages share |
//! | `refusal` | rows that Kafka can never take |
//! | `pause` | waits while the outbox is paused |
//! | `care` | what is looked at before a row goes, where keys may have to wait |
//! | `caution` | finds a row that ends the process |
//! | `held` | keys that wait behind a refused row (pure) |
//! | `parking` | moves them to the dead letters |
//! | `position` | where the first stage's reading stands |
//! | `doze` | when the relay sleeps and when it wakes (pure) |
//! | `pace` | how often it looks while it is awake (pure) |
//! | `rate` | how many rows may leave in a second (pure) |
//! | `vitals` | what a relay knows of itself, for whoever asks |
//! | `observer` | following rows from outside |
//! | `traces` | spans, where somebody asked for them |
//! | `gaps` | ids that a fetch jumped over (pure) |
//! | `window` | rows in flight, and the room that is left (pure) |
//! | `backoff` | waits between tries (pure) |

mod backoff;
mod blame;
mod care;
mod caution;
mod clearing;
mod doze;
mod error;
mod fetcher;
mod fleet;
mod gaps;
mod held;
mod ledger;
mod observer;
mod once;
mod opening;
mod pace;
mod parking;
mod pause;
mod position;
mod publisher;
mod rate;
mod ready;
mod refusal;
mod run;
mod scan;
mod sender;
mod settler;
mod shared;
mod spread;
mod standby;
mod sweep;
mod tending;
mod term;
mod traces;
mod transactor;
mod vitals;
mod voice;
mod window;

pub use error::RelayError;
pub use fleet::Relay;
pub use observer::{Observer, Step};
pub use vitals::{
    Ailment, Backlog, Bell, BellState, Change, InFlight, KafkaState, Readiness, Role, Rows,
    Snapshot, Stages, Timing, Trouble, Vitals,
};
