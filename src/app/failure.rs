//! How a command fails: what it says, and its exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

/// A failure and what the program says with its exit code.
pub(super) enum Failure {
    /// The command failed: exit code 1.
    Failed(anyhow::Error),
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) type Outcome = Result<(), Failure>;

impl Failure {
    /// Says it on standard error.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            // Whoever reads our output has enough: `doorbell status | head -1`.
            Self::Failed(error) if is_broken_pipe(error) => ExitCode::SUCCESS,
            Self::Failed(error) => {
                eprintln!("doorbell: {}", one_line(error));
                ExitCode::FAILURE
            }
            Self::Usage(text) => {
                for line in text.lines() {
                    eprintln!("doorbell: {line}");
                }
                ExitCode::from(2)
            }
        }
    }
}

/// The error and its causes on one line; a text that repeats the one before is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if last.contains(&text) {
            continue;
        }
        let separator = if line.is_empty() { "" } else { ": " };
        write!(line, "{separator}{text}").expect("writing into a String cannot fail");
        last = text;
    }
    line.replace('\n', " ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_on_one_line_and_are_said_once() {
        let error = anyhow::anyhow!("the cause\nhas two lines")
            .context("doing it: the cause\nhas two lines")
            .context("top");
        assert_eq!(one_line(&error), "top: doing it: the cause has two lines");
    }
}
