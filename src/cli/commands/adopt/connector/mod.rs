//! The configuration of a Debezium connector with the outbox event router, in our keys.
//!
//! - `file`: the JSON of a connector
//! - `fields`: columns, headers and partition
//! - `topic`: the topic
//! - `rest`: converters, and the keys that do not concern the router

mod fields;
mod file;
mod rest;
mod topic;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub(super) use self::file::Connector;
use super::mapping::Mapping;

/// The translation of a connector for one table.
struct Translation<'a, 't> {
    connector: &'a Connector,
    /// The type of a column of the table, if it has it.
    type_of: &'a dyn Fn(&str) -> Option<&'t str>,
    mapping: Mapping,
    /// Keys that need no further word.
    done: BTreeSet<String>,
}

impl Connector {
    /// Returns how rows of the table become records, and a line for each key that cannot be kept.
    pub(super) fn mapping<'a, 't>(
        &'a self,
        table: &str,
        type_of: &'a dyn Fn(&str) -> Option<&'t str>,
    ) -> Mapping {
        let mut translation = Translation {
            connector: self,
            type_of,
            mapping: Mapping {
                profile: "debezium",
                ..Mapping::default()
            },
            done: BTreeSet::new(),
        };
        translation.columns();
        translation.headers();
        translation.topic();
        translation.payload();
        translation.converters();
        translation.tables(table);
        translation.others();
        translation.mapping
    }
}

impl<'a> Translation<'a, '_> {
    /// Takes a key of the router, without its prefix.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let key = self.connector.router_key(name);
        let value = self.connector.get(&key);
        self.done.insert(key);
        value
    }

    /// Takes a key of the router that is true or false.
    fn is_on(&mut self, name: &str) -> bool {
        let value = self.take(name);
        value.is_some_and(|it| it.trim().eq_ignore_ascii_case("true"))
    }

    fn map(&mut self, key: &'static str, column: &str) {
        self.mapping.columns.push((key, column.to_owned()));
    }

    /// Says that a key cannot be kept.
    fn lost(&mut self, key: &str, why: impl AsRef<str>) {
        let line = format!("{key}: {}", why.as_ref());
        self.mapping.differences.push(line);
    }

    /// The same for a key of the router.
    fn lost_of_router(&mut self, name: &str, why: impl AsRef<str>) {
        self.lost(&self.connector.router_key(name), why);
    }
}
