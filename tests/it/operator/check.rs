//! `doorbell check` and the database: each finding is caused on purpose. Some remedies are executed
//! as printed, and resolve the finding.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{
    Checkup, Consumer, Relay, Roles, Services, TABLES, World, configuration, configured,
    create_topic, eventually, refused,
};

#[test]
fn a_sound_outbox_has_no_errors_and_nothing_is_changed() {
    let mut world = World::new("sound");
    // As PostgreSQL has it from version 15 on.
    world.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    create_topic(&world, &world.topic, 3, &[]);
    let roles = Roles::new(&mut world);
    let url = world.url_as(&roles.relay);
    let checkup = Checkup::of(&world, &["--database-url", &url]);
    assert_eq!(checkup.code, Some(0), "{}", checkup.stderr);
    assert_eq!(
        checkup.codes(),
        ["topic-copies", "no-leader", "two-phase", "sees-little"],
        "{:#}",
        checkup.answer
    );
    checkup.finds("note", "two-phase", &["max_prepared_transactions"]);
    world.sql(&checkup.finds("note", "sees-little", &[&roles.relay]));
    assert!(
        Consumer::new(&world, &world.topic).drain().is_empty(),
        "a check writes no record"
    );
    let output = world.doorbell(&["check", "--topic", &world.topic, "--database-url", &url]);
    let text = String::from_utf8(output.stdout).expect("text");
    for words in [
        "examined PostgreSQL 1",
        "examined table public.outbox",
        "(3 partitions, 1 replica)",
        "warning topic-copies",
        "  why     ",
        "  remedy  run in such transactions",
        "0 errors, 1 warning, 2 notes",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("sees-little"), "{text}");
    world.sql(&format!("REVOKE pg_read_all_stats FROM {}", roles.relay));
    roles.drop(&mut world);
}

#[test]
fn what_can_be_put_right_is_put_right_after_asking() {
    let mut world = World::new("checkfix");
    world.sql(&format!(
        "ALTER TABLE outbox DISABLE TRIGGER doorbell_ring; ALTER TABLE outbox RESET (fillfactor); \
         ALTER TABLE outbox SET (autovacuum_enabled = off); ALTER SEQUENCE outbox_id_seq CACHE 10; \
         ALTER DATABASE {} SET session_replication_role = replica",
        world.name()
    ));
    let broken = [
        "trigger-disabled",
        "replica-role",
        "autovacuum-off",
        "storage",
        "sequence-cache",
    ];
    let checkup = Checkup::of(&world, &[]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("error", "trigger-disabled", &["disabled"]);
    checkup.finds("warning", "replica-role", &["database"]);
    checkup.finds("warning", "autovacuum-off", &["outbox"]);
    checkup.finds("warning", "storage", &["fillfactor=100"]);
    checkup.finds("warning", "sequence-cache", &["10 numbers"]);
    let enabled =
        "SELECT count(*) FROM pg_trigger WHERE tgname = 'doorbell_ring' AND tgenabled = 'D'";
    let output = world.doorbell(&["check", "--fix", "--topic", &world.topic]);
    refused(&output, 2, &["5 changes", "--yes"]);
    assert_eq!(world.number(enabled), 1, "the user did not agree");
    let fixed = Checkup::of(&world, &["--fix", "--yes"]);
    assert_eq!(fixed.code, Some(0), "{}", fixed.stderr);
    fixed.lacks(&broken);
    assert_eq!(fixed.stderr.matches("done: ").count(), 5);

    // The schema and all that depends on it.
    world.sql("DROP SCHEMA doorbell CASCADE");
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("error", "schema-missing", &["doorbell"]);
    checkup.finds("error", "trigger-missing", &["does not exist on the table"]);
    let fixed = Checkup::of(&world, &["--fix", "--yes"]);
    fixed.lacks(&["schema-missing", "trigger-missing"]);
    assert_eq!(fixed.code, Some(0), "{}", fixed.stderr);
    world.sql(
        "CREATE OR REPLACE FUNCTION doorbell.ring() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_notify('doorbell:' || TG_RELID, ''); RETURN NULL; END $$; \
         DROP TABLE doorbell.dead; DELETE FROM doorbell.outbox",
    );
    let checkup = Checkup::of(&world, &[]);
    checkup.finds(
        "error",
        "schema-earlier",
        &["doorbell.ring", "table doorbell.dead"],
    );
    checkup.finds("error", "trigger-earlier", &[]);
    checkup.finds("error", "not-registered", &["outbox"]);
    let fixed = Checkup::of(&world, &["--fix", "--yes"]);
    fixed.lacks(&["schema-earlier", "trigger-earlier", "not-registered"]);
    world.sql("DROP TABLE outbox");
    Checkup::of(&world, &[]).finds("error", "table-missing", &["outbox"]);
    let fixed = Checkup::of(&world, &["--fix", "--yes"]);
    assert_eq!(fixed.code, Some(0), "{:#}", fixed.answer);
}

/// Runs a command at a terminal where the user types this.
fn at_a_terminal(world: &World, arguments: &[&str], typed: &str) -> String {
    const SPAWN: &str =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut python = Command::new("python3")
        .args(["-c", SPAWN, env!("CARGO_BIN_EXE_doorbell")])
        .args(arguments)
        .env("DATABASE_URL", &world.database_url)
        .env("KAFKA_BROKERS", &world.services.kafka_brokers)
        .env_remove("DOORBELL_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut terminal = python.stdin.take().expect("a pipe");
    terminal.write_all(typed.as_bytes()).expect("typed");
    let output = python.wait_with_output().expect("an end");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn each_change_is_asked_for_at_a_terminal() {
    let mut world = World::new("checkasks");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "ALTER TABLE outbox DISABLE TRIGGER doorbell_ring; ALTER SEQUENCE outbox_id_seq CACHE 10",
    );
    let arguments = ["check", "--fix", "--topic", &world.topic];
    let said = at_a_terminal(&world, &arguments, "y\nn\n");
    assert_eq!(said.matches("Do it? [y/N]").count(), 2, "{said}");
    assert!(
        said.contains("done: ALTER TABLE public.outbox ENABLE TRIGGER doorbell_ring"),
        "{said}"
    );
    let checkup = Checkup::of(&world, &[]);
    checkup.lacks(&["trigger-disabled"]);
    checkup.finds("warning", "sequence-cache", &["10 numbers"]);
}

#[test]
fn what_the_catalogue_says_of_a_table_is_found() {
    let mut world = World::new("checktable");
    let name = world.name().to_owned();
    world.sql(&format!(
        "CREATE PUBLICATION {name} FOR TABLE outbox; ALTER TABLE outbox REPLICA IDENTITY NOTHING; \
         CREATE RULE kept AS ON DELETE TO outbox WHERE old.type = 'kept' DO INSTEAD NOTHING; \
         ALTER TABLE outbox ALTER created_at DROP DEFAULT; \
         ALTER SEQUENCE outbox_id_seq MAXVALUE 100 CYCLE; SELECT setval('outbox_id_seq', 97); \
         ALTER DATABASE {name} SET enable_indexscan = off; ALTER DATABASE {name} SET enable_indexonlyscan = off; \
         ALTER DATABASE {name} SET synchronous_commit = off; \
         INSERT INTO outbox (type, created_at) VALUES ('t', now() + interval '1 hour')"
    ));
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("note", "published", &[&name]);
    checkup.finds("error", "deletes-impossible", &["replica identity"]);
    checkup.finds("warning", "rules", &["kept"]);
    checkup.finds("note", "created-at", &["no default"]);
    checkup.finds("warning", "created-at", &["1 waiting row ", "future"]);
    checkup.finds("warning", "sequence-cycles", &["cycles"]);
    let wider = checkup.finds("error", "sequence-end", &["98 %"]);
    // Servers before 18 count disabled plans as costly, and use the index all the same.
    if world.number("SELECT current_setting('server_version_num')::bigint") >= 180_000 {
        checkup.finds("error", "fetch-plan", &["Seq Scan", "Sort"]);
    }
    checkup.finds(
        "warning",
        "commits-unwaited",
        &[&format!("database {name}")],
    );
    checkup.finds("error", "no-leader", &["1 row waits"]);
    world.sql(&wider);
    world.sql(&format!(
        "DROP PUBLICATION {name}; DROP RULE kept ON outbox; DELETE FROM outbox; ALTER TABLE outbox SET UNLOGGED; \
         ALTER TABLE outbox DROP CONSTRAINT outbox_pkey; CREATE INDEX by_id ON outbox (id); ALTER TABLE outbox ALTER id DROP IDENTITY; \
         ALTER DATABASE {name} RESET ALL"
    ));
    let checkup = Checkup::of(&world, &[]);
    checkup.lacks(&["sequence-end", "fetch-plan", "deletes-impossible", "rules"]);
    let logged = checkup.finds("warning", "unlogged", &[]);
    let key = checkup.finds("warning", "id-not-unique", &["same id"]);
    checkup.finds("note", "sequence-missing", &[]);
    world.sql(&logged);
    world.sql(&key);
    let checkup = Checkup::of(&world, &[]);
    checkup.lacks(&["unlogged", "id-not-unique"]);
    world.sql("ALTER TABLE outbox ALTER payload TYPE int USING 1");
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("error", "table-unfit", &["payload", "int4"]);
    world.sql("ALTER TABLE outbox DROP COLUMN payload");
    Checkup::of(&world, &[]).finds("error", "table-unfit", &["no column \"payload\""]);
}

#[test]
fn ways_past_the_trigger_are_found() {
    let mut source = World::new("checkpublisher");
    let mut world = World::new("checkways");
    source.sql("CREATE PUBLICATION elsewhere FOR TABLE outbox");
    // A subscription that was never enabled needs no slot.
    let (host, port) = source.host_port().split_once(':').expect("a port");
    let conninfo = format!("dbname={} host={host} port={port}", source.name());
    world.sql(&format!(
        "CREATE SUBSCRIPTION here CONNECTION '{conninfo} user=postgres' PUBLICATION elsewhere \
         WITH (enabled = false, create_slot = false, slot_name = NONE)"
    ));
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "subscription", &["here"]);
    world.sql(
        "DROP SUBSCRIPTION here; \
         CREATE TABLE events (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, type text NOT NULL, payload text, \
         created_at timestamptz NOT NULL DEFAULT now()) PARTITION BY RANGE (id); \
         CREATE TABLE leaf PARTITION OF events FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
    );
    world.migrate(&["--table", "events"]);
    let checkup = Checkup::of(&world, &["--table", "events"]);
    checkup.finds("note", "partitions", &["leaf"]);
    checkup.lacks(&["storage", "fetch-plan", "table-unfit", "trigger-missing"]);
}

#[test]
fn rights_are_held_against_those_that_the_relay_needs() {
    for tables in TABLES {
        let mut world = World::new("checkrights");
        let config = configured(&world, tables);
        let path = config.path().to_str().expect("a path");
        world.migrate(&["--config", path]);
        let roles = Roles::new(&mut world);
        let name = roles.relay.clone();
        let url = world.url_as(&roles.relay);
        let check = |world: &World| Checkup::of(world, &["--config", path, "--database-url", &url]);
        // The file grants what the table `outbox` needs; `check` prints the rest.
        let remedies = check(&world);
        for it in remedies.all("rights-missing") {
            world.sql(it["remedy"].as_str().expect("a remedy"));
        }
        world.sql(&format!(
            "REVOKE DELETE ON outbox FROM {name}; REVOKE SELECT (attempts) ON doorbell.dead FROM {name}; \
             GRANT TRUNCATE ON outbox TO {name}; ALTER ROLE {name} CREATEDB CONNECTION LIMIT 3"
        ));
        let checkup = check(&world);
        assert_eq!(checkup.code, Some(1));
        let vital = checkup.finds("error", "rights-missing", &[&name, "lacks 1"]);
        let other = checkup.finds("warning", "rights-missing", &[&name, "lacks 1"]);
        checkup.finds(
            "warning",
            "rights-superfluous",
            &["may TRUNCATE", "may create databases"],
        );
        world.sql(&vital);
        world.sql(&other);
        let checkup = check(&world);
        checkup.lacks(&["rights-missing"]);
        world.sql(&checkup.finds("warning", "connections", &["role", &name]));
        world.sql("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY");
        let checkup = check(&world);
        checkup.lacks(&["connections"]);
        checkup.finds("error", "row-security", &["row security"]);
        roles.drop(&mut world);
        let as_superuser = Checkup::of(&world, &["--config", path]);
        as_superuser.finds("warning", "rights-superfluous", &["postgres", "superuser"]);
    }
}

/// The classes of the leader's lock and of the wake lock: "door" and "bell".
const LEADER: u32 = 0x646f_6f72;
const BELL: u32 = 0x6265_6c6c;

#[test]
fn who_is_in_the_way_is_named() {
    let mut world = World::new("checktraffic");
    let lock =
        |class: u32| format!("SELECT pg_advisory_lock({class}, 'outbox'::regclass::oid::int4)");
    let mut stranger = world.connect();
    world.sql_on(
        &mut stranger,
        &format!(
            "SET application_name = 'by hand'; {}; {}",
            lock(LEADER),
            lock(BELL)
        ),
    );
    let checkup = Checkup::of(&world, &[]);
    let end = checkup.finds("error", "leader-stranger", &["by hand", "no relay"]);
    checkup.finds("warning", "bell-stranger", &["by hand"]);
    world.sql(&end);

    // A session with the name that a relay of an earlier version would have.
    let mut early = world.connect();
    world.sql_on(
        &mut early,
        &format!(
            "SET application_name = 'doorbell 0.1.9 leader 1'; {}",
            lock(LEADER)
        ),
    );
    let mut writer = world.connect();
    world.sql_on(
        &mut writer,
        "SET application_name = 'slow writer'; BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO outbox (type) VALUES ('t')",
    );
    let name = world.name().to_owned();
    let mut second = world.connect();
    world.sql_on(
        &mut second,
        &format!("BEGIN; SET LOCAL doorbell.silent = on; INSERT INTO outbox (type) VALUES ('t'); PREPARE TRANSACTION '{name}'"),
    );
    world.sql("INSERT INTO outbox (type, created_at) VALUES ('t', now() - interval '1 hour'); \
        INSERT INTO doorbell.dead (outbox, row_id, created_at, type, routed_to, reason, code, payload_size, key_size, headers_size, attempts) \
        VALUES ('public.outbox', 1, now(), 't', 'narrow', 'too large', 'MessageSizeTooLarge', 1, 0, 0, 1)");
    let checkup = Checkup::of(&world, &["--old", "0s"]);
    checkup.lacks(&["leader-stranger", "bell-stranger", "no-leader"]);
    checkup.finds("warning", "other-version", &["0.1.9"]);
    checkup.finds(
        "error",
        "stuck",
        &["oldest of 1 row has", "1h", "although a relay leads"],
    );
    checkup.finds("warning", "silent-writer", &["slow writer"]);
    checkup.finds(
        "warning",
        "dead-letters",
        &["1 dead letter is kept", "1 for narrow: MessageSizeTooLarge"],
    );
    let end = checkup.finds(
        "warning",
        "snapshot-held",
        &["slow writer", "idle in transaction", "xmin"],
    );
    let prepared = checkup.finds("warning", "snapshot-held", &["prepared transaction", &name]);
    world.sql(&end);
    world.sql(prepared.split(" or ").next().expect("the first way"));
    Checkup::of(&world, &["--old", "0s"]).lacks(&["silent-writer", "snapshot-held"]);
    Checkup::of(&world, &["--old", "2h"]).lacks(&["stuck"]);
    world.doorbell(&["pause", "--by", "ann", "--reason", "moving house"]);
    let checkup = Checkup::of(&world, &["--old", "0s"]);
    checkup.finds("warning", "paused", &["ann", "moving house"]);
    checkup.lacks(&["stuck"]);
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    let world = World::empty("checkusage", Services::shared().clone());
    for (flags, words) in [
        (&["--yes"][..], "--fix"),
        (&["--old", "soon"], "--old"),
        (&["--table", "a.b.c"], "too many parts"),
    ] {
        refused(&world.doorbell(&[&["check"], flags].concat()), 2, &[words]);
    }
}

#[test]
fn a_takeover_from_a_frozen_leader_takes_one_role() {
    let mut world = World::new("checkroles");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    let url = world.url_as(&roles.relay);
    let ours = Relay::leading(&world, &["--database-url", &url]);
    let check = |world: &World, url: &str| Checkup::of(world, &["--database-url", url]);
    check(&world, &url).lacks(&["frozen-takeover"]);
    // If a role that is no relay asks, the role of the relay counts.
    check(&world, &world.database_url).lacks(&["frozen-takeover"]);
    // A relay of another role stands by: it could never terminate the leader's sessions.
    let other = Relay::spawn(&world, &[]);
    other.await_log("standby");
    let checkup = check(&world, &url);
    checkup.finds(
        "warning",
        "frozen-takeover",
        &["several roles", &roles.relay, "postgres"],
    );
    assert!(other.stop().success());
    assert!(ours.stop().success());
    let stranger = Relay::leading(&world, &[]);
    // A role that asks may be that of an owner: it is told, without a warning.
    check(&world, &url).finds("note", "frozen-takeover", &[&roles.relay, "postgres"]);
    assert!(stranger.stop().success());

    world.sql("REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC");
    for tables in TABLES {
        assert_the_right_to_terminate_is_granted(&mut world, &roles.relay, tables);
    }
    roles.drop(&mut world);
}

#[track_caller]
fn assert_the_right_to_terminate_is_granted(world: &mut World, relay: &str, tables: &[&str]) {
    let config = configuration(world, tables);
    let path = config.path().to_str().expect("a path");
    world.migrate(&["--config", path]);
    let check = |world: &World, role: &str| {
        let url = world.url_as(role);
        Checkup::of(world, &["--config", path, "--database-url", &url])
    };
    for it in check(world, relay).all("rights-missing") {
        world.sql(it["remedy"].as_str().expect("a remedy"));
    }
    // A name that has to be quoted.
    let dashed = format!("{relay}-2");
    world.sql(&format!("ALTER ROLE {relay} RENAME TO \"{dashed}\""));
    let words = [&dashed, "may not execute pg_terminate_backend"];
    let grant = check(world, &dashed).finds("warning", "frozen-takeover", &words);
    world.sql(&grant);
    check(world, &dashed).lacks(&["frozen-takeover"]);
    world.sql(&format!(
        "REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM \"{dashed}\"; ALTER ROLE \"{dashed}\" RENAME TO {relay}"
    ));
}

#[test]
fn keys_that_wait_are_told_by_check_and_status() {
    let mut world = World::new("checkheld");
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--poison", "hold-key"]);
    world.sql("INSERT INTO outbox (type, key, headers) SELECT 't', k, '[]' FROM unnest(ARRAY['a', 'b', 'b', NULL]) k");
    let status = |world: &World| {
        let output = world.doorbell(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status[0]["held_keys"].as_i64().expect("a number")
    };
    eventually("three rows hold their keys", || {
        (status(&world) == 3).then_some(())
    });
    Checkup::of(&world, &[]).finds("warning", "keys-held", &["3 keys"]);
    let text = String::from_utf8(world.doorbell(&["status"]).stdout).expect("text");
    assert!(
        text.contains("3 keys wait behind a row that Kafka rejected"),
        "{text}"
    );
    world.sql("UPDATE outbox SET headers = NULL WHERE key = 'b'");
    eventually("one is free", || (status(&world) == 2).then_some(()));
    world.sql("DELETE FROM outbox");
    eventually("all are free", || (status(&world) == 0).then_some(()));
    Checkup::of(&world, &[]).lacks(&["keys-held"]);
    assert!(relay.stop().success());
}
