//! First stage: reads rows from the table into the window of rows in flight.
//!
//! `fetcher` does what `sleep` decides. `scan` fetches rows above the cursor and in the gaps,
//! `sweep` those that the cursor has passed, `due_rows` those that were not to be sent before a
//! time, `held_key_retry` those of keys that became free.
//! Without clock and socket: `sleep`, `polling`, `gaps`, `rate_limit`.

mod cursor;
mod due_rows;
mod fetcher;
mod gaps;
mod held_key_retry;
mod polling;
mod rate_limit;
mod scan;
mod schedule;
mod sleep;
mod sweep;

pub(crate) use cursor::Cursor;
pub(crate) use fetcher::Fetcher;
pub(crate) use polling::Polling;
pub(crate) use rate_limit::RateLimit;
pub(crate) use scan::{Fetched, Scan};
pub(crate) use schedule::Schedule;
