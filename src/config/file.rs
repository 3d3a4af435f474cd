//! The TOML file: each value as text, with its line.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigErrors, Origin, meant};
use super::key::{Key, Rule, Section};
use super::keys;
use super::layer::{Layer, OutboxLayer, RouteLayer, Values};
use super::types::Secret;

/// Reads the file at `path`, which `origin` names.
pub(super) fn open(path: &Path, origin: Origin, errors: &mut ConfigErrors) -> Layer {
    let text = std::fs::read(path).map_err(|error| error.to_string());
    let text =
        text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into()));
    match text {
        Ok(text) => read(path, &text, errors),
        Err(reason) => {
            let path = path.display();
            let text = format!("cannot read the configuration file {path}: {reason}");
            errors.push(Some(origin), text);
            Layer {
                unparsable: true,
                ..Layer::default()
            }
        }
    }
}

/// Reads `source`, the text of the file at `path`. What is wrong goes to `errors`; the rest is
/// still used, so that its values are validated in the same run.
pub(super) fn read(path: &Path, source: &str, errors: &mut ConfigErrors) -> Layer {
    let (root, syntax) = DeTable::parse_recoverable(source);
    let mut reader = Reader {
        path,
        source,
        errors,
        unparsable: BTreeSet::new(),
    };
    for error in &syntax {
        let line = reader.line(&error.span().unwrap_or(source.len()..source.len()));
        // what the parser says of a line after its first error is a guess
        if reader.unparsable.insert(line) {
            // `message()` is about the grammar alone, while the whole error quotes the line with
            // its secrets
            reader.error(line, format!("this is not TOML: {}", error.message()));
        }
    }
    let mut layer = Layer {
        unparsable: !syntax.is_empty(),
        ..Layer::default()
    };
    reader.root(root.get_ref(), &mut layer);
    layer
}

struct Reader<'a> {
    path: &'a Path,
    source: &'a str,
    errors: &'a mut ConfigErrors,
    /// Lines with a syntax error: the parser guesses what stands there, so nothing more is said
    /// about them.
    unparsable: BTreeSet<usize>,
}

/// A key with its value, on a line without a syntax error.
struct Entry<'t, 'i> {
    key: &'t str,
    value: &'t DeValue<'i>,
    line: usize,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>, layer: &mut Layer) {
        for entry in self.entries(root) {
            match keys::within(None).find(|section| section.name() == entry.key) {
                Some(Section::OUTBOX) => self.outboxes(&entry, layer),
                Some(section) => self.section(section, &entry, &mut layer.values),
                None => {
                    let known: Vec<_> = keys::within(None).map(Section::name).collect();
                    self.unknown(&entry, "at the top of the file", &known);
                }
            }
        }
    }

    fn outboxes(&mut self, entry: &Entry<'_, '_>, layer: &mut Layer) {
        for (line, table) in self.list(Section::OUTBOX, entry, ["outboxes are", "an outbox is"]) {
            let mut outbox = OutboxLayer {
                origin: Some(self.origin(line)),
                ..OutboxLayer::default()
            };
            self.keys(Section::OUTBOX, table, &mut outbox.values);
            let is_route = |entry: &Entry<'_, '_>| entry.key == Section::ROUTE.name();
            if let Some(routes) = self.entries(table).into_iter().find(is_route) {
                self.routes(&routes, &mut outbox.routes);
            }
            layer.outboxes.push(outbox);
        }
    }

    fn routes(&mut self, entry: &Entry<'_, '_>, routes: &mut Vec<RouteLayer>) {
        for (line, table) in self.list(Section::ROUTE, entry, ["routes are", "a route is"]) {
            let mut route = RouteLayer {
                origin: self.origin(line),
                values: Values::default(),
            };
            self.keys(Section::ROUTE, table, &mut route.values);
            routes.push(route);
        }
    }

    /// Returns the sections of a list, each with its line. `words` begin what is said of others.
    fn list<'t, 'i>(
        &mut self,
        section: Section,
        entry: &Entry<'t, 'i>,
        [many, one]: [&str; 2],
    ) -> Vec<(usize, &'t DeTable<'i>)> {
        let head = section.head();
        let DeValue::Array(list) = entry.value else {
            self.error(
                entry.line,
                format!("{many} written with two brackets: {head}"),
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in list.iter() {
            let line = self.line(&element.span());
            match element.get_ref() {
                DeValue::Table(table) => tables.push((line, table)),
                _ => self.error(line, format!("{one} a section of its own: {head}")),
            }
        }
        tables
    }

    fn section(&mut self, section: Section, entry: &Entry<'_, '_>, values: &mut Values) {
        match entry.value {
            DeValue::Table(table) => self.keys(section, table, values),
            _ => self.error(
                entry.line,
                format!(
                    "`{}` is a section: write {} on a line of its own",
                    entry.key,
                    section.head()
                ),
            ),
        }
    }

    fn keys(&mut self, section: Section, table: &DeTable<'_>, values: &mut Values) {
        for entry in self.entries(table) {
            let mut inner = keys::within(Some(section));
            if let Some(key) = keys::find(section, entry.key) {
                self.value(key, entry.key.to_owned(), &entry, values);
            } else if let Some(inner) = inner.find(|inner| inner.name() == entry.key) {
                // A list is read with what it belongs to.
                if !inner.is_list() {
                    self.section(inner, &entry, values);
                }
            } else {
                let keys = keys::KEYS.iter().filter(|key| key.section == section);
                let inner = keys::within(Some(section)).map(Section::name);
                let known: Vec<_> = keys
                    .flat_map(|key| key.names().iter().copied())
                    .chain(inner)
                    .collect();
                self.unknown(&entry, &format!("in {}", section.head()), &known);
            }
        }
    }

    /// `compression.type` without quotes is a table in a table to TOML: where names are the user's,
    /// they are joined again.
    fn value(&mut self, key: &Key, name: String, entry: &Entry<'_, '_>, values: &mut Values) {
        let value = written(&key.rule, entry.value);
        match (value, entry.value) {
            (Ok(value), _) => values.lay(key, &name, value, self.origin(entry.line)),
            (Err(_), DeValue::Table(table)) if key.names().is_empty() => {
                for inner in self.entries(table) {
                    self.value(key, format!("{name}.{}", inner.key), &inner, values);
                }
            }
            (Err(form), _) if self.can_repeat(&name) => {
                self.error(entry.line, format!("`{name}` must be {form}"));
            }
            (Err(form), _) => self.error(entry.line, format!("{} must be {form}", key.noun)),
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
        // The table sorts its keys by name.
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let entries = keys.into_iter().map(entry);
        entries
            .filter(|entry| !self.unparsable.contains(&entry.line))
            .collect()
    }

    /// A misplaced quote can leave a secret where a key stands, so no key of a broken file is
    /// repeated.
    fn can_repeat(&self, key: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        self.unparsable.is_empty() && key.chars().all(plain) && key.len() <= 40
    }

    fn unknown(&mut self, entry: &Entry<'_, '_>, place: &str, known: &[&str]) {
        let hint = meant(entry.key, known);
        let text = match self.can_repeat(entry.key) {
            true => format!("unknown key `{}` {place}; {hint}", entry.key),
            false => format!("unknown key {place}; {hint}"),
        };
        self.error(entry.line, text);
    }

    fn error(&mut self, line: usize, text: impl Into<String>) {
        let origin = self.origin(line);
        self.errors.push(Some(origin), text);
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

/// The value as the rule wants it written, or the form that it wants.
fn written(rule: &Rule, value: &DeValue<'_>) -> Result<Secret, &'static str> {
    let form = match rule {
        Rule::Count(..) => "a whole number, without quotes",
        Rule::Choice(_) => "true or false, without quotes",
        Rule::List(_) => "a list of strings: [\"...\", \"...\"]",
        Rule::Properties(_) => {
            "a string in quotes, a whole number, true or false, { file = \"...\" } or { env = \"...\" }"
        }
        _ => "a string in quotes",
    };
    let takes_numbers = matches!(
        rule,
        Rule::Count(..) | Rule::OptionalCount(..) | Rule::Size(..) | Rule::Properties(_)
    );
    let text = match (value, rule) {
        (DeValue::String(path), Rule::SecretFile(_)) => {
            return Ok(Secret::File(path.to_string().into()));
        }
        (DeValue::String(_), Rule::Count(..) | Rule::Choice(_) | Rule::List(_)) => None,
        (DeValue::String(text), _) => Some(text.to_string()),
        (DeValue::Boolean(value), Rule::Choice(_) | Rule::Properties(_)) => Some(value.to_string()),
        // In decimal, however the file writes it.
        (DeValue::Integer(number), _) if takes_numbers => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        (DeValue::Array(list), Rule::List(_)) => {
            let texts = list.iter().map(|it| it.get_ref().as_str());
            texts
                .collect::<Option<Vec<_>>>()
                .map(|texts| texts.join(","))
        }
        (DeValue::Table(table), Rule::Secret(_) | Rule::Properties(_)) => {
            return elsewhere(table).ok_or(form);
        }
        _ => None,
    };
    text.map(|text| Secret::Text(text.into())).ok_or(form)
}

/// `{ file = "..." }` or `{ env = "..." }`: the value is in that file or variable. No property of
/// librdkafka has a name that ends in `.file` or `.env`.
fn elsewhere(table: &DeTable<'_>) -> Option<Secret> {
    let (key, value) = table.iter().next()?;
    match (key.get_ref().as_ref(), value.get_ref()) {
        ("file", DeValue::String(path)) if table.len() == 1 => {
            Some(Secret::File(path.to_string().into()))
        }
        ("env", DeValue::String(name)) if table.len() == 1 => {
            Some(Secret::Variable(name.to_string()))
        }
        _ => None,
    }
}
