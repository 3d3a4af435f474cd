//! What is in force and where it came from, in the form of the file: it can be read back.

use std::fmt;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::faults::{Faults, Origin};
use super::flags::Overrides;
use super::layers::{Given, Layer, Needs, OutboxLayer, merged};
use super::secret::Secret;
use super::settings::defaults;
use super::{Columns, DatabaseUrl, Outbox, columns, settle};

/// What stands where a secret would.
const HIDDEN: &str = "***";

const COLUMNS: &str = "[outbox.columns]";

/// Everything that is configured, each value with its origin and without its secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct InForce {
    /// The sections, in the order of a file.
    pub sections: Vec<Section>,
}

/// A section of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Its head, as in `[[outbox]]`.
    pub head: &'static str,
    /// Which outbox it is about, counted from 0.
    pub outbox: Option<usize>,
    /// Its keys.
    pub values: Vec<InForceValue>,
}

/// A key and its value.
#[derive(Debug, PartialEq, Eq)]
pub struct InForceValue {
    /// The key, as in the file.
    pub key: String,
    /// The value; `None` where none is given and there is no default.
    pub value: Option<Shown>,
    /// Where it was given; `None` for a default.
    pub origin: Option<Origin>,
}

/// A value as it may be shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// In quotes.
    Text(String),
    /// Without.
    Number(u64),
    /// Without, too.
    Choice(bool),
    /// In that file, which is not read for it.
    File(PathBuf),
}

impl InForce {
    /// Reads the same layers as [`super::Settings::load`]. Nothing is required: what is not given is shown as such. `takes` says whether Kafka's library
    /// takes a property with a value: one that it does not know may be a secret under a name with a slip.
    ///
    /// # Errors
    /// Everything that is wrong with what is given, at once.
    pub fn load(
        overrides: Overrides,
        env: &dyn Fn(&str) -> Option<String>,
        takes: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let layer = merged(overrides, env, &mut faults);
        let in_force = Self::of(&layer, takes);
        settle::settle(layer, Needs { kafka: false }, &mut faults);
        faults.given_only().or(Some(in_force))
    }

    // Each field is named, so that a new one cannot be forgotten here.
    fn of(layer: &Layer, takes: &dyn Fn(&str, &str) -> bool) -> Self {
        let Layer {
            database_url,
            // Given by the environment alone, and a secret: it is no part of a file.
            database_password: _,
            kafka_brokers,
            token_file,
            stop_timeout,
            leader_timeout,
            listen,
            stuck_after,
            show_payloads,
            http_token,
            otlp_endpoint,
            otlp_traces_endpoint,
            properties,
            outboxes,
            torn: _,
        } = layer;
        let usual = |duration| Some(humantime::format_duration(duration).to_string());
        let stop = usual(defaults::STOP_TIMEOUT);
        let leader = usual(defaults::LEADER_TIMEOUT);
        let stuck = usual(defaults::STUCK_AFTER);
        let properties = properties.iter().map(|(name, given)| {
            let shown = match &given.value {
                Secret::File(path) => Shown::File(path.clone()),
                Secret::Text(_) if is_secret(name) => Shown::Text(HIDDEN.into()),
                Secret::Text(text) if !takes(name, text.expose_secret()) => {
                    Shown::Text(HIDDEN.into())
                }
                Secret::Text(text) => Shown::Text(text.expose_secret().into()),
            };
            // A dot in a name would be a table in a table.
            let key = quoted(name);
            InForceValue::given(&key, shown, &given.origin)
        });
        let mut sections = vec![
            Section::new("[database]", vec![url(database_url.as_ref())]),
            Section::new(
                "[kafka]",
                vec![
                    text("brokers", kafka_brokers.as_ref(), None),
                    text("token_file", token_file.as_ref(), None),
                ],
            ),
            Section::new("[kafka.properties]", properties.collect()),
            Section::new(
                "[relay]",
                vec![
                    text("stop_timeout", stop_timeout.as_ref(), stop),
                    text("leader_timeout", leader_timeout.as_ref(), leader),
                ],
            ),
            Section::new(
                "[http]",
                vec![
                    text("listen", listen.as_ref(), Some(defaults::LISTEN.into())),
                    text("stuck_after", stuck_after.as_ref(), stuck),
                    token(http_token.as_ref()),
                    choice("show_payloads", show_payloads.as_ref()),
                ],
            ),
            Section::new(
                "[telemetry]",
                vec![
                    text("otlp_endpoint", otlp_endpoint.as_ref(), None),
                    text("otlp_traces_endpoint", otlp_traces_endpoint.as_ref(), None),
                ],
            ),
        ];
        for (index, outbox) in outboxes.iter().enumerate() {
            sections.extend(of_outbox(outbox, index));
        }
        Self { sections }
    }
}

fn of_outbox(layer: &OutboxLayer, index: usize) -> [Section; 3] {
    let OutboxLayer {
        origin: _,
        table,
        topic,
        sweep,
        poison,
        in_flight_rows,
        in_flight_bytes,
        max_rate,
        delivery,
        transactional_id,
        receipts,
        columns: mapped,
        poison_topics,
    } = layer;
    let usual = Outbox::default();
    let usual_sweep = humantime::format_duration(usual.sweep).to_string();
    let usual_bytes = format!("{}MiB", usual.in_flight_bytes >> 20);
    // What belongs to a mode has no default in another.
    let once = delivery.as_ref().map(|given| given.value.as_str()) == Some("exactly-once");
    let usual_receipts = once.then(|| defaults::RECEIPTS.to_owned());
    let values = vec![
        text("table", table.as_ref(), Some(usual.table.to_string())),
        text("topic", topic.as_ref(), Some(usual.topic.to_string())),
        text("sweep", sweep.as_ref(), Some(usual_sweep)),
        text("poison", poison.as_ref(), Some("park".into())),
        number(
            "in_flight_rows",
            in_flight_rows.as_ref(),
            usual.in_flight_rows.to_string(),
        ),
        number("in_flight_bytes", in_flight_bytes.as_ref(), usual_bytes),
        number("max_rate", max_rate.as_ref(), "off".into()),
        text("delivery", delivery.as_ref(), Some("at-least-once".into())),
        text("transactional_id", transactional_id.as_ref(), None),
        text("receipts", receipts.as_ref(), usual_receipts),
    ];
    let usual = Columns::default();
    let column = |key: &&str| {
        let name = usual.name(key).map(str::to_owned);
        text(key, mapped.get(*key), name)
    };
    let columns = columns::KEYS.iter().map(column).collect();
    let section = |head, values| Section {
        outbox: Some(index),
        ..Section::new(head, values)
    };
    let policies = poison_topics
        .iter()
        .map(|(topic, policy)| text(&quoted(topic), Some(policy), None));
    let policies = policies.collect();
    [
        section("[[outbox]]", values),
        section(COLUMNS, columns),
        section("[outbox.poison_topics]", policies),
    ]
}

impl Section {
    fn new(head: &'static str, values: Vec<InForceValue>) -> Self {
        Self {
            head,
            outbox: None,
            values,
        }
    }

    /// Where a value stands, in one word: `database.url`, `outbox[0].sweep`.
    pub fn path(&self, value: &InForceValue) -> String {
        let head = self.head.trim_matches(['[', ']']);
        match self.outbox {
            Some(index) => {
                let head = head.replacen("outbox", &format!("outbox[{index}]"), 1);
                format!("{head}.{}", value.key)
            }
            None => format!("{head}.{}", value.key),
        }
    }
}

impl InForceValue {
    fn given(key: &str, value: Shown, origin: &Origin) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(value),
            origin: Some(origin.clone()),
        }
    }

    /// Where it came from, in words.
    pub fn from(&self) -> String {
        match (&self.origin, &self.value) {
            (Some(origin), _) => origin.to_string(),
            (None, Some(_)) => "default".into(),
            (None, None) => "not given".into(),
        }
    }
}

fn text(key: &str, given: Option<&Given>, usual: Option<String>) -> InForceValue {
    match given {
        Some(given) => InForceValue::given(key, Shown::Text(given.value.clone()), &given.origin),
        None => InForceValue {
            key: key.to_owned(),
            value: usual.map(Shown::Text),
            origin: None,
        },
    }
}

/// A number, or a text with a unit or a word.
fn number(key: &str, given: Option<&Given>, usual: String) -> InForceValue {
    let mut value = text(key, given, Some(usual));
    if let Some(Shown::Text(text)) = &value.value
        && let Ok(number) = text.trim().parse()
    {
        value.value = Some(Shown::Number(number));
    }
    value
}

/// One that is true only where somebody said so.
fn choice(key: &str, given: Option<&Given>) -> InForceValue {
    let is_chosen = given.is_some_and(|given| given.value == "true");
    InForceValue {
        key: key.to_owned(),
        value: Some(Shown::Choice(is_chosen)),
        origin: given.map(|given| given.origin.clone()),
    }
}

/// The file of the token. One that a variable holds itself is a secret, and no part of a file.
fn token(given: Option<&Given<Secret>>) -> InForceValue {
    InForceValue {
        key: "token_file".to_owned(),
        value: given.and_then(|given| match &given.value {
            Secret::File(path) => Some(Shown::Text(path.to_string_lossy().into_owned())),
            Secret::Text(_) => None,
        }),
        origin: given.map(|given| given.origin.clone()),
    }
}

fn url(given: Option<&Given<Secret>>) -> InForceValue {
    let Some(given) = given else {
        return text("url", None, None);
    };
    let shown = match &given.value {
        Secret::File(path) => Shown::File(path.clone()),
        Secret::Text(text) => {
            let parsed = DatabaseUrl::parse(text.expose_secret());
            Shown::Text(
                parsed.map_or_else(|_| HIDDEN.to_owned(), |url| url.without_secrets(HIDDEN)),
            )
        }
    };
    InForceValue::given("url", shown, &given.origin)
}

/// Whether a property of librdkafka is one that must not be shown. By its words: a name too many does no harm.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 7] = [
        "password",
        "passphrase",
        "secret",
        "pem",
        "token",
        "oauthbearer.config",
        "jaas",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Text as TOML has it, for which JSON's is as good.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Choice(value) => write!(f, "{value}"),
            Self::File(path) => write!(f, "{{ file = {} }}", quoted(&path.to_string_lossy())),
        }
    }
}

/// A file that says the same, each value with its origin behind it.
impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = |section: &&Section| !section.values.is_empty();
        for (index, section) in self.sections.iter().filter(filled).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}", section.head)?;
            for value in &section.values {
                // A table may lack a column that nobody named, and the usual port may be another's: to write such a default down would ask for it.
                let wanted_where_named = section.head == COLUMNS || value.key == "listen";
                let unnamed = wanted_where_named && value.origin.is_none();
                let mark = if unnamed { "# " } else { "" };
                let line = match &value.value {
                    Some(shown) => format!("{mark}{} = {shown}", value.key),
                    None => format!("# {} =", value.key),
                };
                writeln!(f, "{line:48}  # {}", value.from())?;
            }
        }
        Ok(())
    }
}
