//! Connectors as they are in use.

use super::Connector;
use crate::cli::commands::adopt::mapping::{Mapping, PatternRoute};

/// Columns of the tables of these connectors.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "uuid"),
    ("aggregatetype", "character varying"),
    ("aggregateid", "character varying"),
    ("type", "character varying"),
    ("payload", "jsonb"),
    ("body", "bytea"),
    ("message_key", "text"),
    ("topic", "text"),
    ("timestamp", "timestamp with time zone"),
    ("version", "integer"),
    ("part", "integer"),
    ("number", "bigint"),
];

fn type_of(name: &str) -> Option<&'static str> {
    let found = COLUMNS.iter().find(|(column, _)| *column == name);
    found.map(|(_, kind)| *kind)
}

/// Translates a connector with these keys of the router, and others.
fn translated(router: &[(&str, &str)], others: &[(&str, &str)]) -> Mapping {
    let mut config = serde_json::json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "database.hostname": "db", "slot.name": "s", "plugin.name": "pgoutput", "tasks.max": 1,
    });
    for (key, value) in router {
        config[format!("transforms.outbox.{key}")] = (*value).into();
    }
    for (key, value) in others {
        config[*key] = (*value).into();
    }
    let whole = serde_json::json!({ "name": "c", "config": config });
    let bare = Connector::parse(&config.to_string()).expect("a connector");
    let named = Connector::parse(&whole.to_string()).expect("a connector");
    let mapping = bare.mapping("public.outbox", &type_of);
    assert_eq!(named.mapping("public.outbox", &type_of), mapping);
    mapping
}

/// Checks that one line about each of these keys is there, and no other.
#[track_caller]
fn assert_lost(mapping: &Mapping, expected: &[(&str, &str)]) {
    let lines = &mapping.differences;
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (key, words) in expected {
        let line = lines.iter().find(|line| line.contains(&format!("{key}: ")));
        let line = line.unwrap_or_else(|| panic!("{key} in {lines:#?}"));
        assert!(line.contains(words), "{words:?} in {line}");
    }
}

fn column<'a>(mapping: &'a Mapping, key: &str) -> Option<&'a str> {
    mapping.column(key)
}

#[test]
fn a_router_without_keys_has_debezium_s_defaults() {
    let mapping = translated(&[], &[]);
    assert_lost(&mapping, &[]);
    assert_eq!(
        mapping.topic.as_deref(),
        Some("outbox.event.{aggregatetype}")
    );
    assert_eq!(mapping.route, None);
    for (key, name) in [
        ("event_id", "id"),
        ("key", "aggregateid"),
        ("type", "type"),
        ("payload", "payload"),
        ("created_at", "timestamp"),
    ] {
        assert_eq!(column(&mapping, key), Some(name), "{key}");
    }
    assert!(mapping.sent_time && !mapping.tombstone_on_blank && !mapping.exactly_once);
}

#[test]
fn columns_of_other_names_the_key_and_the_time_are_taken_over() {
    let mapping = translated(
        &[
            ("table.field.event.key", "message_key"),
            ("table.field.event.payload", "body"),
            ("table.field.event.timestamp", "timestamp"),
            ("table.field.event.type", "absent"),
            ("route.by.field", "topic"),
            ("route.topic.replacement", "${routedByValue}"),
        ],
        &[(
            "value.converter",
            "io.debezium.converters.ByteBufferConverter",
        )],
    );
    assert_eq!(mapping.topic.as_deref(), Some("{topic}"));
    assert_eq!(column(&mapping, "key"), Some("message_key"));
    assert_eq!(column(&mapping, "payload"), Some("body"));
    assert_eq!(column(&mapping, "type"), Some("none"));
    assert!(!mapping.sent_time);
    assert_lost(
        &mapping,
        &[("table.field.event.key", "where Debezium takes aggregateid")],
    );
    let mapping = translated(
        &[
            ("table.field.event.id", "number"),
            ("table.field.event.timestamp", "number"),
        ],
        &[],
    );
    assert_eq!(column(&mapping, "event_id"), None);
    assert_lost(
        &mapping,
        &[
            ("table.field.event.id", "bigint"),
            ("table.field.event.timestamp", "is no timestamp"),
        ],
    );
}

#[test]
fn a_topic_may_be_fixed_or_have_the_value_anywhere() {
    for (pattern, replacement, topic) in [
        (None, "orders", "orders"),
        (None, "ufb.$${routedByValue}", "ufb.{aggregatetype}"),
        (Some("(.*)"), "$1.events.v1", "{aggregatetype}.events.v1"),
        (
            Some("(?<routedByValue>.*)"),
            "a.${routedByValue}.${routedByValue}",
            "a.{aggregatetype}.{aggregatetype}",
        ),
        (Some("^.+$"), "all-$0", "all-{aggregatetype}"),
    ] {
        let mut keys = vec![("route.topic.replacement", replacement)];
        keys.extend(pattern.map(|it| ("route.topic.regex", it)));
        let mapping = translated(&keys, &[]);
        assert_eq!(mapping.topic.as_deref(), Some(topic));
        assert_eq!(mapping.route, None, "{pattern:?}");
        assert_lost(&mapping, &[]);
    }
    let mapping = translated(
        &[
            ("route.by.field", "type"),
            ("table.field.event.type", "topic"),
        ],
        &[],
    );
    assert_eq!(mapping.topic.as_deref(), Some("outbox.event.{type}"));
    assert_eq!(column(&mapping, "type"), Some("type"));
    let mapping = translated(&[("route.topic.replacement", "no topic!")], &[]);
    assert_lost(&mapping, &[("route.topic.replacement", "no topic!")]);
}

#[test]
fn a_pattern_becomes_a_route_and_other_values_stay_as_they_are() {
    let mapping = translated(
        &[
            ("route.topic.regex", "(?<kind>[a-z]+)-(\\d+)"),
            ("route.topic.replacement", "shop.${kind}.$2"),
        ],
        &[],
    );
    let route = PatternRoute {
        column: "aggregatetype".into(),
        pattern: "^(?:(?<kind>[a-z]+)-(\\d+))$".into(),
        topic: "shop.{kind}.{2}".into(),
    };
    assert_eq!(mapping.route, Some(route));
    assert_eq!(mapping.topic.as_deref(), Some("{aggregatetype}"));
    let toml = mapping.toml("public.outbox", "seq");
    let read: toml::Value = toml::from_str(&toml).expect("TOML");
    let pattern = read["outbox"][0]["route"][0]["match"].as_str();
    assert_eq!(pattern, Some("^(?:(?<kind>[a-z]+)-(\\d+))$"));
    let mapping = translated(&[("route.topic.regex", "a(?!b).*")], &[]);
    assert_lost(&mapping, &[("route.topic.regex", "only Java knows")]);
}

#[test]
fn placements_become_headers_and_a_partition() {
    let mapping = translated(
        &[(
            "table.fields.additional.placement",
            "type:header:eventType, aggregateid:header,timestamp:header:ce_time,part:partition,version:envelope:v,id:header,topic:header:eventType,number:partition,odd",
        )],
        &[],
    );
    let pairs: Vec<_> = mapping
        .headers_from
        .iter()
        .map(|(name, column)| (name.as_str(), column.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("eventType", "type"),
            ("aggregateid", "aggregateid"),
            ("ce_time", "timestamp")
        ]
    );
    assert_eq!(column(&mapping, "partition"), Some("part"));
    assert_lost(
        &mapping,
        &[
            ("header ce_time", "as PostgreSQL prints it"),
            ("version:envelope:v", "payload and fields"),
            ("id:header", "one header `id`"),
            ("topic:header:eventType", "one header `eventType`"),
            ("number:partition", "not of type integer"),
            ("odd", "no placement"),
        ],
    );
}

#[test]
fn the_form_of_the_value_is_kept_or_named() {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let expand = ("table.expand.json.payload", "true");
    let mapping = translated(
        &[expand, ("route.tombstone.on.empty.payload", "true")],
        &[
            ("value.converter", json),
            ("value.converter.schemas.enable", "false"),
        ],
    );
    assert!(mapping.tombstone_on_blank);
    assert_lost(&mapping, &[("table.expand.json.payload", "equal as JSON")]);
    let mapping = translated(
        &[],
        &[
            ("value.converter", json),
            ("value.converter.schemas.enable", "false"),
        ],
    );
    assert_lost(&mapping, &[("value.converter", "in quotes")]);
    let mapping = translated(&[], &[("value.converter", json), ("key.converter", json)]);
    assert_lost(
        &mapping,
        &[
            ("value.converter.schemas.enable", "envelope"),
            ("key.converter", "another partition"),
        ],
    );
    let mapping = translated(
        &[],
        &[
            ("value.converter", "io.confluent.connect.avro.AvroConverter"),
            ("value.converter.schema.registry.url", "http://r"),
        ],
    );
    assert_lost(&mapping, &[("value.converter", "AvroConverter")]);
    let binary = "io.debezium.converters.BinaryDataConverter";
    let mapping = translated(
        &[
            ("table.field.event.payload", "body"),
            ("route.tombstone.on.empty.payload", "true"),
        ],
        &[
            ("value.converter", binary),
            ("value.converter.delegate.converter.type", json),
        ],
    );
    assert!(!mapping.tombstone_on_blank);
    assert_lost(&mapping, &[("route.tombstone.on.empty.payload", "bytea")]);
    let mapping = translated(
        &[],
        &[
            ("value.converter", binary),
            ("value.converter.delegate.converter.type", json),
        ],
    );
    assert_lost(
        &mapping,
        &[(
            "value.converter.delegate.converter.type.schemas.enable",
            "envelope",
        )],
    );
}

#[test]
fn each_key_that_cannot_be_kept_has_a_line_and_those_of_the_connector_have_none() {
    let mapping = translated(
        &[
            ("table.op.invalid.behavior", "fatal"),
            ("tracing.span.context.field", "t"),
            ("tracing.operation.name", "o"),
            ("table.field.event.schema.version", "version"),
            ("predicate", "isOutbox"),
            ("new.key", "x"),
        ],
        &[
            ("transforms", "outbox, mask"),
            ("transforms.mask.type", "org.example.Mask"),
            ("transforms.mask.fields", "a"),
            ("predicates", "isOutbox"),
            ("topic.creation.default.partitions", "3"),
            ("producer.override.linger.ms", "5"),
            ("errors.tolerance", "all"),
            ("exactly.once.support", "required"),
            ("table.include.list", "public\\.other,public.outbox"),
            ("heartbeat.interval.ms", "500"),
            ("some.other.key", "x"),
        ],
    );
    assert!(mapping.exactly_once);
    let properties = ("*".to_owned(), "t".to_owned());
    assert!(mapping.headers_from.contains(&properties));
    assert_lost(
        &mapping,
        &[
            ("table.op.invalid.behavior", "UPDATE"),
            ("tracing.operation.name", "traceparent"),
            ("table.field.event.schema.version", "no schema"),
            ("transforms.outbox.predicate", "every row"),
            ("transforms.outbox.new.key", "not known"),
            ("transforms.mask", "org.example.Mask is not applied"),
            ("predicates", "no predicate"),
            ("topic.creation.default.partitions", "create the topics"),
            ("producer.override.linger.ms", "[kafka.properties]"),
            ("errors.tolerance", "dead letter"),
            ("table.include.list", "one of several tables"),
            ("some.other.key", "not known"),
        ],
    );
    let mapping = translated(&[], &[("table.include.list", "public.other")]);
    assert_lost(&mapping, &[("table.include.list", "none of these")]);
}

#[test]
fn what_is_no_connector_is_said_in_one_line() {
    for (text, words) in [
        ("", "no JSON"),
        ("[1]", "an object with its keys"),
        ("{}", "no `connector.class`"),
        (r#"{"config": {"a": "b"}}"#, "no `connector.class`"),
        (r#"{"connector.class": {"x": 1}}"#, "no text"),
        (
            r#"{"connector.class": "io.debezium.connector.mysql.MySqlConnector"}"#,
            "MySqlConnector",
        ),
        (
            r#"{"connector.class": "PostgresConnector", "transforms": "a", "transforms.a.type": "x"}"#,
            "EventRouter",
        ),
    ] {
        let said = Connector::parse(text).expect_err("no connector");
        assert!(said.contains(words) && !said.contains('\n'), "{said}");
    }
}
