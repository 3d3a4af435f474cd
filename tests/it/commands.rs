//! The commands beside `run`, and what each says about bad input.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use sqlx::Row;

use crate::support::{Consumer, Relay, Services, World, create_topic, doorbell, eventually};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The command must fail with this code and one line that has these words.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr}");
    }
}

/// The table's definition as the catalogue has it, without what differs between two databases.
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
    let file = include_str!("../../migrations/0001_outbox.sql");
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
    // A writer that is in the middle of its transaction would block a change of the trigger, and with it everybody else.
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
fn what_is_wrong_with_the_database_is_said_in_one_line() {
    let mut world = World::new("badinput");
    let (server, name) = world
        .database_url
        .rsplit_once('/')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a URL");
    let at = server.rsplit_once('@').expect("user@host").1.to_owned();
    let run = |world: &World, flags: &[&str]| {
        world.doorbell(&[&["run", "--start-timeout", "1s"], flags].concat())
    };

    refused(
        &run(&world, &["--table", "absent"]),
        1,
        &["table absent does not exist", "doorbell migrate"],
    );
    refused(
        &run(&world, &["--column", "key=nope"]),
        1,
        &["no column \"nope\"", "[outbox.columns]"],
    );
    refused(
        &run(&world, &["--column", "payload=created_at"]),
        1,
        &["timestamptz", "payload", "jsonb"],
    );
    refused(
        &run(&world, &["--topic", "not legal"]),
        2,
        &["--topic", "topic"],
    );
    refused(&run(&world, &["--sweep", "soon"]), 2, &["--sweep"]);
    refused(
        &run(&world, &["--kafka-brokers", "127.0.0.1:1"]),
        1,
        &["Kafka at 127.0.0.1:1 does not answer", "check"],
    );
    refused(
        &run(
            &world,
            &["--database-url", &format!("{server}/absent_{name}")],
        ),
        1,
        &["does not exist", "DATABASE_URL"],
    );
    refused(
        &run(
            &world,
            &["--database-url", "postgres://u@no-such-host.invalid/x"],
        ),
        1,
        &["no-such-host.invalid", "resolved"],
    );
    refused(
        &run(&world, &["--database-url", "postgres://u@127.0.0.1:1/x"]),
        1,
        &["127.0.0.1:1", "cannot be reached"],
    );
    refused(
        &run(&world, &["--database-url", "mysql://u:hush@h/x"]),
        2,
        &["postgres://"],
    );
    refused(
        &run(
            &world,
            &[
                "--database-url",
                &format!("postgres://nobody_{name}@{at}/{name}"),
            ],
        ),
        1,
        &["does not exist"],
    );

    world.sql("CREATE TABLE plain (id bigint PRIMARY KEY, type text, payload text, created_at timestamptz)");
    refused(
        &run(&world, &["--table", "plain"]),
        1,
        &["not set up as an outbox", "doorbell migrate --table"],
    );
    world.sql("SELECT doorbell.create_outbox('plain'); DROP TRIGGER doorbell_ring ON plain");
    refused(
        &run(&world, &["--table", "plain"]),
        1,
        &["no trigger doorbell_ring", "doorbell migrate --table"],
    );
    world.sql("ALTER TABLE plain DROP CONSTRAINT plain_pkey");
    refused(
        &run(&world, &["--table", "plain"]),
        1,
        &["no index", "primary key"],
    );
    world.sql(&format!("CREATE ROLE r_{name} LOGIN; GRANT USAGE ON SCHEMA doorbell TO r_{name}; GRANT SELECT ON outbox TO r_{name}"));
    let limited = format!("postgres://r_{name}@{at}/{name}");
    refused(
        &run(&world, &["--database-url", &limited]),
        1,
        &["may not UPDATE", "GRANT UPDATE"],
    );
    world.sql(&format!("DROP OWNED BY r_{name}; DROP ROLE r_{name}"));
}

#[test]
fn faults_of_a_file_are_all_said_and_a_secret_never_is() {
    let world = World::new("badfile");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("doorbell.toml");
    let text = "[database]\nurl = \"postgres://u:hush-hush@h/d\"\n[kafka.properties]\n\"compression.type\" = \"hush-hush\"\n[[outbox]]\ntopik = \"x\"\nsweep = \"never\"\n";
    std::fs::write(&file, text).expect("a file");
    let output = world.doorbell(&["run", "--config", file.to_str().expect("a path")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains(":6:") && stderr.contains("`topic`"),
        "{stderr}"
    );
    assert!(stderr.contains(":7:"), "{stderr}");

    std::fs::write(
        &file,
        "[kafka.properties]\n\"compression.type\" = \"hush-hush\"\n",
    )
    .expect("a file");
    let output = world.doorbell(&["run", "--config", file.to_str().expect("a path")]);
    refused(&output, 2, &["compression.type", "[kafka.properties]"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hush"));
    std::fs::write(&file, "[kafka.properties]\n\"no.such.thing\" = \"1\"\n").expect("a file");
    refused(
        &world.doorbell(&["run", "--config", file.to_str().expect("a path")]),
        2,
        &["no.such.thing"],
    );
}

#[test]
fn a_password_in_the_url_is_in_no_log_and_no_error() {
    let world = World::new("secret");
    create_topic(&world, &world.topic, 1, &[]);
    let secret = "pl4nted-s3cret";
    let url = world
        .database_url
        .replace("postgres@", &format!("postgres:{secret}@"));
    let relay = Relay::leading(&world, &["--database-url", &url]);
    world.doorbell(&["emit", "--type", "t", "x"]);
    Consumer::new(&world, &world.topic).await_records(1);
    assert_eq!(relay.count_log(secret), 0);
    let away = url.replace(
        world.database_url.rsplit_once('@').expect("a host").1,
        "127.0.0.1:1/x",
    );
    let output = world.doorbell(&["status", "--database-url", &away]);
    refused(&output, 1, &["cannot be reached"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains(secret));
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
