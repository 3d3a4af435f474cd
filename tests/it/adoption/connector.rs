//! `doorbell adopt --connector`.

use std::io::Write;

use serde_json::json;
use tempfile::NamedTempFile;

use super::adopt::{adopt, adoptable, path, printed_config};
use crate::support::{Consumer, Relay, create_topic, refused};

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    file
}

#[test]
fn the_relay_sends_what_the_connector_routed_with_its_columns_and_headers() {
    let mut world = adoptable(
        "connector",
        "CREATE TABLE events (event_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), channel text NOT NULL, message_key text, event_name text NOT NULL, \
         body text, created_at timestamptz NOT NULL DEFAULT now(), part int)",
    );
    let prefix = world.topic.replace("outbox", "event");
    let config = json!({ "name": "shop", "config": {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "transforms": "route",
        "transforms.route.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.route.table.field.event.id": "event_id",
        "transforms.route.table.field.event.key": "message_key",
        "transforms.route.table.field.event.type": "event_name",
        "transforms.route.table.field.event.payload": "body",
        "transforms.route.table.field.event.timestamp": "created_at",
        "transforms.route.route.by.field": "channel",
        "transforms.route.route.topic.replacement": "outbox.event.${routedByValue}.v1",
        "transforms.route.route.tombstone.on.empty.payload": true,
        "transforms.route.table.fields.additional.placement": "event_name:header:eventType,part:partition",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "table.include.list": "public.events",
    }});
    let connector = file(&config.to_string());
    let flags = ["events", "--connector", path(&connector)];
    let plan = adopt(&world, &[&flags[..], &["--apply"]].concat());
    assert!(!plan.contains("# - "), "{plan}");
    let topic = format!("{prefix}.orders.v1");
    create_topic(&world, &topic, 4, &[]);
    let settings = printed_config(&plan, &prefix, "");
    let settings = ["--config", path(&settings)];
    world.migrate(&settings);
    let relay = Relay::leading(&world, &settings);
    world.sql(
        "INSERT INTO events (event_id, channel, message_key, event_name, body, created_at, part) VALUES \
         ('0f0e0d0c-0b0a-4908-8706-000000000001', 'orders', 'k', 'Placed', '{}', '2026-01-02 03:04:05+00', 3), \
         ('0f0e0d0c-0b0a-4908-8706-000000000002', 'orders', 'k', 'Gone', ' ', '2026-01-02 03:04:06+00', 3)",
    );
    let mut consumer = Consumer::new(&world, &topic);
    let received = consumer.await_records(2).to_vec();
    assert_eq!(received[0].text(), "{}");
    assert_eq!(received[0].timestamp, Some(1_767_323_045_000));
    assert_eq!((received[0].partition, received[1].partition), (3, 3));
    assert_eq!(received[1].payload, None);
    let headers: Vec<_> = received[1]
        .headers
        .iter()
        .map(|(name, _)| (name.as_str(), received[1].header(name)))
        .collect();
    let id = "0f0e0d0c-0b0a-4908-8706-000000000002";
    assert_eq!(headers, [("id", id), ("eventType", "Gone")]);
    assert!(relay.stop().success());
}

#[test]
fn a_file_that_is_no_connector_is_refused_in_one_line_and_what_cannot_be_kept_has_one() {
    let world = adoptable("connectorbad", super::adopt::DEBEZIUM);
    let bad = file("{\"a\": 1}");
    let said = world.doorbell(&["adopt", "outboxevent", "--apply", "--connector", path(&bad)]);
    refused(&said, 2, &[path(&bad), "connector.class"]);
    let said = world.doorbell(&["adopt", "outboxevent", "--connector", "/absent.json"]);
    refused(&said, 2, &["/absent.json", "No such file"]);
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.table.field.event.payload": "absent",
        "value.converter": "io.confluent.connect.avro.AvroConverter",
    });
    let good = file(&config.to_string());
    let flags = ["outboxevent", "--connector", path(&good)];
    let said = world.doorbell(&[&["adopt"], &flags[..]].concat());
    refused(&said, 1, &["no column \"absent\""]);
    let said = world.doorbell(&[&["adopt"], &flags[..], &["--from", "eventferry"]].concat());
    refused(&said, 2, &["--from"]);
    let good = file(&config.to_string().replace("absent", "payload"));
    let plan = adopt(&world, &["outboxevent", "--connector", path(&good)]);
    assert!(
        plan.contains("# - value.converter: AvroConverter"),
        "{plan}"
    );
}
