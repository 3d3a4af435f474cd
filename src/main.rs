//! The command `doorbell`.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorbell::app::main()
}
