//! The page `/relays`: leader and standbys of each outbox, as the database knows them.

pub(crate) mod handler;
mod view;
