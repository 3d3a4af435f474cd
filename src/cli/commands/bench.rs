//! `doorbell bench`: hands over to `doorbell-bench`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::exit::Outcome;

const PROGRAM: &str = "doorbell-bench";

/// Becomes `doorbell-bench`: the one beside this program, else that of PATH. Returns only where
/// there is none.
pub(crate) fn bench() -> Outcome {
    let beside = std::env::current_exe().ok();
    let beside = beside.map(|path| path.with_file_name(PROGRAM));
    let program = beside.filter(|path| path.is_file());
    let error = Command::new(program.unwrap_or_else(|| PROGRAM.into()))
        .args(arguments(std::env::args_os().skip(1).collect()))
        .exec();
    Err(anyhow::anyhow!(
        "{PROGRAM} cannot be started ({error}); build it with `cargo build --release --package {PROGRAM}` \
         and put it beside doorbell or in PATH"
    )
    .into())
}

/// All arguments but the command's own name. What precedes it are flags of every command with their
/// values.
fn arguments(mut all: Vec<OsString>) -> Vec<OsString> {
    let is_value = |index: usize| {
        index > 0
            && all[index - 1]
                .to_str()
                .is_some_and(|before| before.starts_with("--") && !before.contains('='))
    };
    let name = (0..all.len()).find(|index| all[*index] == "bench" && !is_value(*index));
    if let Some(name) = name {
        all.remove(name);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_handed_over_but_the_commands_name() {
        for (given, expected) in [
            ("bench --quick", "--quick"),
            ("--config bench bench idle", "--config bench idle"),
            ("--config=bench bench --json", "--config=bench --json"),
        ] {
            let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(arguments(words(given)), words(expected));
        }
    }
}
