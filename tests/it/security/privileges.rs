//! The roles of `sql/roles.sql`: sufficient for everything that they are for, and each privilege is
//! needed for something.

use std::process::Output;

use crate::support::{
    Checkup, Consumer, Grant, Relay, Roles, TABLES, World, configured, create_topic, doorbell,
    eventually, grants, refused,
};

/// What fails without a privilege.
enum Fails {
    /// The command ends with exit code 1 and one line with these words.
    Command(&'static [&'static str], &'static str),
    /// The relay continues, and logs it when Kafka refuses a row.
    Parking,
    /// The relay continues, and logs it at its start.
    Counting,
    /// The relay continues, and logs it when a key is held.
    Holding,
}

const RUN: &[&str] = &["run", "--start-timeout", "1s"];
const RUN_ONCE: &[&str] = &[
    "run",
    "--start-timeout",
    "1s",
    "--delivery",
    "exactly-once",
    "--receipts",
    "{receipts}",
];
const EMIT: &[&str] = &["emit", "--type", "t", "x"];
const EMIT_ALL: &[&str] = &["emit", "--type", "t", "--key", "k", "--header", "a=b", "x"];

/// Each privilege that the file grants, with what is there to need it.
fn without(grant: &Grant) -> Fails {
    use Fails::{Command, Counting, Holding, Parking};
    match (grant.role, grant.right.as_str(), grant.on) {
        ("doorbell_writer", _, "outbox") => Command(EMIT_ALL, "permission denied for table outbox"),
        ("doorbell_relay", "SELECT", "outbox") => Command(RUN, "GRANT SELECT ON outbox"),
        ("doorbell_relay", "UPDATE", "outbox") => Command(RUN, "GRANT UPDATE ON outbox"),
        ("doorbell_relay", "DELETE", "outbox") => Command(RUN, "GRANT DELETE ON outbox"),
        ("doorbell_relay", "USAGE", "SCHEMA doorbell") => {
            Command(RUN, "permission denied for schema doorbell")
        }
        ("doorbell_relay", "SELECT", "doorbell.outbox") => {
            Command(RUN, "permission denied for table outbox")
        }
        ("doorbell_relay", "SELECT (retried_at)", "doorbell.dead") => Command(
            &["verify", "--topic", "{topic}"],
            "permission denied for table dead",
        ),
        ("doorbell_relay", "SELECT (own_id)", "doorbell.dead") => Command(
            &["verify", "--topic", "{topic}", "--column", "event_id=uid"],
            "permission denied for table dead",
        ),
        ("doorbell_relay", _, "doorbell.dead") => Parking,
        ("doorbell_relay", _, "doorbell.starts") => Counting,
        ("doorbell_relay", _, "doorbell.held") => Holding,
        ("doorbell_relay", _, "doorbell.receipt") => {
            Command(RUN_ONCE, "permission denied for table receipt")
        }
        ("doorbell_operator", "USAGE", "SCHEMA doorbell") => {
            Command(&["dead", "list"], "permission denied for schema doorbell")
        }
        ("doorbell_operator", "SELECT", "doorbell.dead") => {
            Command(&["dead", "show", "1"], "permission denied for table dead")
        }
        ("doorbell_operator", "UPDATE", "doorbell.dead") => {
            Command(&["dead", "retry", "1"], "permission denied for table dead")
        }
        ("doorbell_operator", "INSERT", "outbox") => Command(
            &["dead", "retry", "1"],
            "permission denied for table outbox",
        ),
        ("doorbell_operator", "DELETE", "doorbell.dead") => Command(
            &["dead", "drop", "1", "--yes"],
            "permission denied for table dead",
        ),
        ("doorbell_operator", "SELECT (id)" | "SELECT (created_at)", "outbox") => {
            Command(&["status"], "permission denied for table outbox")
        }
        ("doorbell_operator", "SELECT", "doorbell.outbox") => {
            Command(&["status"], "permission denied for table outbox")
        }
        ("doorbell_operator", _, "doorbell.outbox") => Command(
            &["pause", "--by", "ann", "--reason", "why"],
            "permission denied for table outbox",
        ),
        _ => panic!("nothing is known to need {grant:?}: name it here, or take it out of the file"),
    }
}

/// Creates a topic of the world's own.
fn receipts(world: &World) -> String {
    world.topic.replace("outbox", "receipts")
}

/// Runs a command as a role.
fn run_as(world: &World, role: &str, command: &[&str]) -> Output {
    let topic = |word: &&str| {
        word.replace("{topic}", &world.topic)
            .replace("{receipts}", &receipts(world))
    };
    let words: Vec<String> = command.iter().map(topic).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.doorbell(&[&words[..], &["--database-url", &world.url_as(role)]].concat())
}

#[track_caller]
fn succeeds(world: &World, role: &str, command: &[&str]) -> String {
    let output = run_as(world, role, command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// Inserts letters of refused rows, as the relay leaves them.
fn park(world: &mut World, count: usize) {
    world.sql(&format!(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, reason, code, payload_size, key_size, headers_size, attempts) \
         SELECT 'public.outbox', 1000 + n, now(), 't', 'parked', 'why', 'Why', 6, 0, 0, 1 FROM generate_series(1, {count}) n"
    ));
}

#[test]
fn each_right_of_the_file_is_needed_for_something_that_says_so() {
    let mut world = World::new("privileges");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    world.will_delete(&receipts(&world));
    park(&mut world, 1);
    world.sql("ALTER TABLE outbox ADD uid uuid DEFAULT gen_random_uuid()");
    let grants = grants();
    assert!(grants.len() > 25, "{grants:?}");
    for grant in &grants {
        let role = roles.named(grant.role).to_owned();
        world.sql(&format!(
            "REVOKE {} ON {} FROM {role}",
            grant.right, grant.on
        ));
        match without(grant) {
            Fails::Command(command, words) => {
                let output = run_as(&world, &role, command);
                eprintln!("{grant:?}: {}", String::from_utf8_lossy(&output.stderr));
                // It could not look.
                let code = if command[0] == "verify" { 2 } else { 1 };
                refused(&output, code, &[words]);
            }
            Fails::Parking => {
                let url = world.url_as(&role);
                let relay = Relay::leading(&world, &["--database-url", &url]);
                world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
                relay.await_log("permission denied for table dead");
                // All others are sent.
                world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'good')");
                world.await_number("SELECT count(*) FROM outbox WHERE type <> 'bad'", 0);
                assert_eq!(world.number("SELECT count(*) FROM outbox"), 1, "{grant:?}");
                assert!(relay.stop().success());
                world.sql("DELETE FROM outbox");
            }
            Fails::Holding => {
                let url = world.url_as(&role);
                let hold = ["--database-url", &url, "--poison", "hold-key"];
                let relay = Relay::leading(&world, &hold);
                world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
                relay.await_log("held rows cannot be recorded");
                world.sql("DELETE FROM outbox");
                assert!(relay.stop().success());
            }
            Fails::Counting => {
                let url = world.url_as(&role);
                let relay = Relay::leading(&world, &["--database-url", &url]);
                relay.await_log("cannot record this start");
                world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'good')");
                world.await_empty();
                assert!(relay.stop().success());
            }
        }
        world.sql(&format!("GRANT {} ON {} TO {role}", grant.right, grant.on));
    }
    let left = "SELECT count(*) FROM doorbell.dead WHERE retried_at IS NULL";
    assert_eq!(world.number(left), 1, "what failed has changed nothing");
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.outbox WHERE paused_at IS NULL"),
        1
    );
    roles.drop(&mut world);
}

#[test]
fn a_writer_may_insert_in_every_way_and_do_nothing_else() {
    let mut world = World::new("rightswrite");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    let relay = Relay::leading(&world, &["--database-url", &world.url_as(&roles.relay)]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let mut writer = world.connect_to(&world.url_as(&roles.writer));
    world.await_asleep();
    // The trigger rings with the privileges of the writer.
    world.sql_on(
        &mut writer,
        "INSERT INTO outbox (type, payload) VALUES ('t', '1')",
    );
    consumer.await_records(1);
    world.sql_on(
        &mut writer,
        "INSERT INTO outbox (type, payload, key, headers) VALUES ('t', '2', 'k', '{\"h\": 1}'); \
         BEGIN; SET LOCAL doorbell.silent = on; SET LOCAL synchronous_commit = on; \
         INSERT INTO outbox (type, payload) SELECT 't', 'bulk' FROM generate_series(1, 10); COMMIT; \
         INSERT INTO outbox (type, payload) VALUES ('t', 'rings for those that were silent')",
    );
    assert_eq!(succeeds(&world, &roles.writer, EMIT), "inserted\n");
    assert_eq!(
        succeeds(
            &world,
            &roles.writer,
            &[
                "emit", "--json", "--type", "t", "--key", "k", "--header", "a=b", "x"
            ]
        ),
        "{\"id\":null}\n"
    );
    consumer.await_records(15);
    world.await_empty();

    // The trigger draws the ids in the order of commits, for writers that may not draw any.
    world.sql(include_str!("../../../sql/strict_order.sql"));
    world.sql("SELECT doorbell.keep_order('outbox')");
    world.sql_on(
        &mut writer,
        "INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'ordered')",
    );
    assert_eq!(consumer.await_records(16)[15].text(), "ordered");
    world.sql("SELECT doorbell.release_order('outbox')");

    // A serial column needs the privilege that the file names.
    world.sql(&format!(
        "CREATE TABLE events (id bigserial PRIMARY KEY, type text NOT NULL, payload text, created_at timestamptz NOT NULL DEFAULT now()); \
         SELECT doorbell.create_outbox('events'); GRANT INSERT ON events TO {}",
        roles.writer
    ));
    let insert = "INSERT INTO events (type) VALUES ('t')";
    let error = world
        .try_sql_on(&mut writer, insert)
        .expect_err("no right on the sequence");
    assert!(
        error.to_string().contains("sequence events_id_seq"),
        "{error}"
    );
    world.sql(&format!(
        "GRANT USAGE ON SEQUENCE events_id_seq TO {}",
        roles.writer
    ));
    world.sql_on(&mut writer, insert);

    for statement in [
        "SELECT id FROM outbox",
        "SELECT count(*) FROM outbox",
        "INSERT INTO outbox (type) VALUES ('t') RETURNING id",
        "INSERT INTO outbox (id, type) VALUES (100, 't')",
        "INSERT INTO outbox (type, created_at) VALUES ('t', '-infinity')",
        "INSERT INTO outbox (type, topic) VALUES ('t', 'of-its-choice')",
        "UPDATE outbox SET type = 'x'",
        "DELETE FROM outbox",
        "TRUNCATE outbox",
        "DO $$ BEGIN LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE; END $$",
        "ALTER TABLE outbox DISABLE TRIGGER doorbell_ring",
        "SELECT FROM doorbell.outbox",
        "SELECT FROM doorbell.dead",
        "SELECT doorbell.lock_within(1, 1, '1s')",
        "SELECT setval('outbox_id_seq', 1)",
        "CREATE TABLE doorbell.mine ()",
    ] {
        assert_denied(&world, &mut writer, statement);
    }
    for command in [&["status"][..], RUN, &["dead", "list"], &["pause"]] {
        refused(&run_as(&world, &roles.writer, command), 1, &[]);
    }
    drop(writer);
    assert!(relay.stop().success());
    roles.drop(&mut world);
}

#[test]
fn the_file_of_roles_can_be_run_in_several_databases_and_by_an_owner_without_createrole() {
    let mut world = World::new("rolesfile");
    let owner = format!("{}_owner", world.name());
    world.sql(&format!(
        "CREATE ROLE {owner} LOGIN; ALTER SCHEMA doorbell OWNER TO {owner}; \
         DO $$ DECLARE it regclass; BEGIN FOR it IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND n.nspname IN ('doorbell', 'public') LOOP EXECUTE format('ALTER TABLE %s OWNER TO {owner}', it); END LOOP; END $$"
    ));
    let file =
        include_str!("../../../sql/roles.sql").replace("doorbell_", &format!("{}_", world.name()));
    let mut session = world.connect_to(&world.url_as(&owner));
    let error = world
        .try_sql_on(&mut session, &file)
        .expect_err("it may not create roles")
        .to_string();
    assert!(error.contains("may not create roles"), "{error}");
    world.sql_on(&mut session, "ROLLBACK");
    // Another database has made them. A second run changes nothing.
    let roles = Roles::new(&mut world);
    world.sql_on(&mut session, &file);
    world.sql_on(&mut session, &file);
    succeeds(&world, &roles.writer, EMIT);
    drop(session);
    roles.drop(&mut world);
    world.sql(&format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}"));
}

#[test]
fn the_printed_roles_are_enough_for_one_outbox_and_for_several() {
    for tables in TABLES {
        let mut world = World::new("printedroles");
        let config = configured(&world, tables);
        let path = config.path().to_str().expect("a path");
        world.migrate(&["--config", path]);
        let superfluous = Checkup::of(&world, &["--config", path]);
        let remedy = superfluous.finds("warning", "rights-superfluous", &["superuser"]);
        let create = "CREATE ROLE relay LOGIN IN ROLE doorbell_relay";
        for part in ["doorbell migrate --print roles | psql", create] {
            assert!(remedy.contains(part), "{remedy}");
        }
        let printed = world.doorbell(&["migrate", "--print", "roles", "--config", path]);
        let printed = String::from_utf8(printed.stdout).expect("text");
        let name = world.name().to_owned();
        let own = |sql: &str| sql.replace("doorbell_", &format!("{name}_"));
        world.sql(&own(&printed));
        let login = format!("{name}_login");
        world.sql(&own(create).replace("ROLE relay ", &format!("ROLE {login} ")));
        let url = world.url_as(&login);
        let flags = ["--config", path, "--database-url", &url];
        Checkup::of(&world, &flags).lacks(&["rights-missing", "rights-superfluous"]);
        let relay = Relay::spawn(&world, &flags);
        relay.await_log_times("leading", tables.len());
        assert!(relay.stop().success());
        for role in ["login", "writer", "relay", "operator"] {
            world.sql(&format!(
                "DROP OWNED BY {name}_{role}; DROP ROLE {name}_{role}"
            ));
        }
    }
}

#[track_caller]
fn assert_denied(world: &World, session: &mut sqlx::PgConnection, statement: &str) {
    let error = world.try_sql_on(session, statement).expect_err(statement);
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
}

#[test]
fn the_relays_role_is_enough_for_every_mode_and_for_nothing_else() {
    let mut world = World::new("rightsrelay");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    let url = world.url_as(&roles.relay);
    let as_relay = ["--database-url", &url];
    let insert = |world: &mut World| {
        world.sql("INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'x')");
    };
    let mut consumer = Consumer::new(&world, &world.topic);

    // A row that a user holds locked is skipped; a refused one is parked; a pause is obeyed.
    let relay = Relay::leading(&world, &as_relay);
    let mut user = world.connect();
    insert(&mut world);
    consumer.await_records(1);
    world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
    world.await_number("SELECT count(*) FROM doorbell.dead", 1);
    assert!(world.doorbell(&["pause"]).status.success());
    relay.await_log("pausing");
    insert(&mut world);
    insert(&mut world);
    world.sql_on(
        &mut user,
        "BEGIN; SELECT FROM outbox WHERE id = (SELECT min(id) FROM outbox) FOR UPDATE",
    );
    assert!(world.doorbell(&["resume"]).status.success());
    consumer.await_records(3);
    world.await_number("SELECT count(*) FROM outbox", 1);
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();

    // A frozen leader of the same role is replaced; then the new one steps down.
    let second = Relay::spawn(
        &world,
        &[&as_relay[..], &["--leader-timeout", "2s"]].concat(),
    );
    second.await_log("standby");
    relay.freeze();
    second.await_log("leader unresponsive for leader_timeout");
    second.await_log("leading");
    relay.thaw();
    assert!(relay.stop().success());
    assert!(second.stop().success());

    // Keys are held and reported, and starts without progress are counted.
    let relay = Relay::leading(&world, &[&as_relay[..], &["--poison", "hold-key"]].concat());
    world.sql("INSERT INTO outbox (type, key, headers) VALUES ('bad', 'k', '[]')");
    eventually("status tells of the key", || {
        let said = succeeds(&world, &roles.relay, &["status"]);
        said.contains("1 key waits").then_some(())
    });
    world.await_number("SELECT count(*) FROM doorbell.held", 1);
    world.sql("DELETE FROM outbox");
    assert!(relay.stop().success());
    insert(&mut world);
    world.sql("UPDATE doorbell.starts SET starts = 9, first_row = (SELECT min(id) FROM outbox)");
    let relay = Relay::leading(&world, &as_relay);
    relay.await_log("sending a few rows at a time");
    relay.await_log("crash-loop search finished");
    assert_eq!(relay.count_log("cannot be"), 0, "{:#?}", relay.log());
    world.await_empty();
    assert!(relay.stop().success());

    let topic = receipts(&world);
    world.will_delete(&topic);
    let once = ["--delivery", "exactly-once", "--receipts", &topic];
    let once = [&as_relay[..], &once].concat();
    let relay = Relay::leading(&world, &once);
    insert(&mut world);
    world.await_empty();
    assert!(relay.stop().success());

    succeeds(&world, &roles.relay, &["status", "--json"]);
    succeeds(&world, &roles.relay, &["check", "--topic", "{topic}"]);
    succeeds(&world, &roles.relay, &["verify", "--topic", "{topic}"]);
    succeeds(&world, &roles.relay, &["receipts", "accept"]);
    succeeds(&world, &roles.relay, &["drain", "--topic", "{topic}"]);

    let mut session = world.connect_to(&url);
    for statement in [
        "INSERT INTO outbox (type) VALUES ('t')",
        "TRUNCATE outbox",
        "SELECT payload FROM doorbell.dead",
        "DELETE FROM doorbell.dead",
        "UPDATE doorbell.dead SET reason = ''",
        "UPDATE doorbell.outbox SET paused_at = NULL",
        "DELETE FROM doorbell.outbox",
        "DELETE FROM doorbell.starts",
        "DELETE FROM doorbell.receipt",
        "CREATE TABLE doorbell.mine ()",
    ] {
        assert_denied(&world, &mut session, statement);
    }
    drop(session);
    drop(user);
    roles.drop(&mut world);
}

#[test]
fn an_operator_looks_after_dead_letters_status_and_pauses_and_sees_no_row_that_waits() {
    let mut world = World::new("rightsoperate");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    let operator = roles.operator.clone();
    park(&mut world, 3);
    assert!(succeeds(&world, &operator, &["dead", "list"]).contains("Why"));
    assert!(succeeds(&world, &operator, &["dead", "show", "1"]).contains("parked"));
    succeeds(&world, &operator, &["dead", "retry", "1"]);
    succeeds(&world, &operator, &["dead", "drop", "2", "--yes"]);
    assert_eq!(
        world.number("SELECT count(*) FROM outbox WHERE payload = 'parked'"),
        1
    );
    let status = succeeds(&world, &operator, &["status"]);
    for words in ["1 row", "oldest", "dead     1 row", "no relay runs"] {
        assert!(status.contains(words), "{words} in {status}");
    }
    let pause = ["pause", "--by", "ann", "--reason", "the broker moves"];
    succeeds(&world, &operator, &pause);
    assert!(succeeds(&world, &operator, &["status"]).contains("by ann: the broker moves"));
    succeeds(&world, &operator, &["resume"]);
    // It runs as far as its privileges allow, and names those that a relay would lack.
    let checked = run_as(&world, &operator, &["check", "--topic", "{topic}"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for words in [
        "rights-missing",
        "GRANT DELETE ON public.outbox",
        "examined topic",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }

    let mut session = world.connect_to(&world.url_as(&operator));
    for statement in [
        "SELECT payload FROM outbox",
        "SELECT key FROM outbox",
        "UPDATE outbox SET payload = ''",
        "DELETE FROM outbox",
        "INSERT INTO doorbell.dead (outbox) VALUES ('x')",
        "UPDATE doorbell.outbox SET id = gen_random_uuid()",
        "DELETE FROM doorbell.outbox",
        "SELECT FROM doorbell.starts",
        "SELECT FROM doorbell.receipt",
    ] {
        assert_denied(&world, &mut session, statement);
    }
    drop(session);
    // A relay that is not what it claims to be is found.
    let command = doorbell(&world, &["run", "--start-timeout", "1s"])
        .env("DATABASE_URL", world.url_as(&operator))
        .output();
    refused(&command.expect("the binary runs"), 1, &["lacks SELECT"]);
    roles.drop(&mut world);
}
