//! The merged texts become settings, or faults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::faults::{Faults, Origin};
use super::layers::{Given, Layer, Needs, OutboxLayer};
use super::secret::Secret;
use super::settings::{
    Database, Delivery, Http, Kafka, Listen, Outbox, Poison, Settings, Telemetry, Transactions,
    defaults,
};
use super::{Columns, DatabaseUrl, Route, TableName, check_topic, endpoint, values};

/// The settings, and in `faults` what is wrong with them: they are good only if that stayed empty.
pub(super) fn settle(layer: Layer, needs: Needs, faults: &mut Faults) -> Option<Settings> {
    if layer.database_url.is_none() && !layer.torn {
        faults.push(
            None,
            "no database is given: set DATABASE_URL, --database-url, or `url` in [database]",
        );
    }
    if layer.kafka_brokers.is_none() && needs.kafka && !layer.torn {
        faults.push(
            None,
            "no Kafka is given: set KAFKA_BROKERS, --kafka-brokers, or `brokers` in [kafka]",
        );
    }
    let url = database(layer.database_url, layer.database_password, faults);
    let brokers = take(layer.kafka_brokers, "the list of brokers", faults, |text| {
        brokers(&text)
    });
    let stop_timeout = take(layer.stop_timeout, "the stop timeout", faults, |text| {
        values::duration(&text, defaults::STOP_TIMEOUT_BOUNDS)
    });
    let listen = take(layer.listen, "the HTTP address", faults, |text| {
        Listen::parse(&text)
    });
    let stuck_after = take(
        layer.stuck_after,
        "the time after which the relay is stuck",
        faults,
        |text| values::duration(&text, defaults::STUCK_AFTER_BOUNDS),
    );
    let token = take(
        layer.http_token,
        "the token for the HTTP port",
        faults,
        http_token,
    );
    let leader_timeout = take(layer.leader_timeout, "the leader timeout", faults, |text| {
        values::duration(&text, defaults::LEADER_TIMEOUT_BOUNDS)
    });
    let collector = take(
        layer.otlp_endpoint,
        "the collector's address",
        faults,
        |text| endpoint::of_collector(&text),
    );
    let traces = take(
        layer.otlp_traces_endpoint,
        "the collector's address for traces",
        faults,
        |text| endpoint::of_traces(&text),
    );
    let properties = properties(layer.properties, faults);
    let token_file = token_file(layer.token_file, layer.torn, &properties, faults);
    let outboxes = outboxes(layer.outboxes, faults);
    Some(Settings {
        database: Database { url: url? },
        kafka: Kafka {
            brokers: brokers.unwrap_or_default(),
            token_file,
            properties,
        },
        outboxes,
        stop_timeout: stop_timeout.unwrap_or(defaults::STOP_TIMEOUT),
        http: Http {
            listen: listen.unwrap_or(Listen::Default),
            stuck_after: stuck_after.unwrap_or(defaults::STUCK_AFTER),
            token,
            show_payloads: layer.show_payloads.is_some_and(|it| it.value == "true"),
        },
        telemetry: Telemetry {
            traces: traces.or(collector),
        },
        leader_timeout: leader_timeout.unwrap_or(defaults::LEADER_TIMEOUT),
    })
}

/// The value that `parse` makes of what was given; its fault is told with `what` in front.
fn take<T, U>(
    given: Option<Given<T>>,
    what: &str,
    faults: &mut Faults,
    parse: impl FnOnce(T) -> Result<U, String>,
) -> Option<U> {
    let Given { value, origin } = given?;
    match parse(value) {
        Ok(value) => Some(value),
        Err(fault) => {
            faults.push(Some(origin), format!("{what} {fault}"));
            None
        }
    }
}

/// The URL, with the password where it has none of its own, and with certificates that can be used.
fn database(
    url: Option<Given<Secret>>,
    password: Option<Given<Secret>>,
    faults: &mut Faults,
) -> Option<DatabaseUrl> {
    let origin = url.as_ref().map(|url| url.origin.clone());
    let mut url = take(url, "the database URL", faults, |url| {
        DatabaseUrl::parse(url.read()?.expose_secret())
    })?;
    if !url.has_password() {
        let password = take(password, "the password", faults, Secret::read);
        if let Some(password) = password {
            url.set_password(password.expose_secret());
        }
    }
    if let Err(fault) = url.check_certificates() {
        faults.push(origin, format!("the database URL {fault}"));
    }
    Some(url)
}

/// A token that cannot be guessed, and that a header can carry.
fn http_token(given: Secret) -> Result<SecretString, String> {
    let token = given.read()?;
    let text = token.expose_secret();
    let bounds = defaults::HTTP_TOKEN_BOUNDS;
    if !bounds.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "must have {} to {} characters, letters, digits and signs without blanks: `openssl rand -hex 32` makes one",
            bounds.start(),
            bounds.end()
        ));
    }
    Ok(token)
}

/// The file with the token for OAUTHBEARER, if that is the mechanism.
fn token_file(
    given: Option<Given>,
    torn: bool,
    properties: &BTreeMap<String, SecretString>,
    faults: &mut Faults,
) -> Option<PathBuf> {
    let property = |name: &str| properties.get(name).map(ExposeSecret::expose_secret);
    let mechanism = property("sasl.mechanism").or_else(|| property("sasl.mechanisms"));
    let wanted = mechanism.is_some_and(|name| name.eq_ignore_ascii_case("OAUTHBEARER"));
    // What librdkafka's own method needs, it says itself.
    let has_own = property("sasl.oauthbearer.method").is_some();
    if wanted && given.is_none() && !has_own && !torn {
        faults.push(
            None,
            "the mechanism OAUTHBEARER needs a token: set KAFKA_TOKEN_FILE, or `token_file` in [kafka], to a file that holds it",
        );
    }
    take(given, "the token", faults, |path| {
        if !wanted {
            return Err("is of no use without sasl.mechanism OAUTHBEARER: set that in [kafka.properties], or leave the token out".into());
        }
        let path = PathBuf::from(path);
        Secret::File(path.clone()).read().map(|_| path)
    })
}

/// Brokers as librdkafka reads them: `host`, `host:port` or `SSL://host:port`, with commas.
fn brokers(text: &str) -> Result<String, String> {
    let text = text.trim();
    for broker in text.split(',').map(str::trim) {
        let address = broker
            .split_once("://")
            .map_or(broker, |(_, address)| address);
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let illegal = |c: char| c.is_whitespace() || c.is_control() || "/@,".contains(c);
        if host.is_empty() || host.contains(illegal) {
            return Err(
                "must be host:port, or several with commas, such as kafka1:9092,kafka2:9092".into(),
            );
        }
        if port.is_some_and(|port| !port.parse().is_ok_and(|port: u16| port > 0)) {
            return Err("has a port that is not a number from 1 to 65535".into());
        }
    }
    Ok(text.into())
}

fn properties(
    given: BTreeMap<String, Given<Secret>>,
    faults: &mut Faults,
) -> BTreeMap<String, SecretString> {
    let mut properties = BTreeMap::new();
    for (name, given) in given {
        let origin = given.origin.clone();
        let what = "the value of a property";
        let Some(value) = take(Some(given), what, faults, Secret::read) else {
            continue;
        };
        // librdkafka reads C strings
        if name.contains('\0') || value.expose_secret().contains('\0') {
            faults.push(
                Some(origin),
                "a property in [kafka.properties] contains a NUL character: take it out",
            );
        } else if let Some(reason) = super::properties::owned(&name) {
            faults.push(
                Some(origin),
                format!("`{name}` cannot be set in [kafka.properties]: {reason}"),
            );
        } else if let Err(fault) = super::properties::check_file(&name, value.expose_secret()) {
            faults.push(Some(origin), format!("`{name}`: {fault}"));
        } else {
            properties.insert(name, value);
        }
    }
    properties
}

fn outboxes(layers: Vec<OutboxLayer>, faults: &mut Faults) -> Vec<Outbox> {
    let mut outboxes: Vec<Outbox> = Vec::new();
    for layer in layers {
        let origin = layer
            .table
            .as_ref()
            .map(|table| table.origin.clone())
            .or_else(|| layer.origin.clone());
        let Some(outbox) = outbox(layer, origin.clone(), faults) else {
            continue;
        };
        if outboxes.iter().any(|other| other.table == outbox.table) {
            let text = format!(
                "the table {} has two [[outbox]]: keep one, or name another table",
                outbox.table
            );
            faults.push(origin, text);
        }
        outboxes.push(outbox);
    }
    outboxes
}

/// `None` when it has no table; other faults leave the default, so that the rest can be checked as well.
fn outbox(layer: OutboxLayer, origin: Option<Origin>, faults: &mut Faults) -> Option<Outbox> {
    let mut outbox = Outbox::default();
    let named = layer.table.is_some();
    let table = take(layer.table, "the table", faults, |text| {
        TableName::parse(&text)
    });
    let topic_origin = layer
        .topic
        .as_ref()
        .map(|topic| topic.origin.clone())
        .or(origin);
    let routed = layer.topic.is_some();
    let topic = take(layer.topic, "the topic", faults, |text| Route::parse(&text));
    let sweep = take(layer.sweep, "the sweep", faults, |text| sweep(&text));
    let poison = take(layer.poison, "the poison policy", faults, |text| {
        Poison::parse(&text)
    });
    let rows = take(
        layer.in_flight_rows,
        "the number of rows in flight",
        faults,
        |text| values::count(&text, defaults::IN_FLIGHT_ROWS_BOUNDS),
    );
    let bytes = take(
        layer.in_flight_bytes,
        "the size in flight",
        faults,
        |text| values::size(&text, defaults::IN_FLIGHT_BYTES_BOUNDS),
    );
    let max_rate = take(layer.max_rate, "the greatest rate", faults, |text| {
        max_rate(&text)
    });
    columns(&mut outbox.columns, layer.columns, faults);
    let delivery = take(layer.delivery, "the delivery mode", faults, |text| {
        Delivery::parse(&text)
    });
    outbox.delivery = delivery.unwrap_or_default();
    let id = layer.transactional_id;
    let receipts = layer.receipts;
    transactions(&mut outbox.delivery, id, receipts, faults);
    outbox.sweep = sweep.unwrap_or(outbox.sweep);
    outbox.poison = poison.unwrap_or_default();
    outbox.poison_topics = poison_topics(layer.poison_topics, faults);
    outbox.in_flight_rows = rows.unwrap_or(outbox.in_flight_rows);
    outbox.in_flight_bytes = bytes.unwrap_or(outbox.in_flight_bytes);
    outbox.max_rate = max_rate.flatten();
    if named {
        outbox.table = table?;
    }
    if routed && topic.is_none() {
        return Some(outbox);
    }
    outbox.topic = topic.unwrap_or_default();
    if let Delivery::ExactlyOnce(Transactions { receipts, .. }) = &outbox.delivery
        && let Some(Err(fault)) = receipts
            .fixed(&outbox.table.name)
            .map(|topic| check_topic(&topic))
    {
        let text = format!(
            "the table's name makes no topic for receipts: {fault}; set `receipts` to another text"
        );
        faults.push(topic_origin.clone(), text);
    }
    if let Some(Err(fault)) = outbox
        .topic
        .fixed(&outbox.table.name)
        .map(|topic| check_topic(&topic))
    {
        let text = format!(
            "the table's name makes no topic: {fault}; set `topic` to another text than {{table}}"
        );
        faults.push(topic_origin, text);
    }
    Some(outbox)
}

/// What belongs to the mode exactly-once, and to no other.
fn transactions(
    delivery: &mut Delivery,
    id: Option<Given>,
    receipts: Option<Given>,
    faults: &mut Faults,
) {
    let given = [("transactional_id", &id), ("receipts", &receipts)];
    let Delivery::ExactlyOnce(transactions) = delivery else {
        for (name, given) in given {
            if let Some(given) = given {
                let text = format!(
                    "`{name}` belongs to the mode exactly-once: set `delivery = \"exactly-once\"` as well, or leave it out"
                );
                faults.push(Some(given.origin.clone()), text);
            }
        }
        return;
    };
    transactions.id = take(id, "the transactional id", faults, |text| {
        let legal = !text.trim().is_empty() && !text.contains(char::is_control);
        let fits = text.len() <= 249;
        (legal && fits)
            .then_some(text)
            .ok_or_else(|| "must be a text of 1 to 249 bytes without control characters".to_owned())
    });
    let receipts = take(receipts, "the topic of the receipts", faults, |text| {
        let route = Route::parse(&text)?;
        match route.fixed("t") {
            Some(_) => Ok(route),
            None => Err("cannot depend on {type}: there is one for each outbox".into()),
        }
    });
    if let Some(receipts) = receipts {
        transactions.receipts = receipts;
    }
}

fn sweep(text: &str) -> Result<Duration, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        let longest = humantime::format_duration(*defaults::SWEEP_BOUNDS.end());
        return Err(format!(
            "cannot be off: it is the net under the notifications; the longest is {longest}"
        ));
    }
    values::duration(text, defaults::SWEEP_BOUNDS)
}

fn poison_topics(given: BTreeMap<String, Given>, faults: &mut Faults) -> BTreeMap<String, Poison> {
    let mut policies = BTreeMap::new();
    for (topic, policy) in given {
        if let Err(fault) = check_topic(&topic) {
            let text = format!("no topic of [outbox.poison_topics] can have this name: {fault}");
            faults.push(Some(policy.origin), text);
            continue;
        }
        let what = format!("the poison policy of the topic `{topic}`");
        if let Some(policy) = take(Some(policy), &what, faults, |text| Poison::parse(&text)) {
            policies.insert(topic, policy);
        }
    }
    policies
}

fn max_rate(text: &str) -> Result<Option<usize>, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    values::count(text, defaults::MAX_RATE_BOUNDS)
        .map(Some)
        .map_err(|fault| format!("{fault}, in rows a second, or off"))
}

fn columns(columns: &mut Columns, given: BTreeMap<String, Given>, faults: &mut Faults) {
    for (key, column) in given {
        let what = format!("the column for `{key}`");
        take(Some(column), &what, faults, |name| columns.map(&key, name));
    }
}
