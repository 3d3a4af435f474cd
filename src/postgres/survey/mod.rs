//! What `doorbell check` asks the database. Everything is asked in transactions that only read, so nothing is changed and nothing stays on
//! a session that a pooler lends.
//!
//! | file | what |
//! |---|---|
//! | `surroundings` | the server: version, clocks, settings, free connections |
//! | `shape` | the table as the catalogue has it: trigger, partitions, publications, storage |
//! | `sequence` | where the ids come from |
//! | `rights` | what `sql/roles.sql` grants and our role lacks, or has beyond it |
//! | `pins` | who keeps dead rows from being cleaned up |
//! | `plan` | whether the fetch uses the index |
//! | `rows` | rows that wait: their topics, keys, sizes and times |

mod pins;
mod plan;
mod rights;
mod rows;
mod sequence;
mod shape;
mod surroundings;

pub(super) use pins::{MANY_TRANSACTIONS, PINS, pinned};
pub use pins::{Pin, Pinning, pins};
pub use plan::detours;
pub(super) use rights::operator_lacks;
pub use rights::{Missing, Rights, rights};
pub use rows::{DeadReason, Kind, Sample, dead_reasons, sample};
pub use sequence::Sequence;
pub use shape::{Shape, is_registered, shape};
pub use surroundings::{Surroundings, surroundings};
