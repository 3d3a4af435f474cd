//! The topic of an event: a template of literal text, `{table}`, `{type}` and columns.

use std::borrow::Cow;
use std::fmt;

use regex::Regex;

use super::table_name::check_name;

/// Kafka's limit for the name of a topic.
const LONGEST: usize = 249;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TopicError {
    #[error("a topic name cannot be empty")]
    Empty,
    /// Too many characters, with their number.
    #[error("a topic name has at most {LONGEST} characters, and this one has {0}")]
    TooLong(usize),
    #[error("a topic name has only letters a-z and A-Z, digits, `.`, `_` and `-`, and no {0:?}")]
    Character(char),
    /// `.` or `..`, which are no names for the brokers' directories.
    #[error("a topic cannot be named `.` or `..`")]
    Dots,
}

/// Checks a topic's name by Kafka's rule. The error is the first part of the rule that it breaks.
pub(crate) fn check_topic(name: &str) -> Result<(), TopicError> {
    check_characters(name)?;
    match name {
        "" => Err(TopicError::Empty),
        "." | ".." => Err(TopicError::Dots),
        _ => Ok(()),
    }
}

/// Checks what holds for a whole name and for each part of one.
fn check_characters(part: &str) -> Result<(), TopicError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match part.chars().find(|c| !legal(*c)) {
        Some(illegal) => Err(TopicError::Character(illegal)),
        None if part.len() > LONGEST => Err(TopicError::TooLong(part.len())),
        None => Ok(()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Table,
    Type,
    Column(String),
    /// A group of a route's pattern, by its number, with the placeholder's text.
    Group(usize, String),
}

impl Part {
    fn text<'a>(&'a self, table: &'a str, event_type: &'a str) -> &'a str {
        match self {
            Self::Literal(text) => text,
            Self::Table => table,
            Self::Type => event_type,
            Self::Column(_) | Self::Group(..) => "",
        }
    }
}

/// A part of the topics of one table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TopicPart<'a> {
    Text(&'a str),
    Type,
    Column(&'a str),
    /// A group of the pattern of its route.
    Group(usize),
}

/// A topic, or a template of one. `{table}` stands for the outbox table's name without its schema,
/// `{type}` for the event's type, and any other name for a column of the table. There is at least
/// one part, and literals are never adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    parts: Vec<Part>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            parts: vec![Part::Table],
        }
    }
}

impl Route {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is wrong with it: a name that no column can have, a brace alone, or text that no
    /// topic may contain.
    pub fn parse(template: &str) -> Result<Self, String> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = template;
        while let Some(start) = rest.find(['{', '}', '\\']) {
            let (before, special) = rest.split_at(start);
            literal += before;
            if let Some((text, after)) = escaped(special) {
                literal += text;
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            let (part, after) = placeholder(special)?;
            parts.push(part);
            rest = after;
        }
        literal += rest;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let route = Self { parts };
        route
            .check()
            .map_err(|error| format!("is not legal: {error}"))?;
        Ok(route)
    }

    /// Takes the placeholders that are numbers or names of groups of `pattern` for these groups.
    pub(super) fn with_groups(mut self, pattern: &Regex) -> Result<Self, String> {
        for part in &mut self.parts {
            let Part::Column(name) = part else {
                continue;
            };
            let is_number = name.bytes().all(|it| it.is_ascii_digit());
            let group = match is_number {
                true => name.parse().ok().filter(|it| *it < pattern.captures_len()),
                false => pattern
                    .capture_names()
                    .position(|it| it == Some(name.as_str())),
            };
            match group {
                Some(group) => *part = Part::Group(group, name.clone()),
                None if is_number => {
                    return Err(format!(
                        "has {{{name}}}, and `match` has {} in parentheses",
                        match pattern.captures_len() - 1 {
                            0 => "no group".to_owned(),
                            1 => "one group".to_owned(),
                            groups => format!("{groups} groups"),
                        }
                    ));
                }
                None => {}
            }
        }
        Ok(self)
    }

    fn check(&self) -> Result<(), TopicError> {
        // placeholders may be replaced by nothing, so the literal text is what every topic has
        let literals = self.topic("", "");
        check_characters(&literals)?;
        match self
            .parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_)))
        {
            true => check_topic(&literals),
            false => Ok(()),
        }
    }

    /// The topic of an event, which is not checked: the type is only known with the event (see
    /// `check_topic`). Where columns are a part of it, the server makes the topic. Allocates only
    /// if a placeholder is mixed with something else.
    pub fn topic<'a>(&'a self, table: &'a str, event_type: &'a str) -> Cow<'a, str> {
        let texts = self.parts.iter().map(|part| part.text(table, event_type));
        match self.parts.as_slice() {
            [only] => Cow::Borrowed(only.text(table, event_type)),
            _ => Cow::Owned(texts.collect()),
        }
    }

    /// Its parts for the events of `table`, in order.
    pub(crate) fn pieces<'a>(&'a self, table: &'a str) -> impl Iterator<Item = TopicPart<'a>> {
        self.parts.iter().map(move |part| match part {
            Part::Literal(text) => TopicPart::Text(text),
            Part::Table => TopicPart::Text(table),
            Part::Type => TopicPart::Type,
            Part::Column(name) => TopicPart::Column(name),
            Part::Group(number, _) => TopicPart::Group(*number),
        })
    }

    /// The columns that it is made of.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Literal(_) | Part::Table | Part::Type | Part::Group(..) => None,
        })
    }

    /// Whether it depends on the event's type.
    pub fn has_type(&self) -> bool {
        self.parts.contains(&Part::Type)
    }

    /// The topic of all events of `table`; `None` if it depends on the row.
    pub fn fixed(&self, table: &str) -> Option<String> {
        let is_fixed = |part| matches!(part, &Part::Literal(_) | &Part::Table);
        let all = self.parts.iter().all(is_fixed);
        all.then(|| self.topic(table, "").into_owned())
    }
}

/// Takes a backslash with the brace that it makes a literal one, or alone, off a text that may
/// begin with one.
fn escaped(text: &str) -> Option<(&str, &str)> {
    let after = text.strip_prefix('\\')?;
    Some(match after.starts_with(['{', '}']) {
        true => after.split_at(1),
        false => text.split_at(1),
    })
}

/// Takes a placeholder off a text that begins with a brace.
fn placeholder(text: &str) -> Result<(Part, &str), String> {
    let name = text.strip_prefix('{').and_then(|it| it.split_once('}'));
    let Some((name, after)) = name else {
        return Err(
            "has an unmatched brace; the placeholders are {table}, {type} and columns of the table"
                .into(),
        );
    };
    let part = match name {
        "table" => Part::Table,
        "type" => Part::Type,
        column => {
            check_name(column)?;
            Part::Column(column.into())
        }
    };
    Ok((part, after))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Column(name) | Part::Group(_, name) => write!(f, "{{{name}}}"),
            part => f.write_str(part.text("{table}", "{type}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn templates() {
        for (template, topic, fixed) in [
            ("{table}", "outbox", Some("outbox")),
            ("orders", "orders", Some("orders")),
            ("app.{table}", "app.outbox", Some("app.outbox")),
            ("{type}", "Paid", None),
            ("{table}.{type}-v1", "outbox.Paid-v1", None),
            ("{type}{type}", "PaidPaid", None),
            ("events.{my column}", "events.", None),
        ] {
            let route = Route::parse(template).expect(template);
            assert_eq!(route.topic("outbox", "Paid"), topic, "{template}");
            assert_eq!(route.fixed("outbox").as_deref(), fixed, "{template}");
            assert_eq!(route.to_string(), template);
        }
        assert_eq!(Route::parse("{table}"), Ok(Route::default()));
    }

    #[test]
    fn a_single_part_is_borrowed() {
        for template in ["orders", "{table}", "{type}"] {
            let route = Route::parse(template).expect(template);
            assert!(
                matches!(route.topic("outbox", "Paid"), Cow::Borrowed(_)),
                "{template}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_route_replaces_its_placeholders(
            parts in prop::collection::vec("[a-z.]{1,5}|\\{table\\}|\\{type\\}", 1..6),
            table in "[a-z]{1,5}",
            event_type in ".*",
        ) {
            let template = parts.concat();
            prop_assume!(template != "." && template != "..");
            let route = Route::parse(&template).expect("legal parts make a legal template");
            // the table's name has no braces, so the order of these two does not matter
            let expected = template.replace("{table}", &table).replace("{type}", &event_type);
            prop_assert_eq!(route.topic(&table, &event_type), expected);
            prop_assert_eq!(route.to_string(), template);
        }

        #[test]
        fn any_text_is_a_route_that_shows_itself_or_a_fault(text in "[a.{}tyeblp ]{0,12}|.*|(\\{(table|type)\\}|[{}a])*") {
            if let Ok(route) = Route::parse(&text) {
                prop_assert_eq!(route.to_string(), text);
            }
        }
    }
}
