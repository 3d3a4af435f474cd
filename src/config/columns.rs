//! Which column of the outbox table plays which part.

use super::table_name::check_name;

/// A column that a table may do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Optional {
    /// Nobody mapped it: the default name, and the table may lack it.
    Default(String),
    /// The user mapped it: the table must have it.
    Named(String),
}

impl Optional {
    /// The column's name, whoever chose it.
    pub fn name(&self) -> &str {
        match self {
            Self::Default(name) | Self::Named(name) => name,
        }
    }
}

/// The columns of an outbox table. Names are taken as they are, without SQL's folding to lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The row's number, rising.
    pub id: String,
    /// What kind of event it is.
    pub event_type: String,
    /// The record's value.
    pub payload: String,
    /// The record's timestamp.
    pub created_at: String,
    /// The record's key.
    pub key: Optional,
    /// The record's topic, where it is not the route's.
    pub topic: Optional,
    /// More headers for the record.
    pub headers: Optional,
}

impl Default for Columns {
    /// The columns that the migration makes.
    fn default() -> Self {
        Self {
            id: "id".into(),
            event_type: "type".into(),
            payload: "payload".into(),
            created_at: "created_at".into(),
            key: Optional::Default("key".into()),
            topic: Optional::Default("topic".into()),
            headers: Optional::Default("headers".into()),
        }
    }
}

/// The keys of `[outbox.columns]` and of `--column`.
pub(super) const KEYS: &[&str] = &[
    "id",
    "type",
    "payload",
    "created_at",
    "key",
    "topic",
    "headers",
];

impl Columns {
    /// The column that `key`, one of [`KEYS`], stands for.
    pub(super) fn name(&self, key: &str) -> Option<&str> {
        Some(match key {
            "id" => &self.id,
            "type" => &self.event_type,
            "payload" => &self.payload,
            "created_at" => &self.created_at,
            "key" => self.key.name(),
            "topic" => self.topic.name(),
            "headers" => self.headers.name(),
            _ => return None,
        })
    }

    /// Maps the column that `key`, one of [`KEYS`], stands for. Another key changes nothing.
    pub(super) fn map(&mut self, key: &str, column: String) -> Result<(), String> {
        check_name(&column)?;
        match key {
            "id" => self.id = column,
            "type" => self.event_type = column,
            "payload" => self.payload = column,
            "created_at" => self.created_at = column,
            "key" => self.key = Optional::Named(column),
            "topic" => self.topic = Optional::Named(column),
            "headers" => self.headers = Optional::Named(column),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_maps_its_own_column() {
        let mut columns = Columns::default();
        for key in KEYS {
            columns.map(key, format!("My {key}")).expect(key);
        }
        let named = |name: &str| Optional::Named(name.into());
        let expected = Columns {
            id: "My id".into(),
            event_type: "My type".into(),
            payload: "My payload".into(),
            created_at: "My created_at".into(),
            key: named("My key"),
            topic: named("My topic"),
            headers: named("My headers"),
        };
        assert_eq!(columns, expected);
        assert_eq!(columns.key.name(), "My key");
    }

    #[test]
    fn a_default_name_becomes_required_once_it_is_written() {
        let mut columns = Columns::default();
        assert_eq!(columns.key, Optional::Default("key".into()));
        columns.map("key", "key".into()).expect("a legal name");
        assert_eq!(columns.key, Optional::Named("key".into()));
    }

    #[test]
    fn names_that_no_column_can_have() {
        for name in ["", "a\0", &"a".repeat(64)] {
            assert!(
                Columns::default().map("id", name.to_owned()).is_err(),
                "{name:?}"
            );
        }
    }
}
