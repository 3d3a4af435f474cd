//! The commands other than `run`, and what each says about bad input.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use sqlx::Row;

use crate::support::{
    Consumer, Relay, Services, World, create_topic, doorbell, eventually, refused,
};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Returns the table's definition from the catalog, without what differs between two databases.
fn definition(world: &mut World) -> Vec<String> {
    let sql = "SELECT format('%s %s %s %s', attname, format_type(atttypid, atttypmod), attnotnull, attidentity) FROM pg_attribute \
               WHERE attrelid = 'outbox'::regclass AND attnum > 0 \
               UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'outbox'::regclass \
               UNION ALL SELECT c.reloptions::text || coalesce(t.reloptions::text, '') FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = 'outbox'::regclass \
               UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'doorbell'::regnamespace \
               UNION ALL SELECT name FROM doorbell.outbox ORDER BY 1";
    world.rows(sql).iter().map(|row| row.get(0)).collect()
}

#[test]
fn migrate_and_psql_give_the_same_in_any_order_and_any_number_of_times() {
    let file = include_str!("../../../migrations/0001_outbox.sql");
    let mut by_command = World::new("migrate");
    let mut by_file = World::empty("migratefile", Services::shared().clone());
    by_file.sql(file);
    let expected = definition(&mut by_file);
    assert!(
        expected
            .iter()
            .any(|line| line.contains("vacuum_truncate=off"))
    );
    assert_eq!(definition(&mut by_command), expected);
    let id = "SELECT id::text FROM doorbell.outbox";
    let before: String = by_file.rows(id)[0].get(0);
    by_file.migrate(&[]);
    by_file.sql(file);
    by_command.sql(file);
    assert_eq!(definition(&mut by_file), expected);
    assert_eq!(definition(&mut by_command), expected);
    assert_eq!(
        by_file.rows(id)[0].get::<String, _>(0),
        before,
        "an outbox keeps its identity"
    );

    let dry = by_file.doorbell(&["migrate", "--dry-run"]);
    assert_eq!(stdout(&dry), file);
}

#[test]
fn a_migration_does_not_make_writers_wait_and_leaves_a_good_trigger_alone() {
    let world = World::new("patient");
    // A writer in the middle of its transaction would block a change of the trigger, and with it
    // every other writer.
    let mut writer = world.connect();
    world.sql_on(
        &mut writer,
        "BEGIN; INSERT INTO outbox (type) VALUES ('open')",
    );
    world.migrate(&[]);
    world.sql_on(&mut writer, "COMMIT");
}

#[test]
fn a_missing_trigger_is_put_back_while_writers_go_on() {
    let mut world = World::new("trigger");
    world.sql("DROP TRIGGER doorbell_ring ON outbox");
    let mut writer = world.connect();
    world.sql_on(
        &mut writer,
        "BEGIN; INSERT INTO outbox (type) VALUES ('open')",
    );
    let mut migrating = doorbell(&world, &["migrate"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % migrate %'";
    world.await_number(waits, 1);
    for _ in 0..50 {
        world.sql("SET statement_timeout = '2s'; INSERT INTO outbox (type) VALUES ('meanwhile')");
    }
    assert!(
        migrating.try_wait().expect("a child").is_none(),
        "it waits for the open transaction"
    );
    world.sql_on(&mut writer, "COMMIT");
    let status = eventually("the migration ends", || {
        migrating.try_wait().expect("a child")
    });
    assert!(status.success());
    world.await_number(
        "SELECT count(*) FROM pg_trigger WHERE tgname = 'doorbell_ring'",
        1,
    );
}

#[test]
fn status_tells_backlog_age_leader_standbys_and_trigger() {
    let mut world = World::new("status");
    create_topic(&world, &world.topic, 1, &[]);
    let ask = |world: &World| -> Value {
        let output = world.doorbell(&["status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")[0].clone()
    };
    world.sql("INSERT INTO outbox (type, created_at) VALUES ('t', now() - interval '1 hour'), ('t', now())");
    let status = ask(&world);
    assert_eq!(status["backlog"], 2);
    assert!((3_600.0..3_700.0).contains(&status["oldest_seconds"].as_f64().expect("a number")));
    assert_eq!(status["leader"], Value::Null);
    assert_eq!(status["trigger"], "enabled");
    let text = stdout(&world.doorbell(&["status"]));
    assert!(
        text.contains("2 rows") && text.contains("1h") && text.contains("no relay runs"),
        "{text}"
    );

    let leader = Relay::leading(&world, &[]);
    let standby = Relay::spawn(&world, &[]);
    standby.await_log("standby");
    world.await_empty();
    world.sql("ALTER TABLE outbox DISABLE TRIGGER doorbell_ring");
    let status = eventually("one leads and one stands by", || {
        let status = ask(&world);
        (status["standbys"].as_array().map(Vec::len) == Some(1)).then_some(status)
    });
    let application = status["leader"]["application"].as_str().expect("a name");
    assert!(
        application.ends_with(&format!("leader {}", leader.pid())),
        "{application}"
    );
    assert_eq!(status["backlog"], 0);
    assert_eq!(status["oldest_seconds"], Value::Null);
    assert_eq!(status["trigger"], "disabled");
    world.sql(
        "ALTER TABLE outbox ENABLE TRIGGER doorbell_ring; \
         CREATE OR REPLACE FUNCTION doorbell.ring() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_notify('doorbell:' || TG_RELID, ''); RETURN NULL; END $$",
    );
    assert_eq!(ask(&world)["trigger"], "of an earlier version");
    let text = stdout(&world.doorbell(&["status"]));
    assert!(text.contains("rings at every insert"), "{text}");
    world.migrate(&[]);
    assert_eq!(ask(&world)["trigger"], "enabled");
    world.sql("DROP TRIGGER doorbell_ring ON outbox");
    assert_eq!(ask(&world)["trigger"], "missing");
}

#[test]
fn emit_inserts_one_event_from_an_argument_or_standard_input() {
    let world = World::new("emit");
    create_topic(&world, &world.topic, 1, &[]);
    let _relay = Relay::leading(&world, &[]);
    let output = world.doorbell(&[
        "emit",
        "--type",
        "T'\\",
        "--key",
        "k",
        "--header",
        "a=b=c",
        r#"{"it's": "\\"}"#,
    ]);
    assert_eq!(stdout(&output), "1\n");
    let mut child = doorbell(&world, &["emit", "--type", "T", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all("from stdin\n".as_bytes())
        .expect("written");
    assert_eq!(
        stdout(&child.wait_with_output().expect("an end")),
        "{\"id\":2}\n"
    );
    world.doorbell(&["emit", "--type", "T", "--key", "k", "--tombstone"]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let received = consumer.await_records(3);
    assert_eq!(received[0].header("type"), "T'\\");
    assert_eq!(received[0].header("a"), "b=c");
    assert_eq!(received[0].text(), r#"{"it's": "\\"}"#);
    assert_eq!(received[1].text(), "from stdin\n");
    assert_eq!(received[2].payload, None);
    refused(
        &world.doorbell(&["emit", "--type", "T", "--header", "x", "p"]),
        2,
        &["--header x", "NAME=VALUE"],
    );
}

#[test]
fn the_log_at_info_is_one_line_for_each_change_of_state() {
    let mut world = World::new("log");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &[]);
    world.sql("INSERT INTO outbox (type, payload) SELECT 't', 'x' FROM generate_series(1, 1000)");
    world.await_empty();
    let log = relay.log();
    let info: Vec<_> = log
        .iter()
        .filter(|line| !line.contains(" DEBUG "))
        .collect();
    assert_eq!(info.len(), 1, "{info:?}");
    for words in ["leading", "version=", "outbox=outbox", "topic="] {
        assert!(info[0].contains(words), "{words} in {}", info[0]);
    }
    assert!(relay.stop().success());
}
