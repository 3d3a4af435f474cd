//! Coming from another relay: what rows would become.

mod preview;
