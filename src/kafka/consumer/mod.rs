//! Consumers: `topic_reader` for `verify` and `replay`, `follower` for `tail`, and what every
//! consumer starts from.

pub(crate) mod client;
pub(crate) mod follower;
pub(crate) mod topic_reader;
