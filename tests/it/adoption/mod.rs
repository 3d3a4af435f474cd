//! Coming from another relay: what rows would become, and whether two relays send the same.

mod compare;
mod preview;
