//! The only module with SQL.
//!
//! | file or folder | what |
//! |---|---|
//! | `server` | finds a server that accepts writes among the hosts of DATABASE_URL |
//! | `session` | a session: opened, configured, watched |
//! | `transactions`, `waiter` | its transactions, and its wait for answers and locks |
//! | `table`, `columns` | what the table has, and what its columns are mapped to |
//! | `not_before` | the time before which a row is not sent, as conditions of statements |
//! | `relay` | the sessions of a running relay and their statements |
//! | `admin` | the statements of the commands |
//! | `inspect` | what `doorbell check`, `status` and `verify` read |
//! | `advisory_locks`, `wire` | lock classes, and values in the binary format |
//! | `error` | failures, by what the caller can do about them |

mod admin;
mod advisory_locks;
mod columns;
mod error;
pub(crate) mod inspect;
mod not_before;
mod relay;
mod server;
mod session;
mod table;
mod transactions;
mod waiter;
mod wire;

pub(crate) use admin::adopt::NUMBER;
pub(crate) use admin::adopt::adoptable::AdoptableTable;
pub(crate) use admin::adopt::apply::{LOCK_TIMEOUT, apply, prepare};
pub(crate) use admin::adopt::steps::{AdoptStep, Waits, due_steps, steps, undo_steps};
pub(crate) use admin::dead_letters::{
    DETAIL_CHARS, DeadLetter, DeadLetterContents, DeadLetters, Facet, LetterFilter, LetterRefusal,
    PREVIEW_CHARS, Selection,
};
pub(crate) use admin::due_indexes::{DueColumns, due_index_script};
pub(crate) use admin::emit::{NewEvent, emit};
pub(crate) use admin::held::HeldRow;
pub(crate) use admin::held::held;
pub(crate) use admin::pause::{Switched, pause_of, switch};
pub(crate) use admin::schema::{
    Vanished, migrate, migration, patient_ddl, schema_differences, undo, undoing, vanished,
};
pub(crate) use admin::scripts::{INBOX, events, literal, roles, strict_order, without_transaction};
pub(crate) use admin::status::{LONG_WAIT, Status, backlog, delayed, status};
pub(crate) use error::{Error, Result};
pub(crate) use inspect::lock_holders::{Holder, LeaderFigures, leader_holders};
pub(crate) use inspect::next_rows::NextRows;
pub(crate) use inspect::remaining_rows::{
    EventPlace, WaitingEvent, WaitingRow, find_event, is_empty, parked, waiting, waiting_of_key,
};
pub use relay::batch::Batch;
pub(crate) use relay::batch::Unread;
pub(crate) use relay::crash_counter::{CrashCount, clear_recorded_rows};
pub(crate) use relay::dead_letter_writer::RejectedRow;
pub(crate) use relay::deleter::{Commit, Deleted};
pub(crate) use relay::election::{Candidate, Waited, leave_connections};
pub(crate) use relay::leader::Leader;
pub(crate) use relay::listener::{Listener, Ring, hears_itself};
pub(crate) use relay::reader::due_rows::{BEFORE_ALL, DelayedCount, DueRow};
pub use relay::reader::{FetchRequest, Reader};
pub(crate) use relay::reader::{LOOK_PAGE, LookedAt};
pub(crate) use relay::receipts::{ReceiptPosition, accept};
pub(crate) use relay::registry::Pause;
pub(crate) use relay::wake_lock::WakeLock;
pub use server::Server;
pub(crate) use server::{OLDEST_SERVER, Reached};
pub use session::Session;
pub use table::Table;
pub(crate) use table::{Trigger, elsewhere};
pub(crate) use waiter::TellsBlocker;
