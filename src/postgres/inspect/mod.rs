//! What `doorbell check`, `status` and `verify` read. `check` reads in read-only transactions, so
//! it changes nothing and leaves nothing on a session that a pooler lends.
//!
//! | file | what |
//! |---|---|
//! | `server` | the server: version, clocks, settings, free connections |
//! | `table_shape` | the table in the catalogue: trigger, partitions, publications, storage |
//! | `sequence` | where the ids come from |
//! | `privileges` | what `sql/roles.sql` grants and the role lacks, or has beyond it |
//! | `hazards` | what in the catalogue breaks a promise, by kinds |
//! | `old_snapshots` | what prevents vacuum from removing dead rows |
//! | `fetch_plan` | whether the fetch uses the index |
//! | `next_rows` | the next rows of an outbox, for `doorbell preview` |
//! | `row_sample` | rows that wait: their topics, keys, sizes and times |
//! | `lock_holders` | holders of the locks of an outbox, for `status` |
//! | `remaining_rows` | rows in the table or among the dead letters, for `verify` |

mod fetch_plan;
mod hazards;
pub(crate) mod lock_holders;
pub(crate) mod next_rows;
mod old_snapshots;
mod privileges;
pub(crate) mod remaining_rows;
mod row_sample;
mod sequence;
mod server;
mod table_shape;

pub(crate) use fetch_plan::detours;
pub(crate) use hazards::{Hazard, of_table};
pub(crate) use lock_holders::table_holders;
pub use old_snapshots::OldSnapshot;
pub(crate) use old_snapshots::{MANY_TRANSACTIONS, PINS, held_for};
pub(crate) use old_snapshots::{SnapshotHolder, old_snapshots};
pub(crate) use privileges::{LETTERS, PAUSES, operator_lacks};
pub(crate) use privileges::{MissingPrivileges, Privileges, privileges};
pub(crate) use row_sample::{DeadReason, Sample, dead_reasons, oldest_letter, sample};
pub(crate) use sequence::{Sequence, sequence};
pub(crate) use server::{ServerInfo, server_info};
pub(crate) use table_shape::{TableShape, is_registered, table_shape};
