//! Payload and converters, and the keys that do not concern the router.

use super::Translation;
use super::file::list;
use crate::config::PROPERTIES;

/// Keys of which nothing is left to say: they concern the connector, or mean the same here. A name
/// that ends with a point stands for all that begin so.
const SILENT: &[&str] = &[
    "name",
    "connector.class",
    "connector.displayName",
    "tasks.max",
    "plugin.name",
    "database.",
    "driver.",
    "slot.",
    "publication.",
    "snapshot.",
    "schema.",
    "topic.prefix",
    "topic.naming.strategy",
    "poll.interval.ms",
    "max.batch.size",
    "max.queue.size",
    "max.queue.size.in.bytes",
    "heartbeat.",
    "status.update.interval.ms",
    "tombstones.on.delete",
    "skipped.operations",
    "include.schema.changes",
    "flush.lsn.source",
    "lsn.flush.mode",
    "xmin.fetch.interval.ms",
    "retriable.restart.connector.wait.ms",
    "offset.",
    "transforms",
    "exactly.once.support",
    "table.include.list",
    "table.whitelist",
    "key.converter",
    "value.converter",
    "header.converter",
];

/// Keys that cannot be kept, and why.
const LOST: &[(&str, &str)] = &[
    (
        "topic.creation.",
        "the relay creates no topic with settings: create the topics first",
    ),
    (
        "producer.override.",
        "write what librdkafka knows of it under [kafka.properties]",
    ),
    (
        "errors.",
        "a row that Kafka refuses becomes a dead letter, or holds its key: see `poison`",
    ),
    (
        "predicates",
        "no predicate is applied: the relay reads this table and no other",
    ),
    ("column.", "columns are sent as they are stored"),
    (
        "message.key.columns",
        "the key is the one column that is mapped",
    ),
    ("binary.handling.mode", "bytes are sent as they are"),
    (
        "time.precision.mode",
        "times in headers are sent as PostgreSQL prints them, in UTC",
    ),
    (
        "decimal.handling.mode",
        "numbers in headers are sent as PostgreSQL prints them",
    ),
    (
        "provide.transaction.metadata",
        "no records of transactions are sent",
    ),
    ("notification.", "no notifications of a connector are sent"),
    ("signal.", "there are no signals: see `pause` and `replay`"),
];

const REWRITTEN: &str = "the payload is sent as it is stored; Debezium parses it and writes it again, by default without nulls and empty arrays: equal as JSON at most";

impl Translation<'_, '_> {
    pub(super) fn payload(&mut self) {
        const BLANK: &str = "route.tombstone.on.empty.payload";
        if self.is_on(BLANK) {
            let payload = self.mapping.column("payload").unwrap_or_default();
            match (self.type_of)(payload) {
                Some("bytea") => {
                    let why = "a payload of type bytea is a tombstone if it is NULL, and not if it is blank";
                    self.lost_of_router(BLANK, why);
                }
                _ => self.mapping.tombstone_on_blank = true,
            }
        }
        for name in ["table.op.invalid.behavior", "debezium.op.invalid.behavior"] {
            let behaviour = self.take(name);
            if behaviour.is_some_and(|it| !it.eq_ignore_ascii_case("warn")) {
                let why = "an UPDATE of a row that waits changes what is sent, and is no error";
                self.lost_of_router(name, why);
            }
        }
        const NULLS: &str = "table.json.payload.null.behavior";
        let is_named = self.take(NULLS).is_some();
        if self
            .connector
            .get(&self.connector.router_key("table.expand.json.payload"))
            == Some("true")
            && is_named
        {
            self.lost_of_router(NULLS, "nulls stay in the payload as it is stored");
        }
        if let Some(column) = self.take("tracing.span.context.field") {
            let pair = (PROPERTIES.to_owned(), column.to_owned());
            self.mapping
                .headers_from
                .retain(|(name, _)| name != PROPERTIES);
            self.mapping.headers_from.push(pair);
        }
        for name in ["tracing.operation.name", "tracing.with.context.field.only"] {
            if self.take(name).is_some() {
                let why = "no span is made: the writer's `traceparent` becomes a header as it is";
                self.lost_of_router(name, why);
            }
        }
    }

    /// The class of a converter without its package, and the prefix of its own keys.
    fn converter(&self, key: &str) -> Option<(String, String)> {
        let name = |class: &str| class.rsplit('.').next().unwrap_or(class).to_owned();
        let class = name(self.connector.get(key)?);
        let delegate = format!("{key}.delegate.converter.type");
        match self.connector.get(&delegate) {
            Some(delegated) if class == "BinaryDataConverter" => Some((name(delegated), delegate)),
            _ => Some((class, key.to_owned())),
        }
    }

    pub(super) fn converters(&mut self) {
        let expands = self.is_on("table.expand.json.payload");
        let payload = self.mapping.column("payload").unwrap_or_default();
        let is_text = (self.type_of)(payload) != Some("bytea");
        match self.converter("value.converter") {
            None => self.lost("value.converter", "is that of the worker, which this file does not show: the payload is sent as it is stored, as by StringConverter"),
            Some((class, prefix)) => match class.as_str() {
                "JsonConverter" if is_text => {
                    let schemas = format!("{prefix}.schemas.enable");
                    if self.connector.get(&schemas) != Some("false") {
                        self.lost(&schemas, "values have no envelope of schema and payload");
                    } else if !expands {
                        self.lost("value.converter", "JsonConverter writes the payload as one JSON string, in quotes; the payload itself is sent");
                    }
                }
                "StringConverter" | "JsonConverter" => {}
                bytes if is_bytes(bytes) => {}
                other => {
                    let why = format!("{other} encodes values by a schema; the payload is sent as it is stored: writers must encode it");
                    self.lost("value.converter", why);
                }
            },
        }
        if expands && is_text {
            self.lost_of_router("table.expand.json.payload", REWRITTEN);
        }
        for (key, what) in [("key.converter", "keys"), ("header.converter", "headers")] {
            match self.converter(key) {
                Some((class, _)) if class == "JsonConverter" => {
                    let why = format!(
                        "JsonConverter writes {what} in quotes; the relay does not, so a key may be in another partition"
                    );
                    self.lost(key, why);
                }
                Some((class, _))
                    if class != "StringConverter"
                        && class != "SimpleHeaderConverter"
                        && !is_bytes(&class) =>
                {
                    self.lost(
                        key,
                        format!("{class} encodes {what}; they are sent as text"),
                    );
                }
                _ => {}
            }
        }
    }

    /// Whether the connector reads this table and no other.
    pub(super) fn tables(&mut self, table: &str) {
        let key = ["table.include.list", "table.whitelist"];
        let Some(key) = key
            .into_iter()
            .find(|key| self.connector.get(key).is_some())
        else {
            return;
        };
        let plain = |name: &str| name.replace(['\\', '"'], "");
        let names = list(self.connector.get(key).unwrap_or_default());
        let others = names
            .iter()
            .filter(|name| plain(name) != plain(table))
            .count();
        if others == names.len() {
            self.lost(
                key,
                format!("{table} is none of these tables, as they are written"),
            );
        } else if others > 0 {
            self.lost(
                key,
                "this is one of several tables: keep the connector for the others",
            );
        }
    }

    /// The keys that are left.
    pub(super) fn others(&mut self) {
        let connector = self.connector;
        if connector.get("exactly.once.support") == Some("required") {
            self.mapping.exactly_once = true;
        }
        for name in connector.other_transforms() {
            let class = connector
                .get(&format!("transforms.{name}.type"))
                .unwrap_or("a transform");
            self.lost(
                &format!("transforms.{name}"),
                format!("{class} is not applied"),
            );
        }
        let router = connector.router_key("");
        self.done.insert(connector.router_key("type"));
        for (key, _) in connector.keys() {
            let is_of = |name: &&str| key == *name || name.ends_with('.') && key.starts_with(*name);
            let is_other_transform = key.starts_with("transforms.") && !key.starts_with(&router);
            let is_of_converter = key.contains(".converter.");
            if self.done.contains(key)
                || SILENT.iter().any(is_of)
                || is_other_transform
                || is_of_converter
            {
                continue;
            }
            let known = LOST.iter().find(|(name, _)| key.starts_with(name));
            let why = match key.strip_prefix(&router) {
                Some("predicate" | "negate") => "every row of the table is routed",
                _ => known.map_or(
                    "is not known here: see whether consumers depend on it",
                    |(_, why)| why,
                ),
            };
            self.lost(key, why);
        }
    }
}

fn is_bytes(class: &str) -> bool {
    matches!(
        class,
        "BinaryDataConverter" | "ByteArrayConverter" | "ByteBufferConverter"
    )
}
