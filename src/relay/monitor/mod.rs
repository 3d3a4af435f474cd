//! What a relay knows of itself, for metrics, health checks and the status page. Nothing here
//! queries the database.
//!
//! | file | what |
//! |---|---|
//! | `recorder` | what the stages report |
//! | `incidents` | the incident log |
//! | `recent` | the rows that were sent last |
//! | `kinds` | the states of a relay, and the kinds of problems |
//! | `snapshot` | the figures of one moment |
//! | `reading` | takes a snapshot |
//! | `readiness` | whether a snapshot is healthy, in words (pure) |

mod incidents;
mod kinds;
mod readiness;
mod reading;
mod recent;
mod recorder;
mod snapshot;

pub use incidents::{Change, ChangeKind};
pub use kinds::{BellState, ProblemKind, Role};
pub(crate) use readiness::Readiness;
pub use recorder::Monitor;
pub(crate) use recorder::UnderWay;
pub use snapshot::{Backlog, Bell, Delayed, InFlight, KafkaState, Problem, Rows, Snapshot, Stages};
