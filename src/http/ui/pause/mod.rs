//! The page `/pause`: pauses outboxes and ends their pauses.

pub(crate) mod handler;
