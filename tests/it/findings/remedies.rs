//! Remedies work as they are printed, with one outbox and with several.

use std::process::Output;

use super::printed::{commands, fits, statement, statements};
use crate::support::{Checkup, Relay, TABLES, World, configured, doorbell, eventually, refused};

/// Adds a dead letter of an outbox, and returns its id.
fn letter(world: &mut World, quoted: &str) -> String {
    world.sql(&format!(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, reason, code, payload_size, key_size, headers_size, attempts) \
         SELECT '{quoted}', 1000 + count(*), now(), 't', 'too large', 'MessageSizeTooLarge', 1, 0, 0, 1 FROM doorbell.dead"
    ));
    world
        .number("SELECT max(id) FROM doorbell.dead")
        .to_string()
}

/// Splits a command as a shell would, without its first word.
fn words(command: &str) -> Vec<String> {
    let command = command.strip_prefix("doorbell ").expect("a command");
    command
        .split(' ')
        .map(|word| word.trim_matches('\'').to_owned())
        .collect()
}

fn run(world: &World, path: &str, command: &str) -> Output {
    let words = words(command);
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.extend(["--config", path]);
    world.doorbell(&arguments)
}

#[test]
fn a_table_chooses_one_of_several_outboxes_in_every_command() {
    for tables in TABLES {
        let mut world = World::new("remedies");
        let config = configured(&world, tables);
        let path = config.path().to_str().expect("a path").to_owned();
        let last = tables[tables.len() - 1];
        let does = |world: &World, command: &str| {
            let output = run(world, &path, command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
            String::from_utf8(output.stdout).expect("text")
        };
        let remedy = Checkup::of(&world, &["--config", &path]);
        for missing in remedy.all("table-missing") {
            let remedy = missing["remedy"].as_str().expect("a remedy");
            does(&world, remedy.split(", or").next().expect("a command"));
        }
        does(&world, &format!("doorbell pause --table {last}"));
        let id = does(&world, &format!("doorbell emit --table {last} --type t x"));
        assert_eq!(id.trim(), "1");
        // What `status` says of a trigger that is missing is right for this outbox alone.
        world.sql(&format!("DROP TRIGGER doorbell_ring ON {last}"));
        let status = does(&world, &format!("doorbell status --table {last}"));
        let (_, remedy) = status.split_once("; run `").expect("a remedy");
        does(&world, remedy.split('`').next().expect("a command"));
        let status = does(&world, &format!("doorbell status --table {last}"));
        assert!(!status.contains("missing"), "{status}");
        assert_eq!(status.matches("backlog").count(), 1, "{status}");
        assert!(
            status.contains("1 row\n") && status.contains("PAUSED"),
            "{status}"
        );
        let quoted = format!("public.{}", last.trim_start_matches("public."));
        letter(&mut world, &quoted);
        let checkup = Checkup::of(&world, &["--config", &path]);
        let resume = checkup.finds("warning", "paused", &[]);
        assert!(does(&world, &resume).contains("is resumed"));
        let letters = checkup.finds("warning", "dead-letters", &["1 dead letter is kept"]);
        let (list, retry) = letters.split_once(" shows").expect("two commands");
        assert!(does(&world, list).contains("too large"));
        let (_, retry) = retry.split_once("then: ").expect("a command");
        assert!(does(&world, retry).contains('1'));
        Checkup::of(&world, &["--config", &path]).lacks(&["paused", "dead-letters"]);
        // As the relay prints it: with the schema.
        does(
            &world,
            &format!("doorbell receipts accept --table '{quoted}'"),
        );
        does(&world, &format!("doorbell verify --table '{quoted}'"));
        if tables.len() > 1 {
            for command in ["receipts accept", "emit --type t x", "verify"] {
                let output = run(&world, &path, &format!("doorbell {command}"));
                refused(&output, 2, &["outbox, public.second, third", "--table"]);
            }
            let output = run(&world, &path, "doorbell status --table fourth");
            refused(&output, 2, &["fourth", "not a configured outbox", "third"]);
        }
    }
}

#[test]
fn each_command_that_is_printed_is_run_with_one_outbox_and_with_three() {
    for tables in TABLES {
        let mut world = World::new("printed");
        let config = configured(&world, tables);
        let path = config.path().to_str().expect("a path").to_owned();
        world.migrate(&["--config", &path]);
        let relay = Relay::spawn(&world, &["--config", &path]);
        relay.await_log_times("leading", tables.len());
        let last = tables[tables.len() - 1];
        let quoted = format!("public.{}", last.trim_start_matches("public."));
        for command in commands() {
            let id = letter(&mut world, &quoted);
            let place = |word: &str| match word.trim_matches('\'').starts_with('{') {
                true if command.contains(" show ") => id.clone(),
                true => quoted.clone(),
                false => word.to_owned(),
            };
            let mut words: Vec<String> = command.split(' ').map(place).collect();
            if words.len() == 1 && words[0] == "dead" {
                words.push("--help".into());
            }
            words.extend(["--config".to_owned(), path.clone()]);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if command == "run" {
                let second = Relay::of(&mut doorbell(&world, &words));
                second.await_log_times("standby", tables.len());
                assert!(second.stop().success());
                continue;
            }
            let output = world.doorbell(&words);
            let said = String::from_utf8_lossy(&output.stderr);
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{command}: {printed}{said}");
        }
        assert!(relay.stop().success());
    }
}

/// What breaks the table `T` and its sequence, so that `check` prints statements.
const BREAK: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
    CREATE TRIGGER keep BEFORE DELETE ON T FOR EACH ROW EXECUTE FUNCTION keep(); \
    CREATE TRIGGER seen AFTER UPDATE ON T FOR EACH ROW EXECUTE FUNCTION keep(); \
    ALTER TABLE T ADD ref uuid UNIQUE, ADD tenant text NOT NULL; \
    CREATE UNLOGGED TABLE audit (event uuid REFERENCES T (ref)); ALTER TABLE audit DROP CONSTRAINT audit_event_fkey; \
    CREATE TABLE kid () INHERITS ( T ); GRANT INSERT, UPDATE ON T TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC; \
    ALTER TABLE T SET (autovacuum_enabled = off); ALTER TABLE T DROP CONSTRAINT T_pkey; CREATE INDEX ON T (id); \
    ALTER TABLE T DISABLE TRIGGER doorbell_ring; ALTER TABLE T ALTER created_at DROP DEFAULT; \
    ALTER SEQUENCE T_id_seq CACHE 10 CYCLE INCREMENT 2 MAXVALUE 100; \
    INSERT INTO T (id, type, tenant, created_at) VALUES (95, 't', 'x', now()); SELECT setval('T_id_seq', 90); \
    ALTER TABLE T SET UNLOGGED; ALTER TABLE audit ADD FOREIGN KEY (event) REFERENCES T (ref)";

/// What the statements of `BREAK` are found as, in the order in which they are cured.
const BROKEN: &[&str] = &[
    "trigger-disabled",
    "replica-role",
    "foreign-keys",
    "deletes-kept",
    "rows-change",
    "column-required",
    "search-path",
    "unlogged",
    "autovacuum-off",
    "id-not-unique",
    "created-at",
    "sequence-cache",
    "sequence-cycles",
    "sequence-step",
    "sequence-end",
    "sequence-behind",
    "leader-stranger",
    "snapshot-held",
];

/// Statements that other tests run as they are printed, with one outbox and with several: a part,
/// and the path of the test. They are about the server or a role, or need another configuration.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "SELECT pg_drop_replication_slot",
        "operator::check_server::the_server_and_its_clock_are_judged",
    ),
    (
        "ALTER SYSTEM SET … = on",
        "operator::check_server::the_server_and_its_clock_are_judged",
    ),
    (
        "SELECT pg_reload_conf()",
        "operator::check_server::the_server_and_its_clock_are_judged",
    ),
    (
        "is that table under a new name",
        "security::migration::a_migration_says_how_a_renamed_table_keeps_its_identity",
    ),
    (
        "CREATE UNIQUE INDEX CONCURRENTLY",
        "mapping::event_ids::check_finds_an_event_id_that_may_repeat_and_one_of_another_type_is_refused",
    ),
    (
        "if it was dropped for good",
        "security::migration::a_migration_says_how_a_table_that_was_dropped_is_forgotten",
    ),
    (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend",
        "operator::check::a_takeover_from_a_frozen_leader_takes_one_role",
    ),
    (
        "ADD UNIQUE (",
        "mapping::none::without_a_time_the_id_must_be_unique",
    ),
    (
        "ALTER ROLE … CONNECTION LIMIT",
        "operator::check::rights_are_held_against_those_that_the_relay_needs",
    ),
    (
        "creates the role doorbell_relay",
        "security::privileges::the_printed_roles_are_enough_for_one_outbox_and_for_several",
    ),
];

/// A world whose last outbox is in trouble, and the remedies that were run.
struct Patient {
    world: World,
    path: String,
    last: &'static str,
    ran: Vec<String>,
}

impl Patient {
    fn cures(&mut self, remedy: &str) {
        self.world.sql(statement(remedy));
        self.ran.push(remedy.to_owned());
    }

    fn sql(&mut self, sql: &str) {
        let last = self.last;
        let sql = sql.replace("T_", &format!("{last}_"));
        self.world.sql(&sql.replace(" T ", &format!(" {last} ")));
    }

    fn check(&self, flags: &[&str]) -> Checkup {
        let own = ["--config", self.path.as_str(), "--old", "0s"];
        Checkup::of(&self.world, &[&own[..], flags].concat())
    }

    /// Runs what is printed for each of these codes, and checks that it helps.
    #[track_caller]
    fn is_cured(&mut self, flags: &[&str], codes: &[&str]) {
        let checkup = self.check(flags);
        for code in codes {
            let found = checkup.all(code);
            assert!(!found.is_empty(), "{code} in {:#}", checkup.answer);
            for it in found {
                self.cures(it["remedy"].as_str().expect("a remedy"));
            }
        }
        eventually("nothing is left of it", || {
            let checkup = self.check(flags);
            let are_gone = codes.iter().all(|code| checkup.all(code).is_empty());
            are_gone.then_some(())
        });
    }
}

/// Returns the remedies that were run for the last of these outboxes.
fn cured(tables: &'static [&'static str]) -> Vec<String> {
    let world = World::new("statements");
    let config = configured(&world, tables);
    let path = config.path().to_str().expect("a path").to_owned();
    world.migrate(&["--config", &path]);
    let (last, name) = (tables[tables.len() - 1], world.name().to_owned());
    let mut patient = Patient {
        world,
        path,
        last,
        ran: Vec::new(),
    };
    // As `status` and the log say it.
    patient.sql("ALTER TABLE T DISABLE TRIGGER doorbell_ring");
    let output = patient
        .world
        .doorbell(&["status", "--config", &patient.path, "--table", last]);
    let status = String::from_utf8(output.stdout).expect("text");
    let line = status.lines().find(|line| line.contains("trigger"));
    patient.cures(line.expect("a line of the trigger"));
    patient.sql("ALTER TABLE T DISABLE TRIGGER doorbell_ring");
    let relay = Relay::spawn(&patient.world, &["--config", &patient.path]);
    relay.await_log("doorbell_ring is disabled");
    let log = relay.log();
    let line = log
        .iter()
        .find(|it| it.contains("doorbell_ring is disabled"));
    patient.cures(line.expect("it was awaited"));
    assert!(relay.stop().success());

    let role = format!("{name}_R");
    // For this database alone: others have tests of their own.
    patient.sql(&format!(
        "CREATE ROLE \"{role}\" LOGIN; ALTER DATABASE {name} SET session_replication_role = replica"
    ));
    patient.sql(BREAK);
    let mut stranger = patient.world.connect();
    let lock = format!("SELECT pg_advisory_lock(1685024626, '{last}'::regclass::oid::int4)");
    patient.world.sql_on(&mut stranger, &lock);
    let mut second = patient.world.connect();
    let prepared = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{name}'");
    patient.world.sql_on(&mut second, &prepared);
    patient.is_cured(&[], BROKEN);
    patient.sql(&format!(
        "ALTER TABLE T ALTER created_at TYPE timestamp; ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"
    ));
    patient.is_cured(&[], &["created-at"]);
    patient.sql(&format!(
        "CREATE PUBLICATION \"{name}\" FOR TABLE T ; ALTER TABLE T REPLICA IDENTITY NOTHING"
    ));
    patient.is_cured(&[], &["deletes-impossible"]);
    patient.sql(
        "ALTER TABLE T ALTER id DROP IDENTITY; ALTER TABLE T DROP CONSTRAINT T_pkey; \
         CREATE UNIQUE INDEX ON T (id); ALTER TABLE T ALTER id DROP NOT NULL",
    );
    patient.is_cured(&[], &["id-not-unique", "table-unfit"]);

    // For a role that is no superuser.
    let url = patient.world.url_as(&role);
    let flags = ["--database-url", url.as_str()];
    patient.sql(&format!(
        "GRANT USAGE ON SCHEMA doorbell TO \"{role}\"; GRANT SELECT ON ALL TABLES IN SCHEMA doorbell TO \"{role}\""
    ));
    let accept = [
        "receipts",
        "accept",
        "--config",
        &patient.path,
        "--table",
        last,
    ];
    let output = patient.world.doorbell(&[&accept[..], &flags].concat());
    patient.cures(&String::from_utf8_lossy(&output.stderr));
    patient.is_cured(&flags, &["rights-missing", "sees-little"]);
    patient.sql(&format!("ALTER DATABASE {name} CONNECTION LIMIT 5"));
    patient.is_cured(&flags, &["connections"]);
    patient.sql(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""));
    patient.ran
}

#[test]
fn each_statement_that_is_printed_is_run_with_one_outbox_and_with_three() {
    let mut ran = Vec::new();
    for tables in TABLES {
        ran.extend(cured(tables));
    }
    let world = World::new("asprinted");
    for form in statements() {
        let is_run = ran.iter().any(|it| fits(&form, it));
        if let Some((_, test)) = ELSEWHERE.iter().find(|(it, _)| form.contains(it)) {
            let (file, test) = test.rsplit_once("::").expect("file::test");
            let file = file.replace("::", "/");
            let path = format!("{}/tests/it/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("a file");
            assert!(text.contains(&format!("fn {test}()")), "{file}::{test}");
        } else if !form.contains('…') {
            let mut session = world.connect();
            world.sql_on(&mut session, statement(&form));
        } else {
            assert!(is_run, "no test runs: {form}");
        }
    }
}
