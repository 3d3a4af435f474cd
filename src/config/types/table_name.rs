//! The name of an outbox table, written as in SQL.

use std::fmt;

/// PostgreSQL truncates longer names (NAMEDATALEN - 1 bytes), so a longer one would mean another
/// table.
pub(crate) const LONGEST: usize = 63;

/// A table's name, with its schema if one is given; without one, the session's `search_path`
/// decides.
///
/// Displayed as SQL, quoted where that is needed.
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
    /// Whether both may be the same table: one of them may lack the schema.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        self.name == other.name
            && (self.schema == other.schema || self.schema.is_none() || other.schema.is_none())
    }

    /// Reads `outbox`, `app.outbox` or `"My Schema"."Out""box"`. Unquoted parts become lower case,
    /// as in SQL.
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

/// Splits off the identifier that `text` begins with, as PostgreSQL stores it.
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

/// Splits the text at the closing quote. Two quotes mean one.
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

/// Checks a name by PostgreSQL's rule, which is the same for tables and columns.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("has an empty name".into()),
        name if name.contains('\0') => Err("has a name with a NUL character".into()),
        name if name.len() > LONGEST => Err(format!(
            "has a name of more than {LONGEST} bytes, PostgreSQL's limit"
        )),
        _ => Ok(()),
    }
}

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

/// The words that PostgreSQL 18 does not accept as a table's name without quotes
/// (`pg_get_keywords()`, categories R and T), in order. To quote one too many does no harm, so
/// other versions need no list.
const RESERVED: &str = "\
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate \
    collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end \
    except false fetch for foreign freeze from full grant group having ilike in initially inner intersect into \
    is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on \
    only or order outer overlaps placing primary references returning right select session_user similar some \
    symmetric system_user table tablesample then to trailing true union unique user using variadic verbose when \
    where window with \
";

/// An identifier, quoted where SQL needs it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match name.chars().all(safe)
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !RESERVED.split_ascii_whitespace().any(|word| word == *name)
        {
            true => f.write_str(name),
            false => write!(f, "\"{}\"", name.replace('"', "\"\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::rows;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        for (text, stored) in rows(
            r#"
            outbox -> |outbox|outbox
            OutBox -> |outbox|outbox
            app.outbox -> app|outbox|app.outbox
            App."Outbox" -> app|Outbox|app."Outbox"
            "My Schema"."Out""box" -> My Schema|Out"box|"My Schema"."Out""box"
            "a.b" -> |a.b|"a.b"
            _out$box1 -> |_out$box1|"_out$box1"
            tägliche_ÄNDERUNG -> |tägliche_Änderung|"tägliche_Änderung"
            "order" -> |order|"order"
            "1" -> |1|"1"
            "all" -> |all|"all"
            "user" -> |user|"user"
            "with" -> |with|"with"
            "left" -> |left|"left"
            "verbose" -> |verbose|"verbose"
            "all analyse" -> |all analyse|"all analyse"
            orders.der -> orders|der|orders.der
            events -> |events|events
            key.type -> key|type|key.type
            "#,
        ) {
            let table = TableName::parse(&format!(" {text} ")).expect(text);
            let schema = table.schema.as_deref().unwrap_or_default();
            assert_eq!(format!("{schema}|{}|{table}", table.name), stored, "{text}");
        }
        assert_eq!(TableName::parse("outbox"), Ok(TableName::default()));
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
