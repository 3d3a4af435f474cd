//! Failures of commands: message and exit code.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::io::Write as _;

use super::terminal::{BAD, harmless, styled};

/// A failure with its exit code.
pub enum Failure {
    /// The command failed: exit code 1.
    Failed(anyhow::Error),
    /// A command that looks for something could not look: exit code 2.
    Unable(anyhow::Error),
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(crate) type Outcome = Result<(), Failure>;

/// Exit code of a command that did its work.
pub(crate) const SUCCESS: u8 = 0;
/// Exit code after a second signal, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

/// Ends the process with the exit code of what was done.
pub fn end(done: Outcome) -> ! {
    leave(match done {
        Ok(()) => SUCCESS,
        Err(failure) => failure.report(),
    })
}

/// Ends the process without the exit handlers of the C library: that of OpenSSL frees what the
/// threads of librdkafka, which nothing waits for, may still use.
pub fn leave(code: u8) -> ! {
    #[expect(
        unsafe_code,
        reason = "the standard library has no exit that skips the handlers"
    )]
    unsafe extern "C" {
        safe fn _exit(code: c_int) -> !;
    }
    std::io::stdout().flush().ok();
    _exit(code.into())
}

impl Failure {
    /// The failure of a command that looks for something, before it has found anything.
    pub(crate) fn unable(self) -> Self {
        match self {
            Self::Failed(error) => Self::Unable(error),
            other => other,
        }
    }

    /// Prints the message to standard error, and returns the exit code.
    pub fn report(&self) -> u8 {
        match self {
            // The reader closed the pipe: `doorbell status | head -1`.
            Self::Failed(error) | Self::Unable(error) if is_broken_pipe(error) => SUCCESS,
            Self::Failed(error) => {
                say(&one_line(error));
                1
            }
            Self::Unable(error) => {
                say(&one_line(error));
                2
            }
            Self::Usage(text) => {
                for line in text.lines() {
                    say(line);
                }
                2
            }
        }
    }
}

fn say(line: &str) {
    let line = harmless(&std::io::stderr(), line);
    anstream::eprintln!("{} {line}", styled(BAD, "doorbell:"));
}

/// Joins the error and its causes on one line; a text that repeats the one before is omitted.
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
        // serde_json wraps the I/O error.
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
        let (_, deaf) = std::io::pipe().expect("a pipe");
        let json = serde_json::to_writer(deaf, &1).expect_err("the reader is gone");
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

    #[test]
    fn causes_stand_on_one_line_and_are_said_once() {
        let error = anyhow::anyhow!("the cause\nhas two lines")
            .context("doing it: the cause\nhas two lines")
            .context("top");
        assert_eq!(one_line(&error), "top: doing it: the cause has two lines");
    }
}
