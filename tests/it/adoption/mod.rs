//! Coming from another relay: what rows would become, whether two relays send the same, and how its
//! table is adopted.

mod adopt;
mod compare;
mod connector;
mod mirrors;
mod preview;
