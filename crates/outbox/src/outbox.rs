//! The table that events are written to.

use std::borrow::Cow;

/// PostgreSQL cuts longer names.
const LONGEST_NAME: usize = 63;

/// An outbox: the table that events are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    pub(crate) table: Cow<'static, str>,
    pub(crate) payload: PayloadColumn,
}

/// The type of an outbox's column `payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadColumn {
    /// `text`, which `doorbell migrate` creates.
    #[default]
    Text,
    /// `json` or `jsonb`. PostgreSQL rewrites what is stored as `jsonb`.
    Json,
    /// `bytea`. Declared for a column of text, PostgreSQL would store the bytes as hexadecimal
    /// digits.
    Bytea,
}

/// A text that is no name of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a table's name: write table or schema.table, with \"quotes\" around a part that has other characters than letters, digits and _"
)]
pub struct InvalidTableName(String);

impl Outbox {
    /// The table `outbox`, where the session's `search_path` finds it.
    pub const DEFAULT: Self = Self {
        table: Cow::Borrowed("outbox"),
        payload: PayloadColumn::Text,
    };

    /// Names another table, as in SQL: `events`, `app.events`, `"My Schema"."Events"`.
    ///
    /// # Errors
    /// For a text that is no name of a table.
    pub fn table(name: &str) -> Result<Self, InvalidTableName> {
        match name_end(name) {
            Some("") => Ok(Self {
                table: Cow::Owned(name.to_owned()),
                payload: PayloadColumn::Text,
            }),
            _ => Err(InvalidTableName(name.to_owned())),
        }
    }

    /// Declares the type of the column `payload`.
    #[must_use]
    pub fn payload(self, column: PayloadColumn) -> Self {
        Self {
            payload: column,
            ..self
        }
    }
}

/// Returns what follows the name of a table, with its schema if one is given.
fn name_end(text: &str) -> Option<&str> {
    let rest = identifier_end(text)?;
    match rest.strip_prefix('.') {
        Some(rest) => identifier_end(rest),
        None => Some(rest),
    }
}

/// Returns what follows the identifier that a text begins with.
fn identifier_end(text: &str) -> Option<&str> {
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    let end = match text.strip_prefix('"') {
        None => text.find(|c| !plain(c)).unwrap_or(text.len()),
        // Two quotes are one that belongs to the name.
        Some(quoted) => quoted.replace("\"\"", "__").find('"')? + 2,
    };
    let (name, rest) = text.split_at(end);
    let quoted = name.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let stored = quoted.map_or(name.len(), |it| it.len() - it.matches("\"\"").count());
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
        && (1..=LONGEST_NAME).contains(&stored)
        && !name.contains('\0');
    is_name.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_as_in_sql_and_nothing_else_is_a_name() {
        let longest = format!("\"{}\"", "x".repeat(63));
        for name in [
            longest.as_str(),
            "outbox",
            "app.events",
            "_a1",
            "\"My Schema\".\"Ev\"\"ents\"",
            "été",
        ] {
            assert_eq!(Outbox::table(name).expect(name).table, name);
        }
        let long = "x".repeat(64);
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "1a",
            "a b",
            "a; DROP TABLE b",
            "\"\"",
            "\"a",
            "\"a\"b",
            "\"a\"\".b",
            "a\0",
            "\"a\0\"",
            "a--",
            &long,
        ] {
            assert!(Outbox::table(name).is_err(), "{name:?}");
        }
    }
}
