//! The relay: rows of an outbox become records, and are deleted when Kafka has them.
//!
//! `outboxes` starts the relay of each `outbox`. When `election` made it the leader, its terms run
//! in three stages: `fetch` reads rows into the window, `publish` sends them in order, and `settle`
//! deletes them by the delivery reports. They share `term_state` and, for the rows, `in_flight` and
//! `undeleted`. `poison` keeps the rows that Kafka can never take, `exactly_once` delivers each
//! event once, and `monitor` holds what metrics, health and page read.

mod backoff;
mod clock;
mod election;
mod error;
mod exactly_once;
mod fetch;
mod histogram;
mod in_flight;
mod monitor;
mod observer;
mod outbox;
mod outboxes;
mod poison;
mod publish;
mod sessions;
mod settle;
mod term_state;
mod undeleted;

pub use error::RelayError;
pub use histogram::Timing;
pub(crate) use monitor::Readiness;
pub use monitor::{
    Backlog, Bell, BellState, Change, ChangeKind, Delayed, InFlight, KafkaState, Monitor, Problem,
    ProblemKind, Role, Rows, Snapshot, Stages,
};
pub use observer::{Observer, Step};
pub use outboxes::Relay;
pub(crate) use publish::{Destination, Preview, Previewed, PreviewedRecord, PreviewedRow, Routes};
