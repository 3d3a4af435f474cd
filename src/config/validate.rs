//! The merged texts become settings, or errors.

use std::mem;

use secrecy::ExposeSecret;

use super::errors::{ConfigErrors, Origin};
use super::key::{Draft, Key, Section};
use super::keys::{self, KEYS};
use super::layer::{Given, Layer, OutboxLayer, Values};
use super::routes::routes;
use super::settings::{Delivery, Kafka, Outbox, Settings};
use super::types::{Secret, check_topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it connects to Kafka: `migrate`, `status` and `emit` do not.
    pub kafka: bool,
}

/// The settings, and in `errors` what is wrong with them: they are valid only if that stays empty.
pub(super) fn validate(layer: &Layer, needs: Needs, errors: &mut ConfigErrors) -> Settings {
    let mut draft = Draft::default();
    let is_shared = |key: &&Key| !key.section.is_of_outbox() && key.section != Section::OUTSIDE;
    for key in KEYS.iter().filter(is_shared) {
        layer.values.store(key, &mut draft, errors);
    }
    require(layer, Section::DATABASE, "url", "database", errors);
    if needs.kafka {
        require(layer, Section::KAFKA, "brokers", "Kafka", errors);
    }
    complete_url(&layer.values, &mut draft, errors);
    check_token(layer, &draft.settings.kafka, errors);
    draft.settings.outboxes = outboxes(layer, &mut draft, errors);
    draft.settings
}

fn require(layer: &Layer, section: Section, name: &str, what: &str, errors: &mut ConfigErrors) {
    let is_given = layer.values.get(section, name).is_some();
    if let Some(key) = keys::find(section, name).filter(|_| !is_given && !layer.unparsable) {
        let (flag, _) = key.flag.unwrap_or_default();
        let variable = key.variable.unwrap_or_default();
        let head = section.head();
        let text = format!("no {what} is given: set {variable}, {flag}, or `{name}` in {head}");
        errors.push(None, text);
    }
}

/// Gives the URL the password if it has none of its own, and checks its certificates.
fn complete_url(values: &Values, draft: &mut Draft, errors: &mut ConfigErrors) {
    let given = values.get(Section::DATABASE, "url");
    let Some(given) = given.filter(|_| draft.settings.database.url.is_set()) else {
        return;
    };
    if let Some(key) = keys::find(Section::OUTSIDE, "password")
        && !draft.settings.database.url.has_password()
    {
        values.store(key, draft, errors);
    }
    if let Err(error) = draft.settings.database.url.check_certificates() {
        let text = format!("the database URL {error}");
        errors.push(Some(given.origin.clone()), text);
    }
}

/// SASL needs a mechanism, without which librdkafka assumes GSSAPI. The mechanism OAUTHBEARER and
/// the file with its token belong together.
fn check_token(layer: &Layer, kafka: &Kafka, errors: &mut ConfigErrors) {
    let property = |name: &str| kafka.properties.get(name).map(ExposeSecret::expose_secret);
    let mechanism = property("sasl.mechanism").or_else(|| property("sasl.mechanisms"));
    let protocol = layer.values.get(Section::PROPERTIES, "security.protocol");
    let is_sasl = property("security.protocol")
        .is_some_and(|name| name.to_ascii_lowercase().starts_with("sasl_"));
    if let (true, None, Some(protocol)) = (is_sasl, mechanism, protocol) {
        errors.push(
            Some(protocol.origin.clone()),
            "`security.protocol` with SASL needs `sasl.mechanism` in [kafka.properties]: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        );
    }
    let is_wanted = mechanism.is_some_and(|name| name.eq_ignore_ascii_case("OAUTHBEARER"));
    // what the methods of librdkafka need, it says itself
    let has_own = property("sasl.oauthbearer.method").is_some();
    let given = layer.values.get(Section::KAFKA, "token_file");
    if let (Some(path), Some(Given { origin, .. })) = (kafka.token_file.clone(), given) {
        let error = match is_wanted {
            true => Secret::File(path).read().err(),
            false => Some("is not used without sasl.mechanism OAUTHBEARER: set that in [kafka.properties], or remove the token".into()),
        };
        if let Some(error) = error {
            errors.push(Some(origin.clone()), format!("the token {error}"));
        }
    } else if is_wanted && !has_own && !layer.unparsable {
        errors.push(
            None,
            "the mechanism OAUTHBEARER needs a token: set KAFKA_TOKEN_FILE, or `token_file` in [kafka], to a file that holds it",
        );
    }
}

fn outboxes(all: &Layer, draft: &mut Draft, errors: &mut ConfigErrors) -> Vec<Outbox> {
    let mut outboxes: Vec<Outbox> = Vec::new();
    for layer in &all.outboxes {
        let Some(outbox) = outbox(layer, draft, !all.unparsable, errors) else {
            continue;
        };
        if outboxes.iter().any(|other| other.table == outbox.table) {
            let text = format!(
                "the table {} has two [[outbox]]: keep one, or name another table",
                outbox.table
            );
            errors.push(origin(layer, &["table"]), text);
        }
        if let Some(id) = outbox.delivery.transactional_id()
            && let Some(other) = outboxes
                .iter()
                .find(|other| other.delivery.transactional_id() == Some(id))
        {
            let text = format!(
                "the outboxes {} and {} have the same transactional id, and each would fence the other: give each its own, or remove both",
                other.table, outbox.table
            );
            errors.push(origin(layer, &["transactional_id"]), text);
        }
        outboxes.push(outbox);
    }
    outboxes
}

/// Where the first of these keys is given; else where the outbox is.
fn origin(layer: &OutboxLayer, names: &[&str]) -> Option<Origin> {
    let given = |name: &&str| layer.values.get(Section::OUTBOX, name);
    let given = names.iter().find_map(given);
    given.map_or_else(|| layer.origin.clone(), |given| Some(given.origin.clone()))
}

/// `None` without a valid table; other errors leave the default, so that the rest can be checked as
/// well.
fn outbox(
    layer: &OutboxLayer,
    draft: &mut Draft,
    is_whole: bool,
    errors: &mut ConfigErrors,
) -> Option<Outbox> {
    let mut wrong = Vec::new();
    let of_outbox = |key: &&Key| key.section.is_of_outbox() && key.section != Section::ROUTE;
    for key in KEYS.iter().filter(of_outbox) {
        if key.is_exactly_once && draft.outbox.delivery == Delivery::AtLeastOnce {
            for (name, given) in layer.values.of(key) {
                let text = format!(
                    "`{name}` belongs to the mode exactly-once: set `delivery = \"exactly-once\"` as well, or remove it"
                );
                errors.push(Some(given.origin.clone()), text);
            }
        } else if !layer.values.store(key, draft, errors) {
            wrong.push(key.name);
        }
    }
    let mut outbox = mem::take(&mut draft.outbox);
    let transactions = mem::take(&mut draft.transactions);
    if wrong.contains(&"table") {
        return None;
    }
    let mut templates = Vec::new();
    if !wrong.contains(&"topic") {
        templates.push((&outbox.topic, "a topic", "topic"));
    }
    if outbox.delivery != Delivery::AtLeastOnce {
        templates.push((&transactions.receipts, "a topic for receipts", "receipts"));
    }
    for (route, what, key) in templates {
        let topic = route.fixed(&outbox.table.name);
        if let Some(Err(error)) = topic.map(|topic| check_topic(&topic)) {
            let text = format!(
                "the table's name cannot be {what}: {error}; set `{key}` to a text without {{table}}"
            );
            errors.push(origin(layer, &[key, "table"]), text);
        }
    }
    check_headers(layer, &outbox, errors);
    let all = routes(&layer.routes, &outbox, is_whole, errors);
    outbox.routes = all;
    if outbox.columns.event_type.is_none() && outbox.topic.has_type() {
        let text = "the topic has {type}, and the outbox no column for it: remove that, or `type = \"none\"`";
        errors.push(origin(layer, &["topic"]), text);
    }
    let fixed = outbox.topic.fixed(&outbox.table.name);
    for topic in fixed.iter().chain(outbox.poison_topics.keys()) {
        if !outbox.topics.allow(topic) {
            let text = format!(
                "`topics` leaves out the topic {topic}, which is configured: add it, or remove that"
            );
            errors.push(origin(layer, &["topics"]), text);
        }
    }
    if outbox.delivery != Delivery::AtLeastOnce {
        outbox.delivery = Delivery::ExactlyOnce(transactions);
    }
    Some(outbox)
}

/// No header is set twice.
fn check_headers(layer: &OutboxLayer, outbox: &Outbox, errors: &mut ConfigErrors) {
    for section in [Section::HEADERS_FROM, Section::FIXED_HEADERS] {
        for name in outbox.profile_headers() {
            if let Some(given) = layer.values.get(section, name) {
                let text = format!(
                    "{} names the header `{name}`, which the relay sets: use another name, or `profile = \"none\"`",
                    section.head()
                );
                errors.push(Some(given.origin.clone()), text);
            }
        }
    }
    for name in outbox.fixed_headers.keys() {
        let fixed = layer.values.get(Section::FIXED_HEADERS, name);
        if let Some(given) = fixed.filter(|_| outbox.columns.has_header(name)) {
            let text = format!(
                "[outbox.fixed_headers] names the header `{name}`, which [outbox.headers_from] has as well: keep one"
            );
            errors.push(Some(given.origin.clone()), text);
        }
    }
}
