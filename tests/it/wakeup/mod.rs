//! What wakes a relay that sleeps, and what that costs the database.

mod backlog;
mod bell;
mod locks;
mod prepared;
mod statements;
mod wakes;
