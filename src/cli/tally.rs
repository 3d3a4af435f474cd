//! What `verify` and `compare` count, and the first of it.

use std::fmt;
use std::io::Write;

use serde::Serialize;

/// Items of each kind that are named; the others are only counted.
pub(crate) const NAMED: usize = 10;

/// A count, and the first items of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Tally<T> {
    pub(crate) count: u64,
    pub(crate) first: Vec<T>,
}

impl<T> Tally<T> {
    pub(crate) fn add(&mut self, found: impl FnOnce() -> T) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(found());
        }
    }

    /// Writes how many items are not among the first.
    pub(crate) fn write_rest(&self, out: &mut impl Write, what: &str) -> std::io::Result<()> {
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            others => writeln!(out, "{what}: {others} more"),
        }
    }
}

/// Where a record is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RecordPlace {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl RecordPlace {
    pub(crate) fn new(topic: &str, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            offset,
        }
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// Writes one line of a report.
pub(crate) fn row(out: &mut impl Write, name: &str, text: &str) -> std::io::Result<()> {
    writeln!(out, "  {name:<13} {text}")
}
