//! The sessions of a running relay and their statements.
//!
//! | file | what |
//! |---|---|
//! | `election` | asks for the leader's lock, and waits for it |
//! | `leader_watch` | terminates the sessions of a leader that is unresponsive |
//! | `leader` | the session that holds the leader's lock |
//! | `deleter` | deletes acknowledged rows, on that session |
//! | `dead_letter_writer` | moves rejected rows to the dead letters, on that session |
//! | `crash_counter` | counts starts without progress, on that session |
//! | `receipts` | how far the database has come with the receipts in Kafka |
//! | `reader`, `fetch_statement`, `batch` | the session that fetches, its statement, and the rows it brings |
//! | `listener` | the session that listens for notifications |
//! | `wake_lock` | the session that holds the wake lock while the relay sleeps |
//! | `registry` | whether an outbox is paused, and which table its name stands for |

pub(crate) mod batch;
pub(crate) mod crash_counter;
pub(crate) mod dead_letter_writer;
pub(crate) mod deleter;
pub(crate) mod election;
pub(crate) mod fetch_statement;
pub(crate) mod leader;
pub(crate) mod leader_watch;
pub(crate) mod listener;
pub(crate) mod reader;
pub(crate) mod receipts;
pub(crate) mod registry;
pub(crate) mod wake_lock;
