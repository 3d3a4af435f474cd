//! How a command fails: what it says, and its exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::terminal::{BAD, styled};

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
                say(&one_line(error));
                ExitCode::FAILURE
            }
            Self::Usage(text) => {
                for line in text.lines() {
                    say(line);
                }
                ExitCode::from(2)
            }
        }
    }
}

fn say(line: &str) {
    anstream::eprintln!("{} {line}", styled(BAD, "doorbell:"));
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
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref().map(std::io::Error::kind);
        // The writer of JSON has an error of its own.
        io.or_else(|| {
            cause
                .downcast_ref()
                .and_then(serde_json::Error::io_error_kind)
        })
    };
    error
        .chain()
        .any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let json = serde_json::to_writer(Deaf, &1).expect_err("nobody reads");
        let errors = [
            anyhow::Error::from(broken()),
            anyhow::Error::from(broken()).context("writing"),
            json.into(),
        ];
        for error in errors {
            assert!(is_broken_pipe(&error), "{error:#}");
        }
        let other = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(!is_broken_pipe(&other.into()));
    }

    struct Deaf;

    impl std::io::Write for Deaf {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn causes_stand_on_one_line_and_are_said_once() {
        let error = anyhow::anyhow!("the cause\nhas two lines")
            .context("doing it: the cause\nhas two lines")
            .context("top");
        assert_eq!(one_line(&error), "top: doing it: the cause has two lines");
    }
}
