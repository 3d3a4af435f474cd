//! The command `doorbell`: parse, log, call, exit code.
fn main() {}
