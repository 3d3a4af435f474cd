//! What is wrong with the configuration, where it is written, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Where a value is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A line of the configuration file, counted from 1.
    File {
        /// The file, as the user named it.
        path: PathBuf,
        /// The line.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// One error, on one line: where it is, what is wrong, and the remedy. It never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where the wrong value is given; `None` if none is given.
    pub origin: Option<Origin>,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// All errors of a configuration, one line each: what is missing, then flags, environment, and the
/// file from top to bottom.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.list))]
pub struct ConfigErrors {
    list: Vec<ConfigError>,
}

fn lines(list: &[ConfigError]) -> String {
    let lines: Vec<String> = list.iter().map(ConfigError::to_string).collect();
    lines.join("\n")
}

impl ConfigErrors {
    /// The errors, in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.list.iter()
    }

    pub(super) fn push(&mut self, origin: Option<Origin>, text: impl Into<String>) {
        let error = ConfigError {
            origin,
            text: text.into(),
        };
        self.list.push(error);
    }

    /// The errors in values that are given, without those about missing values.
    pub(super) fn given_only(mut self) -> Self {
        self.list.retain(|error| error.origin.is_some());
        self
    }

    /// `value`, unless there are errors.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        self.list.sort();
        // a flag that is given twice can be wrong twice for one reason
        self.list.dedup();
        match self.list.is_empty() {
            true => Ok(value),
            false => Err(self),
        }
    }
}

/// The end of a message about an unknown word: the known word that was probably meant, or all known
/// words.
pub(crate) fn meant(word: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::osa_distance(word, known), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= known.len().div_ceil(4) => {
            format!("did you mean `{known}`?")
        }
        _ => format!("known are {}", known.join(", ")),
    }
}

/// The value of the known word that `text` is. The error names the known words.
pub(super) fn one_of<T, const N: usize>(text: &str, known: [(&str, T); N]) -> Result<T, String> {
    let words = known.each_ref().map(|(word, _)| *word);
    let mut known = known.into_iter();
    match known.find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(value),
        None => Err(format!("is unknown; {}", meant(text, &words))),
    }
}
