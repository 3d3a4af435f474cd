//! What a table's columns become, as a configuration file says it.

use std::fmt::Write as _;

/// How the rows of a table become records.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub profile: &'static str,
    /// `None`: each row names its topic.
    pub topic: Option<String>,
    /// Topics by a pattern, before `topic`.
    pub route: Option<PatternRoute>,
    pub tombstone_on_blank: bool,
    pub exactly_once: bool,
    /// Whether records have the time when they are sent, although rows have one.
    pub sent_time: bool,
    /// Keys of `[outbox.columns]` with their columns.
    pub columns: Vec<(&'static str, String)>,
    /// Headers with their columns.
    pub headers_from: Vec<(String, String)>,
    pub fixed_headers: Vec<(String, String)>,
    /// What differs from the records of the earlier relay, a line each.
    pub differences: Vec<String>,
}

/// A topic that a pattern makes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PatternRoute {
    pub column: String,
    pub pattern: String,
    pub topic: String,
}

impl Mapping {
    pub(super) fn column(&self, key: &str) -> Option<&str> {
        let found = self.columns.iter().find(|(it, _)| *it == key);
        found.map(|(_, column)| column.as_str())
    }

    /// All columns that the table must have, besides the number.
    pub(super) fn needed(&self) -> impl Iterator<Item = &str> {
        let mapped = self.columns.iter().map(|(_, column)| column.as_str());
        let headers = self.headers_from.iter().map(|(_, column)| column.as_str());
        let route = self.route.iter().map(|it| it.column.as_str());
        let all = mapped.chain(headers).chain(route);
        all.filter(|column| *column != "none")
    }

    /// Returns the section of the table, as a configuration file has it.
    pub(super) fn toml(&self, table: &str, number: &str) -> String {
        let mut text = format!(
            "[[outbox]]\ntable = {}\nprofile = {}\n",
            basic(table),
            basic(self.profile)
        );
        let mut say = |line: String| text.push_str(&(line + "\n"));
        if let Some(topic) = &self.topic {
            say(format!("topic = {}", basic(topic)));
        }
        if self.sent_time {
            say("timestamp = \"sent\"".into());
        }
        if self.tombstone_on_blank {
            say("tombstone_on_blank = true".into());
        }
        if self.exactly_once {
            say("delivery = \"exactly-once\"".into());
        }
        say("[outbox.columns]".into());
        say(format!("id = {}", basic(number)));
        for (key, column) in &self.columns {
            say(format!("{key} = {}", basic(column)));
        }
        for (section, headers) in [
            ("headers_from", &self.headers_from),
            ("fixed_headers", &self.fixed_headers),
        ] {
            if !headers.is_empty() {
                say(format!("[outbox.{section}]"));
            }
            for (header, value) in headers {
                say(format!("{} = {}", basic(header), basic(value)));
            }
        }
        if let Some(route) = &self.route {
            say("[[outbox.route]]".into());
            say(format!("column = {}", basic(&route.column)));
            say(format!("match = {}", basic(&route.pattern)));
            say(format!("topic = {}", basic(&route.topic)));
        }
        text
    }
}

/// A basic string of TOML.
fn basic(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(c)).expect("room in a text");
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_character_are_read_back_as_they_are() {
        let odd = "a\"b\\c\n\u{7f}é🔔".to_owned();
        let mapping = Mapping {
            profile: "none",
            headers_from: vec![(odd.clone(), odd.clone())],
            ..Mapping::default()
        };
        let read: toml::Value = toml::from_str(&mapping.toml("t", &odd)).expect("TOML");
        let outbox = &read["outbox"][0];
        assert_eq!(outbox["columns"]["id"].as_str(), Some(odd.as_str()));
        let headers = outbox["headers_from"].as_table().expect("a table");
        assert_eq!(headers[&odd].as_str(), Some(odd.as_str()));
    }
}
