//! The name of an outbox table, written as in SQL.

use std::fmt;

use super::reserved;

/// PostgreSQL cuts longer names off (NAMEDATALEN - 1 bytes), so a longer one would mean another table.
pub(super) const LONGEST: usize = 63;

/// A table's name, with its schema if one was given; without, the session's `search_path` decides.
///
/// Displayed as SQL can read it, quoted where that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, as PostgreSQL stores its name.
    pub schema: Option<String>,
    /// The table, as PostgreSQL stores its name.
    pub name: String,
}

impl Default for TableName {
    /// `outbox`, wherever the `search_path` finds it.
    fn default() -> Self {
        Self {
            schema: None,
            name: "outbox".into(),
        }
    }
}

impl TableName {
    /// Reads `outbox`, `app.outbox` or `"My Schema"."Out""box"`: what is not quoted becomes lower case, as in SQL.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, rest) = identifier(text.trim())?;
        let (schema, name, rest) = match rest.strip_prefix('.') {
            None => (None, first, rest),
            Some(rest) => {
                let (second, rest) = identifier(rest)?;
                (Some(first), second, rest)
            }
        };
        match rest.chars().next() {
            None => Ok(Self { schema, name }),
            Some('.') if schema.is_some() => {
                Err("has too many parts: write table or schema.table, and the database in its URL".into())
            }
            Some(_) => Err(r#"is not a table's name: write table or schema.table, with "quotes" around a part that has other characters than letters, digits and _"#.into()),
        }
    }
}

/// The identifier that `text` begins with, as PostgreSQL stores it, and what follows.
fn identifier(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => unquote(quoted).ok_or("has a quote that is not closed")?,
        None => {
            let end = text.find(|c| !plain(c)).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                return Err(
                    "has a part that begins with a digit or $: put \"quotes\" around that part"
                        .into(),
                );
            }
            // PostgreSQL folds ASCII alone in an UTF-8 database
            (name.to_ascii_lowercase(), rest)
        }
    };
    check_name(&name)?;
    Ok((name, rest))
}

/// The text up to the closing quote, where two quotes mean one, and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            None => return Some((name, after)),
            Some(after) => {
                name.push('"');
                rest = after;
            }
        }
    }
}

/// PostgreSQL's rule for any name, of a table as of a column.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("has an empty name".into()),
        name if name.contains('\0') => Err("has a name with a NUL character".into()),
        name if name.len() > LONGEST => Err(format!(
            "has a name of more than {LONGEST} bytes, PostgreSQL's limit"
        )),
        _ => Ok(()),
    }
}

/// What may stand in a name without quotes.
fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", Quoted(schema))?;
        }
        write!(f, "{}", Quoted(&self.name))
    }
}

/// An identifier, quoted where SQL needs it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match name.chars().all(safe)
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !reserved::contains(name)
        {
            true => f.write_str(name),
            false => write!(f, "\"{}\"", name.replace('"', "\"\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        for (text, schema, name, shown) in [
            ("outbox", None, "outbox", "outbox"),
            ("OutBox", None, "outbox", "outbox"),
            (" outbox ", None, "outbox", "outbox"),
            ("app.outbox", Some("app"), "outbox", "app.outbox"),
            ("App.\"Outbox\"", Some("app"), "Outbox", "app.\"Outbox\""),
            (
                "\"My Schema\".\"Out\"\"box\"",
                Some("My Schema"),
                "Out\"box",
                "\"My Schema\".\"Out\"\"box\"",
            ),
            ("\"a.b\"", None, "a.b", "\"a.b\""),
            ("_out$box1", None, "_out$box1", "\"_out$box1\""),
            (
                "tägliche_ÄNDERUNG",
                None,
                "tägliche_Änderung",
                "\"tägliche_Änderung\"",
            ),
            ("\"order\"", None, "order", "\"order\""),
            ("\"1\"", None, "1", "\"1\""),
        ] {
            let table = TableName::parse(text).expect(text);
            assert_eq!(
                (table.schema.as_deref(), table.name.as_str()),
                (schema, name),
                "{text}"
            );
            assert_eq!(table.to_string(), shown, "{text}");
        }
        assert_eq!(TableName::parse("outbox"), Ok(TableName::default()));
    }

    #[test]
    fn faulty_names_say_what_is_wrong() {
        let long = "a".repeat(64);
        for (text, part) in [
            ("", "empty name"),
            ("\"\"", "empty name"),
            ("app.", "empty name"),
            (".outbox", "empty name"),
            ("\"outbox", "not closed"),
            ("\"out\"\"", "not closed"),
            ("db.app.outbox", "too many parts"),
            ("my outbox", "not a table's name"),
            ("out-box", "not a table's name"),
            ("outbox;", "not a table's name"),
            ("app .outbox", "not a table's name"),
            ("\"a\"b", "not a table's name"),
            ("1outbox", "begins with a digit"),
            ("\"a\0b\"", "NUL"),
            (&long, "63 bytes"),
        ] {
            let fault = TableName::parse(text).expect_err(text);
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    fn stored() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z_$0-9]{1,8}",
            "[ -~]{1,8}",
            "[^\0]{1,15}",
            Just("select".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn a_name_survives_being_shown(schema in prop::option::of(stored()), name in stored()) {
            let table = TableName { schema, name };
            prop_assert_eq!(TableName::parse(&table.to_string()), Ok(table));
        }

        #[test]
        fn any_text_is_a_name_or_a_fault(text in "[a\"\\. $1]{0,8}|.*") {
            if let Ok(table) = TableName::parse(&text) {
                prop_assert_eq!(TableName::parse(&table.to_string()), Ok(table));
            }
        }
    }
}
