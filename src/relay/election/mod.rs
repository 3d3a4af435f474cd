//! Which process leads an outbox.

mod balance;
mod heartbeat;
mod standby;

pub(crate) use balance::{Awaited, Balance, LeadershipSlot};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use standby::stand_by;
