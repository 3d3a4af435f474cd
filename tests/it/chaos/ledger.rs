//! The fate of each row: recorded by the writers, and marked by the consumer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The keys of one writer. One session at a time writes each key, and always to the same outbox,
/// so that its order is known.
pub(crate) const KEYS: usize = 5;
/// The outbox of each key. `database` says what is odd about some.
const OUTBOX_OF_KEY: [usize; KEYS] = [0, 1, 2, 3, 0];

/// A row, as its payload names it: `writer key number`. The numbers of a writer ascend, and so do
/// those of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) writer: usize,
    pub(crate) number: usize,
}

impl Name {
    pub(crate) fn key(self) -> String {
        format!("{}.{}", self.writer, self.number % KEYS)
    }

    /// Returns the place of its table among all outboxes.
    pub(crate) fn outbox(self) -> usize {
        OUTBOX_OF_KEY[self.number % KEYS]
    }

    pub(crate) fn text(self) -> String {
        format!("{} {}", self.writer, self.number)
    }

    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let (writer, number) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Some(Self {
            writer: writer.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The transaction is open, or the insert has not been answered.
    Open,
    /// The server confirmed the commit.
    Committed(Instant),
    RolledBack,
    /// The connection broke between COMMIT and its answer.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// 0 until the server confirms it.
    pub(crate) id: i64,
    pub(crate) fate: Fate,
    /// The first arrival at the consumer.
    pub(crate) arrived: Option<Instant>,
}

/// All rows of all writers, by number.
pub(crate) struct Ledger {
    writers: Vec<Mutex<Vec<Row>>>,
}

impl Ledger {
    pub(crate) fn new(writers: u8) -> Self {
        Self {
            writers: (0..writers).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn rows(&self, writer: usize) -> MutexGuard<'_, Vec<Row>> {
        self.writers[writer]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writers(&self) -> usize {
        self.writers.len()
    }

    /// Registers a row that is about to be inserted.
    pub(crate) fn open(&self, writer: usize) -> Name {
        let mut rows = self.rows(writer);
        rows.push(Row {
            id: 0,
            fate: Fate::Open,
            arrived: None,
        });
        Name {
            writer,
            number: rows.len() - 1,
        }
    }

    pub(crate) fn number(&self, names: &[Name], ids: &[i64]) {
        for (name, id) in names.iter().zip(ids) {
            self.rows(name.writer)[name.number].id = *id;
        }
    }

    pub(crate) fn settle(&self, names: &[Name], fate: Fate) {
        for name in names {
            self.rows(name.writer)[name.number].fate = fate;
        }
    }

    /// Marks a row as arrived. Returns the time of its first arrival if this one is a duplicate,
    /// and `Err` if no writer wrote it.
    pub(crate) fn arrive(&self, name: Name, at: Instant) -> Result<Option<Instant>, Name> {
        if name.writer >= self.writers() {
            return Err(name);
        }
        let mut rows = self.rows(name.writer);
        let row = rows.get_mut(name.number).ok_or(name)?;
        match row.arrived {
            None => {
                row.arrived = Some(at);
                Ok(None)
            }
            first => Ok(first),
        }
    }

    /// Returns how many rows each writer has begun, as a mark in time.
    pub(crate) fn mark(&self) -> Vec<usize> {
        (0..self.writers())
            .map(|writer| self.rows(writer).len())
            .collect()
    }

    /// Counts the committed rows before the mark that have not arrived. All rows before `from` have
    /// arrived; it is advanced.
    pub(crate) fn missing(&self, from: &mut [usize], mark: &[usize]) -> usize {
        let mut missing = 0;
        for (writer, (from, until)) in from.iter_mut().zip(mark).enumerate() {
            let rows = self.rows(writer);
            let is_here = |row: &Row| match row.fate {
                Fate::Committed(_) => row.arrived.is_some(),
                Fate::RolledBack | Fate::Unknown => true,
                Fate::Open => false,
            };
            while *from < *until && is_here(&rows[*from]) {
                *from += 1;
            }
            let begun = |row: &&Row| row.fate != Fate::Open && !is_here(row);
            let late = rows.get(*from..*until).unwrap_or_default();
            missing += late.iter().filter(begun).count();
        }
        missing
    }

    /// Counts the arrived rows that were begun after the mark.
    pub(crate) fn arrived_since(&self, mark: &[usize]) -> usize {
        let here = |(writer, from): (usize, &usize)| {
            let rows = self.rows(writer);
            rows[*from..]
                .iter()
                .filter(|row| row.arrived.is_some())
                .count()
        };
        mark.iter().enumerate().map(here).sum()
    }
}
