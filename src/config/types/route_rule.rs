//! A route: rows whose column matches a pattern go to a topic of their own, or are dropped.

use regex::Regex;

use super::route::Route;
use super::table_name::check_name;

/// How a `column` begins that names a header.
const HEADER: &str = "header.";

/// What the pattern of a route is matched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteInput {
    /// The text of a column.
    Column(String),
    /// A header of the row's own, by its name.
    Header(String),
}

impl RouteInput {
    /// Reads the name of a column, or `header.` and the name of a header.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix(HEADER) {
            Some("") => Err("names no header after `header.`".into()),
            Some(header) => Ok(Self::Header(header.to_owned())),
            None => {
                check_name(text)?;
                Ok(Self::Column(text.to_owned()))
            }
        }
    }
}

/// Reads a pattern. The error is one line.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        // The lines before the last show the pattern, with a mark below its fault.
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("error: ").unwrap_or(last);
        format!("is not a regular expression of the crate regex: {reason}")
    })
}

/// Where rows go whose column matches a pattern. The first route that matches counts, and a topic
/// that the row itself names comes before all of them.
#[derive(Debug, Clone)]
pub struct RouteRule {
    input: RouteInput,
    pattern: Regex,
    topic: Option<Route>,
}

impl RouteRule {
    /// Makes a route of the texts that `[[outbox.route]]` has. Without a topic, rows that match are
    /// deleted unsent.
    ///
    /// # Errors
    /// Says what is wrong with one of them.
    pub fn parse(column: &str, matched: &str, topic: Option<&str>) -> Result<Self, String> {
        let input = RouteInput::parse(column).map_err(|error| format!("the column {error}"))?;
        let pattern = pattern(matched).map_err(|error| format!("the pattern {error}"))?;
        let topic = topic.map(Route::parse).transpose();
        topic
            .and_then(|topic| Self::of(input, pattern, topic))
            .map_err(|error| format!("the topic {error}"))
    }

    /// The error is what is wrong with the topic.
    pub(crate) fn of(
        input: RouteInput,
        pattern: Regex,
        topic: Option<Route>,
    ) -> Result<Self, String> {
        let topic = topic.map(|it| it.with_groups(&pattern)).transpose()?;
        Ok(Self {
            input,
            pattern,
            topic,
        })
    }

    pub(crate) fn input(&self) -> &RouteInput {
        &self.input
    }

    /// Returns the texts of groups by their numbers, if the pattern matches. A group that took no
    /// part is empty.
    pub(crate) fn groups<'t>(&self, text: &'t str) -> Option<impl Fn(usize) -> &'t str + use<'t>> {
        // Most rows match one route at most, and this allocates nothing.
        if !self.pattern.is_match(text) {
            return None;
        }
        let found = self.pattern.captures(text)?;
        Some(move |group| found.get(group).map_or("", |it| it.as_str()))
    }

    /// The template of the topic; `None`: rows are dropped.
    pub(crate) fn topic(&self) -> Option<&Route> {
        self.topic.as_ref()
    }
}

impl PartialEq for RouteRule {
    fn eq(&self, other: &Self) -> bool {
        let pattern = self.pattern.as_str();
        (&self.input, pattern, &self.topic) == (&other.input, other.pattern.as_str(), &other.topic)
    }
}

impl Eq for RouteRule {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicPart;

    #[test]
    fn numbers_and_names_of_groups_are_groups_and_other_names_are_columns() {
        let rule = RouteRule::parse("kind", "^(?<what>[a-z]+)-(.*)$", Some("{2}.{what}.{other}"));
        let rule = rule.expect("it is right");
        let topic = rule.topic().expect("a topic");
        assert_eq!(topic.to_string(), "{2}.{what}.{other}");
        assert_eq!(topic.columns().collect::<Vec<_>>(), ["other"]);
        assert_eq!(topic.fixed("t"), None);
        let groups = topic.pieces("t").filter_map(|part| match part {
            TopicPart::Group(number) => Some(number),
            _ => None,
        });
        assert_eq!(groups.collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (column, matched, topic, words) in [
            (
                "kind",
                "(",
                "t",
                "the pattern is not a regular expression of the crate regex: unclosed group",
            ),
            (
                "kind",
                "a{1000}{1000}{1000}",
                "t",
                "the pattern is not a regular expression of the crate regex: ",
            ),
            (
                "kind",
                "a",
                "t.{1}",
                "the topic has {1}, and `match` has no group",
            ),
            (
                "kind",
                "(a)",
                "t.{2}",
                "the topic has {2}, and `match` has one group",
            ),
            ("kind", "a", "t t", "the topic is not legal"),
            (
                "kind",
                "a",
                "t\\{1\\}",
                "the topic is not legal: a topic name has only letters a-z and A-Z, digits, `.`, `_` and `-`, and no '{'",
            ),
            ("", "a", "t", "the column has an empty name"),
            ("header.", "a", "t", "the column names no header"),
        ] {
            let error = RouteRule::parse(column, matched, Some(topic)).expect_err(words);
            assert!(error.starts_with(words), "{words:?} in {error:?}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
