//! Columns, headers and partition.

use super::Translation;
use super::file::list;

/// Types whose text is another in a header of Debezium.
const PRINTED: &[&str] = &["timestamp", "date", "time", "numeric", "interval", "bytea"];

impl<'t> Translation<'_, 't> {
    fn kind(&self, column: &str) -> &'t str {
        (self.type_of)(column).unwrap_or_default()
    }

    pub(super) fn columns(&mut self) {
        let id = self.take("table.field.event.id").unwrap_or("id");
        match self.kind(id) {
            "" | "uuid" | "text" | "character varying" | "character" => self.map("event_id", id),
            kind => {
                let why = format!(
                    "{id} is of type {kind}: the header `id` is a UUID that the relay derives, another one than Debezium's"
                );
                self.lost_of_router("table.field.event.id", why);
            }
        }
        self.key();
        let kind = self.take("table.field.event.type").unwrap_or("type");
        let has_type = (self.type_of)(kind).is_some();
        self.map("type", if has_type { kind } else { "none" });
        // Earlier versions call it otherwise.
        let payload = self.take("table.field.event.payload");
        let payload = payload.or(self.take("table.field.payload"));
        self.map("payload", payload.unwrap_or("payload"));
        self.time();
        for name in [
            "table.field.event.schema.version",
            "table.field.schema.version",
        ] {
            if self.take(name).is_some() {
                self.lost_of_router(name, "values have no schema, so no version of one");
            }
        }
    }

    fn key(&mut self) {
        let fallback = self.take("table.field.event.payload.id");
        let fallback = fallback.or(self.take("table.field.payload.id"));
        let fallback = fallback.unwrap_or("aggregateid");
        match self.take("table.field.event.key") {
            None => self.map("key", fallback),
            Some(key) => {
                self.map("key", key);
                if key != fallback && (self.type_of)(fallback).is_some() {
                    let why = format!(
                        "a row whose {key} is NULL has no key, where Debezium takes {fallback}"
                    );
                    self.lost_of_router("table.field.event.key", why);
                }
            }
        }
    }

    fn time(&mut self) {
        let named = self.take("table.field.event.timestamp");
        let column = named.unwrap_or("timestamp");
        if self.kind(column).starts_with("timestamp") {
            self.map("created_at", column);
            // Debezium sends it only if it is told to.
            self.mapping.sent_time = named.is_none();
            return;
        }
        self.map("created_at", "none");
        if named.is_some() {
            let why = format!(
                "{column} is no timestamp or timestamptz: records have the time when they are sent"
            );
            self.lost_of_router("table.field.event.timestamp", why);
        }
    }

    pub(super) fn headers(&mut self) {
        const KEY: &str = "table.fields.additional.placement";
        for part in list(self.take(KEY).unwrap_or_default()) {
            let words: Vec<_> = part.split(':').map(str::trim).collect();
            let (column, alias) = (words[0], words.get(2).copied().unwrap_or(words[0]));
            let is_twice = self.mapping.headers_from.iter().any(|(it, _)| it == alias);
            let why = match words.get(1).map(|it| it.to_ascii_lowercase()).as_deref() {
                Some("header") if alias == "id" || is_twice => {
                    format!("{part}: a record has one header `{alias}`, the first of these")
                }
                Some("header") => {
                    self.header(alias, column);
                    continue;
                }
                Some("partition") if matches!(self.kind(column), "" | "integer") => {
                    self.map("partition", column);
                    continue;
                }
                Some("partition") => format!("{part}: {column} is not of type integer"),
                Some("envelope") => format!(
                    "{part}: the value is the payload alone, where Debezium writes an object of payload and fields"
                ),
                _ => format!("{part}: is no placement"),
            };
            self.lost_of_router(KEY, why);
        }
        // A column that is missing ends the relay at its start.
        self.take("table.fields.additional.error.on.missing");
    }

    fn header(&mut self, name: &str, column: &str) {
        let pair = (name.to_owned(), column.to_owned());
        self.mapping.headers_from.push(pair);
        let kind = self.kind(column);
        if PRINTED.iter().any(|it| kind.starts_with(it)) {
            self.mapping.differences.push(format!(
                "header {name}: {column}, of type {kind}, is sent as PostgreSQL prints it in UTC, bytes as they are; Debezium has forms of its own"
            ));
        }
    }
}
