//! What was wrong with the configuration, where it was written, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag of the command line, by its name.
    Flag(&'static str),
    /// An environment variable, by its name.
    Environment(&'static str),
    /// A line of the configuration file, counted from 1.
    File {
        /// The file as it was named by the user.
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

/// One fault, on one line: where, what, and the remedy. It never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where the faulty value was given; `None` when it was given nowhere.
    pub origin: Option<Origin>,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// All faults of a configuration, one line each: what is missing, then flags, environment, and the file from top to
/// bottom.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.list))]
pub struct Faults {
    list: Vec<Fault>,
}

fn lines(list: &[Fault]) -> String {
    let lines: Vec<String> = list.iter().map(Fault::to_string).collect();
    lines.join("\n")
}

impl Faults {
    /// The faults in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }

    pub(super) fn push(&mut self, origin: Option<Origin>, text: impl Into<String>) {
        let fault = Fault {
            origin,
            text: text.into(),
        };
        self.list.push(fault);
    }

    /// Only those of values that were given somewhere: what is missing is none of them.
    pub(super) fn given_only(mut self) -> Self {
        self.list.retain(|fault| fault.origin.is_some());
        self
    }

    /// `value`, unless something was wrong.
    pub(super) fn or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        self.list.sort();
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

/// The end of a text about an unknown word: the known word that was probably meant, or all of them.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (distance(word, known), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 1 + known.len() / 4 => {
            format!("did you mean `{known}`?")
        }
        _ => format!("known are {}", known.join(", ")),
    }
}

/// How many letters must be added, left out or changed to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("topik", "topic", 1),
            ("tpic", "topic", 1),
            ("", "url", 3),
            ("sweeep", "sweep", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_near_word_is_offered_and_for_a_far_one_all_are_listed() {
        assert_eq!(meant("topik", &["table", "topic"]), "did you mean `topic`?");
        assert_eq!(
            meant("listen", &["table", "topic"]),
            "known are table, topic"
        );
    }

    #[test]
    fn faults_are_shown_one_a_line_from_flag_to_file() {
        let file = |line| Origin::File {
            path: "doorbell.toml".into(),
            line,
        };
        let mut faults = Faults::default();
        faults.push(Some(file(10)), "b");
        faults.push(Some(file(9)), "a");
        faults.push(Some(Origin::Environment("DATABASE_URL")), "c");
        faults.push(Some(Origin::Flag("--sweep")), "d");
        let faults = faults.or(Some(())).expect_err("there are faults");
        assert_eq!(
            faults.to_string(),
            "--sweep: d\nenvironment DATABASE_URL: c\ndoorbell.toml:9: a\ndoorbell.toml:10: b"
        );
        assert_eq!(faults.iter().count(), 4);
    }
}
