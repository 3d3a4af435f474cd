//! Every key of the configuration, one row each.
//!
//! Everything else walks over this table: the reading of file, environment and flags, the flags'
//! help, the checks, `doorbell config`, and the tests of the example file and of the reference.

use std::time::Duration as Time;

use super::key::Rule::{
    Choice, Count, Duration, List, Names, OptionalCount, Properties, Secret, SecretFile, Size, Text,
};
use super::key::{Draft, Key, Section, set};
use super::settings::{Delivery, Poison, Profile, RecordTime, defaults};
use super::types::{
    COLUMNS, DatabaseUrl, Listen, Route, RouteInput, TableName, TopicPatterns, addresses,
    check_topic, pattern, properties, values,
};

pub(super) fn find(section: Section, name: &str) -> Option<&'static Key> {
    let mut keys = KEYS.iter();
    keys.find(|key| key.section == section && key.has(name))
}

/// The sections of a file, in its order.
pub(super) fn sections() -> impl Iterator<Item = Section> {
    let all = KEYS.iter().map(|key| key.section);
    let mut last = Section::OUTSIDE;
    all.filter(move |section| std::mem::replace(&mut last, *section) != *section)
}

/// The sections that belong to `parent`; without one, those at the top of the file.
pub(super) fn within(parent: Option<Section>) -> impl Iterator<Item = Section> {
    sections().filter(move |section| section.is_within(parent))
}

fn some<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    set(place, value.map(Some))
}

const DAY: Time = Time::from_secs(24 * 3600);

/// The receipts of an outbox are in one topic.
fn receipts(text: &str) -> Result<Route, String> {
    let route = Route::parse(text)?;
    match route.fixed("t") {
        Some(_) => Ok(route),
        None => Err("cannot depend on the row: each outbox has one".into()),
    }
}

fn property(draft: &mut Draft, name: &str, value: &str) -> Result<(), String> {
    properties::check(name, value)?;
    let properties = &mut draft.settings.kafka.properties;
    properties.insert(name.to_owned(), value.into());
    Ok(())
}

fn column(draft: &mut Draft, key: &str, name: &str) -> Result<(), String> {
    let mapped = draft.outbox.columns.map(key, name.to_owned());
    mapped.map_err(|error| format!("the column for `{key}` {error}"))
}

fn check_header(section: Section, name: &str) -> Result<(), String> {
    match name.is_empty() || name.contains(char::is_control) {
        true => Err(format!(
            "{} names a header that cannot exist: a name has at least one character and no control characters",
            section.head()
        )),
        false => Ok(()),
    }
}

fn header_from(draft: &mut Draft, name: &str, column: &str) -> Result<(), String> {
    check_header(Section::HEADERS_FROM, name)?;
    let added = draft.outbox.columns.add_header(name, column);
    added.map_err(|error| format!("the column for the header `{name}` {error}"))
}

fn fixed_header(draft: &mut Draft, name: &str, value: &str) -> Result<(), String> {
    check_header(Section::FIXED_HEADERS, name)?;
    let headers = &mut draft.outbox.fixed_headers;
    headers.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn poison_topic(draft: &mut Draft, topic: &str, policy: &str) -> Result<(), String> {
    check_topic(topic).map_err(|error| {
        format!("[outbox.poison_topics] names a topic that cannot exist: {error}")
    })?;
    let policy = Poison::parse(policy)
        .map_err(|error| format!("the poison policy of the topic `{topic}` {error}"))?;
    draft.outbox.poison_topics.insert(topic.to_owned(), policy);
    Ok(())
}

/// The table, in the order of a file. `delivery` comes before what belongs to its modes, and of the
/// two addresses for traces the one that wins comes last.
#[rustfmt::skip]
pub(super) static KEYS: &[Key] = &[
    Key::new(Section::OUTSIDE, "config", "the configuration file",
        Text(|_, _| Ok(())),
        "Read this TOML file")
        .flag("--config", "FILE").variable("DOORBELL_CONFIG"),
    Key::new(Section::OUTSIDE, "password", "the password",
        Secret(|it, text| { it.settings.database.url.set_password(text); Ok(()) }),
        "Log in to the database with this password, if the URL has none")
        .variable("PGPASSWORD").file_variable("PGPASSWORD_FILE"),

    Key::new(Section::DATABASE, "url", "the database URL",
        Secret(|it, text| set(&mut it.settings.database.url, DatabaseUrl::parse(text))),
        "Connect to this database: postgres://user:password@host:5432/database, or host1,host2 for a cluster. \
         Other users of the machine can read a flag, but not a variable")
        .flag("--database-url", "URL").variable("DATABASE_URL").file_variable("DATABASE_URL_FILE"),
    Key::new(Section::KAFKA, "brokers", "the list of brokers",
        Text(|it, text| set(&mut it.settings.kafka.brokers, addresses::brokers(text))),
        "Produce to these brokers: host:9092, or several separated by commas")
        .flag("--kafka-brokers", "HOST:PORT").variable("KAFKA_BROKERS"),
    Key::new(Section::KAFKA, "token_file", "the token",
        Text(|it, text| some(&mut it.settings.kafka.token_file, Ok(text.into()))),
        "Read the token for SASL/OAUTHBEARER from this file, again each time that one is needed")
        .variable("KAFKA_TOKEN_FILE"),
    Key::new(Section::PROPERTIES, "PROPERTY", "the value of a property",
        Properties(property),
        "Pass this property to librdkafka, such as compression.type=zstd; may be repeated. Properties that the \
         guarantees depend on are refused. Other users of the machine can read a flag: a secret belongs in the \
         file, as { env = \"NAME\" } or { file = \"PATH\" }")
        .flag("-X", "KEY=VALUE"),
    Key::new(Section::RELAY, "stop_timeout", "the stop timeout",
        Duration(|it| &mut it.settings.stop_timeout, Time::ZERO..=DAY),
        "Wait this long for events in flight when stopping")
        .default("30s").flag("--stop-timeout", "DURATION"),
    // Below two seconds, a busy machine would depose leaders that are alive.
    Key::new(Section::RELAY, "leader_timeout", "the leader timeout",
        Duration(|it| &mut it.settings.leader_timeout, Time::from_secs(2)..=DAY),
        "Terminate the sessions of a leader that is unresponsive for this long, and take over; yield to a standby after \
         as long without a broker. The same for all relays of an outbox")
        .default("2m").flag("--leader-timeout", "DURATION"),
    Key::new(Section::HTTP, "listen", "the HTTP address",
        Text(|it, text| set(&mut it.settings.http.listen, Listen::parse(text))),
        "Bind the HTTP listener to this address; off for none")
        .default(defaults::LISTEN).flag("--listen", "HOST:PORT").variable("DOORBELL_LISTEN"),
    Key::new(Section::HTTP, "hosts", "the list of host names",
        Text(|it, text| set(&mut it.settings.http.hosts, addresses::hosts(text))),
        "Answer requests for these host names, separated by commas, besides those for an address or for localhost")
        .variable("DOORBELL_HTTP_HOSTS"),
    // Below a second, every short pause of a broker would raise an alarm.
    Key::new(Section::HTTP, "stuck_after", "the time after which the relay is stuck",
        Duration(|it| &mut it.settings.http.stuck_after, Time::from_secs(1)..=DAY),
        "Report the relay as stuck, and not ready, when rows wait and none was delivered for this long")
        .default("60s").flag("--stuck-after", "DURATION"),
    Key::new(Section::HTTP, "token_file", "the token for the HTTP port",
        SecretFile(|it, text| some(&mut it.settings.http.token, values::token(text))),
        "Let clients that present the token in this file retry and drop dead letters, pause and resume; without one, nothing can be changed by HTTP")
        .variable("DOORBELL_HTTP_TOKEN").file_variable("DOORBELL_HTTP_TOKEN_FILE"),
    Key::new(Section::HTTP, "show_payloads", "the choice to show payloads",
        Choice(|it| &mut it.settings.http.show_payloads),
        "Show the first bytes of dead letters' payloads on the page, to every client that can reach it")
        .default("false"),
    Key::new(Section::TELEMETRY, "name", "the name of the service",
        Text(|it, text| some(&mut it.settings.telemetry.name, values::name(text))),
        "Give every metric the label name with this value, the same for all copies of a relay: it tells apart services \
         whose databases have the same name")
        .variable("DOORBELL_NAME"),
    Key::new(Section::TELEMETRY, "otlp_endpoint", "the collector's address",
        Text(|it, text| some(&mut it.settings.telemetry.traces, addresses::of_collector(text))),
        "Send traces to this OpenTelemetry collector by OTLP over HTTP, below the path /v1/traces")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
    Key::new(Section::TELEMETRY, "otlp_traces_endpoint", "the collector's address for traces",
        Text(|it, text| some(&mut it.settings.telemetry.traces, addresses::of_traces(text))),
        "Send traces to this URL as it is; it wins over `otlp_endpoint`")
        .variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),

    Key::new(Section::OUTBOX, "table", "the table",
        Text(|it, text| set(&mut it.outbox.table, TableName::parse(text))),
        "Relay this table, written as in SQL: outbox, app.outbox")
        .default("outbox").flag("--table", "NAME"),
    Key::new(Section::OUTBOX, "topic", "the topic",
        Text(|it, text| set(&mut it.outbox.topic, Route::parse(text))),
        "Produce rows that name no topic to this one; {table}, {type} and any column of the table in braces \
         are filled in")
        .default("{table}").flag("--topic", "TEMPLATE"),
    Key::new(Section::OUTBOX, "topics", "the list of topics",
        List(|it, text| set(&mut it.outbox.topics, TopicPatterns::parse(text))),
        "Let rows go to these topics only: names in which * stands for any characters. A row for another topic is \
         refused by the poison policy")
        .default("*"),
    Key::new(Section::OUTBOX, "timestamp", "the timestamp",
        Text(|it, text| set(&mut it.outbox.timestamp, RecordTime::parse(text))),
        "Give records the row's created_at as their timestamp, or the time when they are sent: created_at or sent")
        .default("created_at"),
    Key::new(Section::OUTBOX, "profile", "the profile",
        Text(|it, text| set(&mut it.outbox.profile, Profile::parse(text))),
        "Choose the headers that the relay sets by itself: doorbell for id, seq and type, debezium for id alone, or \
         none. Without seq `doorbell verify` cannot compare; without id consumers need another way to recognise duplicates")
        .default("doorbell"),
    Key::new(Section::OUTBOX, "tombstone_on_blank", "the choice of tombstones",
        Choice(|it| &mut it.outbox.tombstone_on_blank),
        "Send a record without a value for a payload of blanks, as for one that is NULL")
        .default("false"),
    // A shorter interval would be polling; a longer one would be no safety net.
    Key::new(Section::OUTBOX, "sweep", "the sweep",
        Duration(|it| &mut it.outbox.sweep, Time::from_millis(100)..=DAY),
        "Scan the table this often for rows that no notification announced")
        .default("60s").flag("--sweep", "DURATION"),
    Key::new(Section::OUTBOX, "poison", "the poison policy",
        Text(|it, text| set(&mut it.outbox.poison, Poison::parse(text))),
        "Choose what happens to a row that Kafka can never accept: park moves it to the dead letters, \
         hold-key makes later rows of its key wait behind it, stop ends the relay of the outbox")
        .default("park").flag("--poison", "POLICY"),
    Key::new(Section::OUTBOX, "poison_breaker", "the number of refused rows",
        OptionalCount(|it| &mut it.outbox.poison_breaker, 1..=1_000_000),
        "Refuse at most this many rows of a topic that is missing or forbidden; its other rows wait in the table \
         until the topic takes one. off for no limit")
        .default("1000"),
    // One row at a time is slow but works; the upper bound keeps the bookkeeping in tens of
    // megabytes.
    Key::new(Section::OUTBOX, "in_flight_rows", "the number of rows in flight",
        Count(|it| &mut it.outbox.in_flight_rows, 1..=1_000_000),
        "Hold at most this many rows between fetch and delete")
        .default("20000").flag("--in-flight-rows", "ROWS"),
    Key::new(Section::OUTBOX, "in_flight_bytes", "the size in flight",
        Size(|it| &mut it.outbox.in_flight_bytes, (64 << 10)..=(4 << 30)),
        "Hold at most this many bytes of rows between fetch and acknowledgement")
        .default("32MiB").flag("--in-flight-bytes", "SIZE"),
    // Less than one row a second would be a pause, and more than ten million is no limit.
    Key::new(Section::OUTBOX, "max_rate", "the maximum rate in rows a second",
        OptionalCount(|it| &mut it.outbox.max_rate, 1..=10_000_000),
        "Produce at most this many rows a second, evenly; off for no limit")
        .default("off").flag("--max-rate", "ROWS"),
    Key::new(Section::OUTBOX, "delivery", "the delivery mode",
        Text(|it, text| set(&mut it.outbox.delivery, Delivery::parse(text))),
        "Deliver each event at-least-once, or exactly-once to consumers that read committed records only")
        .default("at-least-once").flag("--delivery", "MODE"),
    Key::new(Section::OUTBOX, "transactional_id", "the transactional id",
        Text(|it, text| some(&mut it.transactions.id, values::transactional_id(text))),
        "Use this transactional.id in the mode exactly-once [default: doorbell. and the outbox's UUID]")
        .flag("--transactional-id", "ID").exactly_once(),
    Key::new(Section::OUTBOX, "receipts", "the topic of the receipts",
        Text(|it, text| set(&mut it.transactions.receipts, receipts(text))),
        "Write the receipts of the mode exactly-once to this topic")
        .default(defaults::RECEIPTS).flag("--receipts", "TEMPLATE").exactly_once(),
    Key::new(Section::COLUMNS, "COLUMN", "the column",
        Names(COLUMNS, column),
        "Use the column NAME as id, type, payload, created_at, key, topic, headers, event_id, partition or not_before; none for a table without \
         type or created_at; may be repeated")
        .flag("--column", "KEY=NAME"),
    Key::new(Section::HEADERS_FROM, "HEADER", "the column of a header",
        Names(&[], header_from),
        "Give each record this header with the text of this column, or the bytes of a bytea; without it where the \
         column is NULL. HEADER `*` stands for all that the column names, in the form of Java properties. A row's own header \
         of the name is left out"),
    Key::new(Section::FIXED_HEADERS, "HEADER", "the value of a header",
        Names(&[], fixed_header),
        "Give each record this header with this text. A row's own header of the name is left out"),
    Key::new(Section::POISON_TOPICS, "TOPIC", "the poison policy",
        Names(&[], poison_topic),
        "Use this poison policy for rows of one topic"),
    Key::new(Section::ROUTE, "column", "the column of a route",
        Text(|it, text| some(&mut it.route.input, RouteInput::parse(text))),
        "Match the text of this column of the table, or with header.NAME a header of the row's own"),
    Key::new(Section::ROUTE, "match", "the pattern of a route",
        Text(|it, text| some(&mut it.route.pattern, pattern(text))),
        "Take the rows in whose column this regular expression of the crate regex finds a match; NULL has none. \
         The first route that takes a row counts; a topic that the row itself names comes before all routes"),
    Key::new(Section::ROUTE, "topic", "the topic of a route",
        Text(|it, text| some(&mut it.route.topic, Route::parse(text))),
        "Produce these rows to this topic; {1} and {name} stand for groups of the expression, and {table}, {type} \
         and columns are filled in as in the topic of the outbox"),
    Key::new(Section::ROUTE, "drop", "the choice to drop rows",
        Choice(|it| &mut it.route.drops),
        "Delete these rows unsent, and count them; such a route has no topic")
        .default("false"),
];
