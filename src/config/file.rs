//! The TOML file as a layer: each value as text, with the line it stands on.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::columns;
use super::faults::{Faults, Origin, meant};
use super::layers::{Given, Layer, OutboxLayer};
use super::secret::Secret;

const SECTIONS: &[&str] = &["database", "kafka", "relay", "http", "telemetry", "outbox"];
const TELEMETRY_KEYS: &[&str] = &["otlp_endpoint", "otlp_traces_endpoint"];
const RELAY_KEYS: &[&str] = &["stop_timeout", "leader_timeout"];
const HTTP_KEYS: &[&str] = &["listen", "stuck_after", "token_file", "show_payloads"];
const OUTBOX_KEYS: &[&str] = &[
    "table",
    "topic",
    "sweep",
    "poison",
    "poison_topics",
    "in_flight_rows",
    "in_flight_bytes",
    "max_rate",
    "delivery",
    "transactional_id",
    "receipts",
    "columns",
];

/// Reads `source`, the text of the file at `path`. Whatever is wrong goes to `faults`; the rest is still used, so that
/// the values can be judged in the same run.
pub(super) fn read(path: &Path, source: &str, faults: &mut Faults) -> Layer {
    let (root, errors) = DeTable::parse_recoverable(source);
    let mut reader = Reader {
        path,
        source,
        faults,
        torn: BTreeSet::new(),
    };
    for error in &errors {
        let line = reader.line(&error.span().unwrap_or(source.len()..source.len()));
        // after the first slip of a line, the parser's further words about it are guesses
        if reader.torn.insert(line) {
            // `message()` speaks of the grammar alone, while the whole error quotes the line with its secrets
            let text = format!("this is not TOML: {}", error.message());
            reader.faults.push(Some(reader.origin(line)), text);
        }
    }
    let mut layer = Layer {
        torn: !errors.is_empty(),
        ..Layer::default()
    };
    reader.root(root.get_ref(), &mut layer);
    layer
}

struct Reader<'a> {
    path: &'a Path,
    source: &'a str,
    faults: &'a mut Faults,
    /// Lines with a syntax fault: what the parser made of them is a guess, so nothing more is said about them.
    torn: BTreeSet<usize>,
}

/// A key with its value, on a sound line.
struct Entry<'t, 'i> {
    key: &'t str,
    value: &'t DeValue<'i>,
    line: usize,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>, layer: &mut Layer) {
        for entry in self.entries(root) {
            match entry.key {
                "database" => self.database(&entry, layer),
                "kafka" => self.kafka(&entry, layer),
                "relay" => self.relay(&entry, layer),
                "http" => self.http(&entry, layer),
                "telemetry" => self.telemetry(&entry, layer),
                "outbox" => self.outboxes(&entry, layer),
                _ => self.unknown(&entry, "at the top of the file", SECTIONS),
            }
        }
    }

    fn database(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        for entry in self.section(section, "[database]") {
            match entry.key {
                "url" => layer.database_url = self.secret(&entry),
                _ => self.unknown(&entry, "in [database]", &["url"]),
            }
        }
    }

    fn kafka(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        for entry in self.section(section, "[kafka]") {
            match entry.key {
                "brokers" => layer.kafka_brokers = self.text(&entry),
                "token_file" => layer.token_file = self.text(&entry),
                "properties" => {
                    for property in self.section(&entry, "[kafka.properties]") {
                        self.property(property.key.to_owned(), &property, layer);
                    }
                }
                _ => self.unknown(
                    &entry,
                    "in [kafka]",
                    &["brokers", "token_file", "properties"],
                ),
            }
        }
    }

    /// `compression.type` without quotes is a table in a table to TOML: its names are joined again.
    fn property(&mut self, name: String, property: &Entry<'_, '_>, layer: &mut Layer) {
        if let DeValue::Table(table) = property.value
            && file_of(property.value).is_none()
        {
            for inner in self.entries(table) {
                self.property(format!("{name}.{}", inner.key), &inner, layer);
            }
            return;
        }
        let value = match property.value {
            DeValue::String(text) => Some(Secret::Text(text.to_string().into())),
            DeValue::Boolean(value) => Some(Secret::Text(value.to_string().into())),
            DeValue::Table(_) => file_of(property.value),
            value => integer(value).map(|value| Secret::Text(value.into())),
        };
        match value {
            Some(value) => {
                let given = Given {
                    value,
                    origin: self.origin(property.line),
                };
                layer.properties.insert(name, given);
            }
            None => self.fault(
                property.line,
                "a property must be a text in quotes, a whole number, true or false, or { file = \"...\" }",
            ),
        }
    }

    fn relay(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        for entry in self.section(section, "[relay]") {
            match entry.key {
                "stop_timeout" => layer.stop_timeout = self.text(&entry),
                "leader_timeout" => layer.leader_timeout = self.text(&entry),
                _ => self.unknown(&entry, "in [relay]", RELAY_KEYS),
            }
        }
    }

    fn http(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        for entry in self.section(section, "[http]") {
            match entry.key {
                "listen" => layer.listen = self.text(&entry),
                "stuck_after" => layer.stuck_after = self.text(&entry),
                "token_file" => {
                    layer.http_token = self.text(&entry).map(|given| Given {
                        value: Secret::File(given.value.into()),
                        origin: given.origin,
                    });
                }
                "show_payloads" => layer.show_payloads = self.choice(&entry),
                _ => self.unknown(&entry, "in [http]", HTTP_KEYS),
            }
        }
    }

    fn telemetry(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        for entry in self.section(section, "[telemetry]") {
            match entry.key {
                "otlp_endpoint" => layer.otlp_endpoint = self.text(&entry),
                "otlp_traces_endpoint" => layer.otlp_traces_endpoint = self.text(&entry),
                _ => self.unknown(&entry, "in [telemetry]", TELEMETRY_KEYS),
            }
        }
    }

    fn outboxes(&mut self, section: &Entry<'_, '_>, layer: &mut Layer) {
        let DeValue::Array(list) = section.value else {
            return self.fault(
                section.line,
                "outboxes are written with two brackets: [[outbox]]",
            );
        };
        for element in list.iter() {
            let line = self.line(&element.span());
            match element.get_ref() {
                DeValue::Table(table) => {
                    let outbox = self.outbox(table, line);
                    layer.outboxes.push(outbox);
                }
                _ => self.fault(line, "an outbox is a section of its own: [[outbox]]"),
            }
        }
    }

    fn outbox(&mut self, table: &DeTable<'_>, line: usize) -> OutboxLayer {
        let mut outbox = OutboxLayer {
            origin: Some(self.origin(line)),
            ..OutboxLayer::default()
        };
        for entry in self.entries(table) {
            match entry.key {
                "table" => outbox.table = self.text(&entry),
                "topic" => outbox.topic = self.text(&entry),
                "sweep" => outbox.sweep = self.text(&entry),
                "poison" => outbox.poison = self.text(&entry),
                "poison_topics" => {
                    for topic in self.section(&entry, "[outbox.poison_topics]") {
                        self.poison_topic(topic.key.to_owned(), &topic, &mut outbox);
                    }
                }
                "in_flight_rows" => outbox.in_flight_rows = self.number(&entry),
                "in_flight_bytes" => outbox.in_flight_bytes = self.size(&entry),
                "max_rate" => outbox.max_rate = self.size(&entry),
                "delivery" => outbox.delivery = self.text(&entry),
                "transactional_id" => outbox.transactional_id = self.text(&entry),
                "receipts" => outbox.receipts = self.text(&entry),
                "columns" => self.columns(&entry, &mut outbox),
                _ => self.unknown(&entry, "in [[outbox]]", OUTBOX_KEYS),
            }
        }
        outbox
    }

    /// A topic's name with dots and without quotes: as with properties.
    fn poison_topic(&mut self, name: String, topic: &Entry<'_, '_>, outbox: &mut OutboxLayer) {
        if let DeValue::Table(table) = topic.value {
            for inner in self.entries(table) {
                self.poison_topic(format!("{name}.{}", inner.key), &inner, outbox);
            }
        } else if let Some(policy) = self.text(topic) {
            outbox.poison_topics.insert(name, policy);
        }
    }

    fn columns(&mut self, section: &Entry<'_, '_>, outbox: &mut OutboxLayer) {
        for entry in self.section(section, "[outbox.columns]") {
            if !columns::KEYS.contains(&entry.key) {
                self.unknown(&entry, "in [outbox.columns]", columns::KEYS);
            } else if let Some(column) = self.text(&entry) {
                outbox.columns.insert(entry.key.to_owned(), column);
            }
        }
    }

    fn section<'t, 'i>(&mut self, entry: &Entry<'t, 'i>, name: &str) -> Vec<Entry<'t, 'i>> {
        match entry.value {
            DeValue::Table(table) => self.entries(table),
            _ => {
                self.fault(
                    entry.line,
                    format!(
                        "`{}` is a section: write {name} on a line of its own",
                        entry.key
                    ),
                );
                Vec::new()
            }
        }
    }

    fn entries<'t, 'i>(&self, table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
        let entry = |(key, value): (&'t Spanned<_>, &'t Spanned<DeValue<'i>>)| {
            let key: &'t Spanned<std::borrow::Cow<'i, str>> = key;
            Entry {
                key: key.get_ref(),
                value: value.get_ref(),
                line: self.line(&key.span()),
            }
        };
        table
            .iter()
            .map(entry)
            .filter(|entry| !self.torn.contains(&entry.line))
            .collect()
    }

    /// A text, or the file that holds it.
    fn secret(&mut self, entry: &Entry<'_, '_>) -> Option<Given<Secret>> {
        let value = match file_of(entry.value) {
            Some(file) => file,
            None => Secret::Text(self.text(entry)?.value.into()),
        };
        Some(Given {
            value,
            origin: self.origin(entry.line),
        })
    }

    fn text(&mut self, entry: &Entry<'_, '_>) -> Option<Given> {
        match entry.value {
            DeValue::String(text) => Some(Given {
                value: text.to_string(),
                origin: self.origin(entry.line),
            }),
            _ => {
                self.fault(
                    entry.line,
                    format!("`{}` must be a text in quotes", entry.key),
                );
                None
            }
        }
    }

    fn number(&mut self, entry: &Entry<'_, '_>) -> Option<Given> {
        match integer(entry.value) {
            Some(value) => Some(Given {
                value,
                origin: self.origin(entry.line),
            }),
            None => {
                self.fault(
                    entry.line,
                    format!("`{}` must be a whole number, without quotes", entry.key),
                );
                None
            }
        }
    }

    fn choice(&mut self, entry: &Entry<'_, '_>) -> Option<Given> {
        match entry.value {
            DeValue::Boolean(value) => Some(Given {
                value: value.to_string(),
                origin: self.origin(entry.line),
            }),
            _ => {
                self.fault(
                    entry.line,
                    format!("`{}` must be true or false, without quotes", entry.key),
                );
                None
            }
        }
    }

    fn size(&mut self, entry: &Entry<'_, '_>) -> Option<Given> {
        match entry.value {
            DeValue::Integer(_) => self.number(entry),
            _ => self.text(entry),
        }
    }

    fn unknown(&mut self, entry: &Entry<'_, '_>, place: &str, known: &[&str]) {
        // a slip of the quotes can leave a secret where a key stands, so in a broken file no key is repeated
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let named = self.torn.is_empty() && entry.key.chars().all(plain) && entry.key.len() <= 40;
        let hint = meant(entry.key, known);
        let text = match named {
            true => format!("unknown key `{}` {place}; {hint}", entry.key),
            false => format!("unknown key {place}; {hint}"),
        };
        self.fault(entry.line, text);
    }

    fn fault(&mut self, line: usize, text: impl Into<String>) {
        let origin = self.origin(line);
        self.faults.push(Some(origin), text);
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.source.as_bytes()[..span.start.min(self.source.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// `{ file = "…" }`: the value is in that file. No property of librdkafka that this build knows ends in `.file`.
fn file_of(value: &DeValue<'_>) -> Option<Secret> {
    let DeValue::Table(table) = value else {
        return None;
    };
    match table
        .iter()
        .next()
        .map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()))
    {
        Some(("file", DeValue::String(path))) if table.len() == 1 => {
            Some(Secret::File(path.to_string().into()))
        }
        _ => None,
    }
}

/// A whole number in decimal, however the file writes it.
fn integer(value: &DeValue<'_>) -> Option<String> {
    let DeValue::Integer(integer) = value else {
        return None;
    };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    Some(number.to_string())
}
