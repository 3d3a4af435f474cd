//! The rows of one fetch, in one buffer.

use sqlx::postgres::PgRow;

use super::fetch_statement::WITHHELD;
use crate::event::{Event, RowId, take_column};
use crate::postgres::columns::Size;
use crate::postgres::error::{Error, Result};
use crate::postgres::wire::{bytes, row_id};

/// A batch of rows in the order of their ids. Their bytes lie one after another in one buffer.
#[derive(Default)]
pub struct Batch {
    rows: Vec<BatchRow>,
    bytes: Vec<u8>,
    /// Whether it ends before the rows that were asked for, whatever it has.
    pub(crate) is_cut: bool,
}

struct BatchRow {
    row: RowId,
    size: usize,
    begin: usize,
    /// Length of each field in bytes. `None`: NULL.
    fields: [Option<u32>; FIELDS],
    unread: Option<Box<Unread>>,
}

/// Why a row comes without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It, or one of its documents, has this many bytes.
    TooLarge(u64),
    /// The server cannot send it, for this reason.
    Unreadable(String),
}

/// Columns of a fetch after `id` and `created_at`: type, payload, key, topic, headers.
const FIELDS: usize = 5;

/// No text in PostgreSQL has this byte.
const NOT_IN_TEXT: u8 = 0;

impl Batch {
    /// Adds a row. It is copied while it is still in the CPU's cache, and the library's row with
    /// its allocations is dropped at once: keeping thousands of them costs more than the copy.
    pub(crate) fn add(&mut self, row: &PgRow, sizes: &[Size; FIELDS]) -> Result<()> {
        if bytes(row, 0)?.is_none() {
            return self.end(row);
        }
        let begin = self.bytes.len();
        let mut fields = [None; FIELDS];
        let mut unread = None;
        for (index, (length, size)) in fields.iter_mut().zip(sizes).enumerate() {
            let Some(field) = bytes(row, 2 + index)? else {
                continue;
            };
            match (field, size) {
                ([WITHHELD, size @ ..], Size::Stored(_)) => {
                    unread = Some(Box::new(Unread::too_large(size)?));
                }
                _ => {
                    self.bytes.extend_from_slice(field);
                    // A value in PostgreSQL is smaller than 1 GiB.
                    *length = Some(field.len() as u32);
                }
            }
        }
        self.rows.push(BatchRow {
            row: row_id(row)?,
            size: self.bytes.len() - begin,
            begin,
            fields,
            unread,
        });
        Ok(())
    }

    /// Takes the row that shows a cut.
    fn end(&mut self, row: &PgRow) -> Result<()> {
        self.is_cut = true;
        if let (Some(size), Some(last)) = (bytes(row, 2)?, self.rows.last_mut()) {
            last.unread = Some(Box::new(Unread::too_large(size)?));
        }
        Ok(())
    }

    /// Notes that this row cannot be read. What is known of it may have been added.
    pub(crate) fn add_unreadable(&mut self, row: RowId, reason: String) {
        if self.rows.is_empty() {
            let (begin, fields) = (self.bytes.len(), [None; FIELDS]);
            self.rows.push(BatchRow {
                row,
                size: 0,
                begin,
                fields,
                unread: None,
            });
        }
        if let Some(last) = self.rows.last_mut() {
            last.unread = Some(Box::new(Unread::Unreadable(reason)));
        }
    }

    /// Why the row at this place has no contents.
    pub(crate) fn unread(&self, place: usize) -> Option<&Unread> {
        self.rows.get(place)?.unread.as_deref()
    }

    /// Sorts the rows. They arrive in order, but SQL guarantees that only with ORDER BY, which
    /// would cost a copy of each payload. Returns whether they were sorted.
    pub(crate) fn sort(&mut self) -> bool {
        self.sort_by(|id| id)
    }

    /// Sorts the rows by what follows from their ids. Returns whether they were sorted.
    pub(crate) fn sort_by<K: Ord>(&mut self, key: impl Fn(i64) -> K) -> bool {
        let was_sorted = self.rows.is_sorted_by_key(|it| key(it.row.id));
        if !was_sorted {
            self.rows.sort_by_key(|it| key(it.row.id));
        }
        was_sorted
    }

    /// Returns the number of bytes that it holds.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes of its rows, also of those that were too large to be read.
    pub(crate) fn total(&self) -> usize {
        let unread = self.rows.iter().map(|it| match it.unread.as_deref() {
            Some(Unread::TooLarge(size)) => *size as usize,
            Some(Unread::Unreadable(_)) | None => 0,
        });
        self.bytes.len() + unread.sum::<usize>()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the identity of each row.
    pub fn rows(&self) -> impl Iterator<Item = RowId> {
        self.rows.iter().map(|it| it.row)
    }

    /// Returns the size of each row: the bytes of all its columns.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|it| it.size)
    }

    /// Returns the rows as events.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.rows.iter().map(|row| self.event(row))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&RowId) -> bool) {
        self.rows.retain(|it| keep(&it.row));
    }

    fn event(&self, it: &BatchRow) -> Event<'_> {
        let mut rest = &self.bytes[it.begin..];
        let [event_type, payload, key, topic, headers] = it.fields.map(|length| {
            let (field, after) = rest.split_at(length? as usize);
            rest = after;
            Some(field)
        });
        let (headers, more) = match headers {
            Some([NOT_IN_TEXT, ..]) => apart(headers.unwrap_or_default()),
            headers => (headers, &[][..]),
        };
        Event {
            id: it.row.id,
            created_at: it.row.created_at,
            event_type: event_type.unwrap_or_default(),
            payload,
            key,
            topic,
            headers,
            more,
        }
    }
}

/// Takes the headers off a record that has them first, and further columns behind them. A text
/// never begins like the number of columns, with which a record does.
fn apart(record: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut rest = record.get(4..).unwrap_or_default();
    let headers = take_column(&mut rest).flatten();
    (headers, rest)
}

impl Unread {
    fn too_large(size: &[u8]) -> Result<Self> {
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|it| it.parse().ok());
        let words = || Error::Lost("the server sent a size that is no number".into());
        size.map(Self::TooLarge).ok_or_else(words)
    }
}
