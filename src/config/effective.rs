//! The effective values and their origins, in the form of the file: it can be read back.

use std::fmt;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::errors::{ConfigErrors, Origin};
use super::flags::Overrides;
use super::key::{Key, Rule, Section};
use super::keys::{self, KEYS};
use super::layer::{Given, Values};
use super::load::{Variables, merged};
use super::types::{Columns, DatabaseUrl, Secret};
use super::validate::{Needs, validate};

/// What stands where a secret would.
const HIDDEN: &str = "***";

/// Whether librdkafka accepts a property with a value.
type Accepts<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Everything that is configured, each value with its origin and without secrets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    pub sections: Vec<EffectiveSection>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EffectiveSection {
    /// Its head, as in `[[outbox]]`.
    pub head: &'static str,
    /// The same as a path: `database`, `outbox[0].columns`.
    path: String,
    pub values: Vec<EffectiveValue>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EffectiveValue {
    pub key: String,
    /// The value; null where none is given and there is no default. `{"file": …}` is a value in a
    /// file, which is not read for it, and `{"env": …}` one in a variable.
    pub value: Value,
    /// Where it was given; `None` for a default.
    pub origin: Option<Origin>,
}

impl Effective {
    /// Reads the same sources as [`super::Settings::load`]. Nothing is required: what is not given
    /// is shown as such. A property that librdkafka does not accept is hidden: it may be a secret
    /// under a mistyped name.
    pub(crate) fn load(
        overrides: Overrides,
        variables: Variables<'_>,
        accepts: Accepts<'_>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let layer = merged(overrides, variables, &mut errors);
        let section = |section: Section, outbox: &str, values: &Values| EffectiveSection {
            head: section.head(),
            path: section
                .head()
                .trim_matches(['[', ']'])
                .replacen("outbox", outbox, 1),
            values: values_of(section, values, accepts),
        };
        let (of_outbox, global): (Vec<_>, Vec<_>) =
            keys::sections().partition(|it| it.is_of_outbox());
        let global = global.into_iter();
        let mut sections: Vec<_> = global.map(|it| section(it, "", &layer.values)).collect();
        for (index, outbox) in layer.outboxes.iter().enumerate() {
            let (of_outbox, name) = (of_outbox.iter(), format!("outbox[{index}]"));
            let single = of_outbox.filter(|it| **it != Section::ROUTE);
            sections.extend(single.map(|it| section(*it, &name, &outbox.values)));
            for (index, route) in outbox.routes.iter().enumerate() {
                let path = format!("{name}.route[{index}]");
                sections.push(EffectiveSection {
                    path,
                    ..section(Section::ROUTE, &name, &route.values)
                });
            }
        }
        validate(&layer, Needs { kafka: false }, &mut errors);
        errors.given_only().or(Self { sections })
    }
}

fn values_of(section: Section, values: &Values, accepts: Accepts<'_>) -> Vec<EffectiveValue> {
    // What belongs to the mode exactly-once has no default in the other.
    let delivery = values.get(section, "delivery").map(|given| &given.value);
    let is_exactly_once =
        matches!(delivery, Some(Secret::Text(mode)) if mode.expose_secret() == "exactly-once");
    let mut shown = Vec::new();
    for key in KEYS.iter().filter(|key| key.section == section) {
        let has_default = is_exactly_once || !key.is_exactly_once;
        let names: Vec<&str> = match key.names() {
            // The names are the user's.
            [] => values.of(key).map(|(name, _)| name).collect(),
            names => names.to_vec(),
        };
        for name in names {
            let given = values.get(section, name);
            let columns = Columns::default();
            let default = match section {
                Section::COLUMNS => columns.name(name),
                _ => key.default.filter(|_| has_default),
            };
            shown.push(EffectiveValue {
                // A dot in a name of the user's would be a table in a table.
                key: match key.names() {
                    [] => quoted(name),
                    _ => name.to_owned(),
                },
                value: match given {
                    Some(given) => of_given(key, name, given, accepts),
                    None => default.map_or(Value::Null, |text| of_text(key, text)),
                },
                origin: given.map(|given| given.origin.clone()),
            });
        }
    }
    shown
}

fn of_given(key: &Key, name: &str, given: &Given, accepts: Accepts<'_>) -> Value {
    let text = match (&given.value, &key.rule) {
        // The file has the path. What a variable holds itself is no part of a file.
        (Secret::File(path), Rule::SecretFile(_)) => path.to_string_lossy().into_owned(),
        (Secret::Text(_), Rule::SecretFile(_)) => return Value::Null,
        (Secret::File(path), _) => return serde_json::json!({ "file": path }),
        (Secret::Variable(name), _) => return serde_json::json!({ "env": name }),
        (Secret::Text(text), _) => text.expose_secret().to_owned(),
    };
    match &key.rule {
        Rule::Secret(_) => DatabaseUrl::parse(&text)
            .map_or_else(|_| HIDDEN.into(), |url| url.without_secrets(HIDDEN).into()),
        Rule::Properties(_) if is_secret(name) || !accepts(name, &text) => HIDDEN.into(),
        _ => of_text(key, &text),
    }
}

fn of_text(key: &Key, text: &str) -> Value {
    let number = || text.trim().parse::<u64>().ok().map(Value::from);
    match &key.rule {
        Rule::Choice(_) => Some((text == "true").into()),
        Rule::List(_) => Some(text.split(',').map(str::trim).collect()),
        Rule::Count(..) | Rule::OptionalCount(..) | Rule::Size(..) => number(),
        _ => None,
    }
    .unwrap_or_else(|| text.into())
}

impl EffectiveSection {
    /// Where a value stands, as one path: `database.url`, `outbox[0].sweep`.
    pub(crate) fn path(&self, value: &EffectiveValue) -> String {
        format!("{}.{}", self.path, value.key)
    }
}

impl EffectiveValue {
    pub(crate) fn from(&self) -> String {
        match (&self.origin, &self.value) {
            (Some(origin), _) => origin.to_string(),
            (None, Value::Null) => "not given".into(),
            (None, _) => "default".into(),
        }
    }
}

/// Whether a property of librdkafka must not be shown, by the words in its name: a name too many
/// does no harm.
fn is_secret(name: &str) -> bool {
    const WORDS: &str = "password passphrase secret pem token oauthbearer.config jaas";
    let name = name.to_ascii_lowercase();
    WORDS.split(' ').any(|word| name.contains(word))
}

/// Text as TOML writes it, as which JSON's form will do.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A file that means the same, each value with its origin behind it.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = |section: &&EffectiveSection| !section.values.is_empty();
        for (index, section) in self.sections.iter().filter(filled).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}", section.head)?;
            for value in &section.values {
                // A table may lack a column that is not named, and another relay may have the
                // default port: written down, these defaults would be required.
                let is_required_if_named =
                    section.head == Section::COLUMNS.head() || value.key == "listen";
                let is_left_out = is_required_if_named && value.origin.is_none();
                let mark = if is_left_out { "# " } else { "" };
                let line = match &value.value {
                    Value::Null => format!("# {} =", value.key),
                    Value::Object(place) => {
                        let parts = place.iter().map(|(kind, name)| format!("{kind} = {name}"));
                        format!("{} = {{ {} }}", value.key, parts.collect::<String>())
                    }
                    shown => format!("{mark}{} = {shown}", value.key),
                };
                writeln!(f, "{line:48}  # {}", value.from())?;
            }
        }
        Ok(())
    }
}
