//! The only place with SQL.
//!
//! | file | what |
//! |---|---|
//! | `session` | a connection: found among hosts, set up, watched |
//! | `table` | what the table offers, and what its columns are mapped to |
//! | `outbox` | fetch |
//! | `candidate` | asks for the leader's lock, and waits for it |
//! | `leader` | the session that holds the lock, and the deletes on it |
//! | `marks` | what the database knows of receipts in Kafka |
//! | `dead` | moves refused rows to the dead letters |
//! | `letters` | dead letters for whoever looks after them: list, show, retry, drop |
//! | `bell` | the notifications |
//! | `registry` | whether an outbox is paused, and the table that its name stands for |
//! | `key` | the lock that tells writers whether to ring |
//! | `holders` | who holds the locks, for `status` |
//! | `peers` | the other relays: whether the leader lives, who leads how many |
//! | `schema`, `status`, `emit`, `waiting` | what the commands ask |
//! | `survey` | what `doorbell check` asks |
//! | `scratch`, `load`, `activity` | what the benchmark does: its own schema, writers, what the server counted |
//! | `error` | failures, told apart by what can be done |

mod activity;
mod bell;
mod candidate;
mod dead;
mod emit;
mod error;
mod holders;
mod key;
mod leader;
mod letters;
mod load;
mod marks;
mod outbox;
mod peers;
mod registry;
mod schema;
mod scratch;
mod session;
mod starts;
mod status;
pub mod survey;
mod table;
mod waiting;

pub use activity::{Activity, ServerFacts, Source};
pub use bell::{Bell, Ring, hears_itself};
pub use candidate::{Candidate, Waited};
pub use dead::{Convict, Parked};
pub use emit::{NewEvent, emit};
pub use error::{Error, Result};
pub use holders::{BellHolders, Holder, leader_holders};
pub use key::Key;
pub use leader::{Commit, Deleted, Leader, Sent};
pub use letters::{CUT, Choice, Contents, Glance, Lacks, Letter, Letters};
pub use load::{Horizon, Writer};
pub use marks::{Mark, accept};
pub use outbox::{Ask, Batch, Head, LOOK_PAGE, Reader, Waiting};
pub use peers::{Shares, Silenced};
pub use registry::{Entry, Pause, Switched, pause, resume};
pub use schema::{migrate, migration, patient_ddl, schema_differences};
pub use scratch::{Ground, Ringing, SCRATCH_PREFIX, Scratch};
pub use session::{OLDEST_SERVER, Reached, Server, Session};
pub use starts::{Starts, survived};
pub use status::{Status, backlog, status};
pub use table::{Table, Trigger};
pub use waiting::{parked, waiting};
