//! The topic: `route.by.field`, `route.topic.regex` and `route.topic.replacement`.

use super::Translation;
use crate::cli::commands::adopt::mapping::PatternRoute;
use crate::config::Route;

const DEFAULT: &str = "outbox.event.${routedByValue}";
/// Parts of a pattern that Java knows and the relay does not.
const OF_JAVA: &[&str] = &["(?=", "(?!", "(?<=", "(?<!", "(?>", "*+", "++", "?+", "\\G"];

impl Translation<'_, '_> {
    pub(super) fn topic(&mut self) {
        let column = self.take("route.by.field").unwrap_or("aggregatetype");
        let replacement = self.take("route.topic.replacement").unwrap_or(DEFAULT);
        // As in a template of Terraform.
        let replacement = replacement.replace("$${", "${");
        let pattern = self.take("route.topic.regex").unwrap_or("(.*)");
        if column == "table" {
            let why = "in a topic, {table} is the name of the table, so rows cannot be routed by a column of this name";
            self.lost_of_router("route.by.field", why);
        }
        // `{type}` is the column that is mapped as the type.
        if column == "type" {
            self.mapping.columns.retain(|(key, _)| *key != "type");
            self.map("type", "type");
        }
        let field = format!("{{{column}}}");
        if takes_all(pattern) {
            self.mapping.topic = Some(replaced(&replacement, |_| field.clone()));
        } else {
            self.mapping.route = Some(PatternRoute {
                column: column.to_owned(),
                pattern: format!("^(?:{pattern})$"),
                topic: replaced(&replacement, |group| format!("{{{group}}}")),
            });
            // Debezium leaves a value that does not match as it is.
            self.mapping.topic = Some(field);
            if OF_JAVA.iter().any(|it| pattern.contains(it)) {
                let why = "the pattern has a part that only Java knows: write another one under [[outbox.route]]";
                self.lost_of_router("route.topic.regex", why);
            }
        }
        let topic = self.mapping.topic.clone().unwrap_or_default();
        if let Err(fault) = Route::parse(&topic) {
            let why = format!("the topic {topic:?} {fault}");
            self.lost_of_router("route.topic.replacement", why);
        }
    }
}

/// Whether a pattern matches every value, with the whole of it as its group.
fn takes_all(pattern: &str) -> bool {
    let inner = pattern.trim_start_matches('^').trim_end_matches('$');
    let group = inner.strip_prefix('(').and_then(|it| it.strip_suffix(')'));
    let inner = group.unwrap_or(inner);
    let inner = match inner.strip_prefix("?<").and_then(|it| it.split_once('>')) {
        Some((_, inner)) => inner,
        None => inner,
    };
    matches!(inner, ".*" | ".+")
}

/// Puts something in place of each reference to a group: `$1`, `${name}`. After `\` a character
/// stands for itself.
fn replaced(replacement: &str, reference: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find(['$', '\\']) {
        text.push_str(&rest[..at]);
        let is_reference = rest[at..].starts_with('$');
        rest = &rest[at + 1..];
        let named = rest.strip_prefix('{').and_then(|it| it.split_once('}'));
        match (is_reference, named) {
            (true, Some((name, after))) => {
                text.push_str(&reference(name));
                rest = after;
            }
            _ => {
                let end = rest.chars().next().map_or(0, char::len_utf8);
                let (first, after) = rest.split_at(end);
                match is_reference {
                    true => text.push_str(&reference(first)),
                    false => text.push_str(first),
                }
                rest = after;
            }
        }
    }
    text + rest
}
