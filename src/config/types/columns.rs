//! The columns of an outbox table, by their roles.

use super::table_name::check_name;

/// Stands, in place of a header's name, for all those that its column names: text in the form of
/// Java's properties.
pub(crate) const PROPERTIES: &str = "*";

/// A column that a table may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Optional {
    /// The default name, and the table may lack it.
    Default(String),
    /// The user configured it, so the table must have it.
    Named(String),
}

impl Optional {
    /// The column's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Default(name) | Self::Named(name) => name,
        }
    }
}

/// The columns of an outbox table. Names are taken as they are, without SQL's folding to lower
/// case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The row's number, ascending.
    pub id: String,
    /// The event's type; `None`: the table has no such column.
    pub event_type: Option<String>,
    /// The record's value.
    pub payload: String,
    /// The record's timestamp; `None`: the table has no such column.
    pub created_at: Option<String>,
    /// The record's key.
    pub key: Optional,
    /// The record's topic, if it is not the one configured for the outbox.
    pub topic: Optional,
    /// Additional headers for the record.
    pub headers: Optional,
    /// The event's own id, which becomes the header `id`; `None`: the relay derives one.
    pub event_id: Option<String>,
    /// The record's partition; `None`, and NULL: by the key.
    pub partition: Option<String>,
    /// The time before which the row is not sent; `None`, and NULL: at once.
    pub not_before: Option<String>,
    /// Headers that have columns of their own: name and column, in the order of the file.
    pub headers_from: Vec<(String, String)>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            event_type: Some("type".into()),
            payload: "payload".into(),
            created_at: Some("created_at".into()),
            key: Optional::Default("key".into()),
            topic: Optional::Default("topic".into()),
            headers: Optional::Default("headers".into()),
            event_id: None,
            partition: None,
            not_before: None,
            headers_from: Vec::new(),
        }
    }
}

/// The keys of `[outbox.columns]` and of `--column`.
pub(crate) const KEYS: &[&str] = &[
    "id",
    "type",
    "payload",
    "created_at",
    "key",
    "topic",
    "headers",
    "event_id",
    "partition",
    "not_before",
];

/// Stands for no column, where the table may lack the usual one.
const NONE: &str = "none";

impl Columns {
    /// The name of the column that `key`, one of [`KEYS`], stands for.
    pub(crate) fn name(&self, key: &str) -> Option<&str> {
        Some(match key {
            "id" => &self.id,
            "type" => self.event_type.as_deref()?,
            "payload" => &self.payload,
            "created_at" => self.created_at.as_deref()?,
            "key" => self.key.name(),
            "topic" => self.topic.name(),
            "headers" => self.headers.name(),
            "event_id" => self.event_id.as_deref()?,
            "partition" => self.partition.as_deref()?,
            "not_before" => self.not_before.as_deref()?,
            _ => return None,
        })
    }

    /// Names the column that `key`, one of [`KEYS`], stands for. Other keys change nothing.
    pub(crate) fn map(&mut self, key: &str, column: String) -> Result<(), String> {
        check_name(&column)?;
        let unless_none = |column: String| (column != NONE).then_some(column);
        match key {
            "id" => self.id = column,
            "type" => self.event_type = unless_none(column),
            "payload" => self.payload = column,
            "created_at" => self.created_at = unless_none(column),
            "key" => self.key = Optional::Named(column),
            "topic" => self.topic = Optional::Named(column),
            "headers" => self.headers = Optional::Named(column),
            "event_id" => self.event_id = Some(column),
            "partition" => self.partition = Some(column),
            "not_before" => self.not_before = Some(column),
            _ => {}
        }
        Ok(())
    }

    /// Names the column of a header, or of several.
    pub(crate) fn add_header(&mut self, header: &str, column: &str) -> Result<(), String> {
        check_name(column)?;
        self.headers_from
            .push((header.to_owned(), column.to_owned()));
        Ok(())
    }

    /// The columns that are sent besides those of an event, in the order of the fetch. One may be
    /// here twice, or be one of those.
    pub(crate) fn more(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers_from.iter().map(|(_, column)| column);
        let own = self.event_id.iter().chain(&self.partition);
        own.chain(headers).map(String::as_str)
    }

    /// Whether a header has a column of its own.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers_from.iter().any(|(header, _)| header == name)
    }
}
