//! Why the database cannot be used: the true cause, in the server's words, with its own remedy.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use tempfile::NamedTempFile;

use crate::support::{
    Checkup, Relay, Services, World, create_topic, doorbell, eventually, refused,
};

#[test]
fn a_table_that_is_locked_is_told_with_its_holder_and_hides_no_other_outbox() {
    let mut world = World::new("locked");
    world.migrate(&["--table", "second"]);
    let config = NamedTempFile::new().expect("a file");
    let topic = world.topic.replace("outbox", "{table}");
    let text =
        format!("[[outbox]]\ntopic = '{topic}'\n[[outbox]]\ntable = 'second'\ntopic = '{topic}'\n");
    std::fs::write(config.path(), text).expect("room");
    let path = config.path().to_str().expect("a path");
    let mut holder = world.connect();
    world.sql_on(
        &mut holder,
        "SET application_name = 'by hand'; BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    let checkup = Checkup::of(&world, &["--config", path]);
    assert_eq!(checkup.code, Some(1));
    let end = checkup.finds(
        "error",
        "table-locked",
        &["outbox", "by hand", "in a transaction"],
    );
    checkup.finds("note", "no-leader", &[]);
    checkup.lacks(&["postgres-away", "statement-failed"]);
    let status = world.doorbell(&["status", "--config", path]);
    refused(
        &status,
        1,
        &["outbox is locked by", "by hand", "pg_terminate_backend"],
    );
    world.sql(&end);
    Checkup::of(&world, &["--config", path]).lacks(&["table-locked"]);
}

#[test]
fn limits_settings_and_names_are_told_as_what_they_are() {
    let mut world = World::new("truecause");
    let name = world.name().to_owned();
    world.sql(&format!("CREATE ROLE {name} LOGIN CONNECTION LIMIT 0"));
    let url = world.url_as(&name);
    let flags = ["--database-url", url.as_str()];
    let checkup = Checkup::of(&world, &flags);
    checkup.finds("error", "connections", &["too many connections for role"]);
    checkup.lacks(&["postgres-away"]);
    let status = world.doorbell(&[&["status"], &flags[..]].concat());
    refused(&status, 1, &["too many connections for role"]);

    world.sql(&format!(
        "ALTER ROLE {name} CONNECTION LIMIT 5; ALTER ROLE {name} SET search_path = ''"
    ));
    let remedy = Checkup::of(&world, &flags).finds("error", "table-missing", &["search_path"]);
    assert!(remedy.contains("public.outbox"), "{remedy}");
    let status = world.doorbell(&[&["status"], &flags[..]].concat());
    refused(
        &status,
        1,
        &["outbox does not exist", "public.outbox", "search_path"],
    );
    world.sql("CREATE TABLE \"Events\" (id bigint)");
    let remedy = Checkup::of(&world, &["--table", "events"]).finds("error", "table-missing", &[]);
    assert!(remedy.contains("\"Events\""), "{remedy}");

    world.sql(&format!(
        "ALTER ROLE {name} RESET search_path; ALTER ROLE {name} SET default_transaction_read_only = on; \
         GRANT ALL ON SCHEMA public TO {name}; ALTER TABLE outbox OWNER TO {name}; GRANT ALL ON SCHEMA doorbell TO {name}; \
         GRANT ALL ON ALL TABLES IN SCHEMA doorbell TO {name}"
    ));
    // Sessions of Doorbell may write whatever the default of the role is.
    for command in [&["pause"][..], &["resume"], &["emit", "--type", "t", "x"]] {
        let output = world.doorbell(&[command, &flags[..]].concat());
        assert!(output.status.success(), "{output:?}");
    }
    world.sql(&format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}"));
}

/// Answers each login as a server that wants another password.
fn picky_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut buffer = [0; 1_024];
            while let Ok(1..) = client.read(&mut buffer) {
                let is_tls = buffer[4..8] == 80_877_103_u32.to_be_bytes();
                let body = b"SFATAL\0C28P01\0Mpassword authentication failed for user \"u\"\0\0";
                let size = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
                let answer = match is_tls {
                    true => b"N".to_vec(),
                    false => [&b"E"[..], &size, body].concat(),
                };
                client.write_all(&answer).ok();
            }
        }
    });
    port
}

#[test]
fn a_file_of_passwords_that_others_may_read_and_a_missing_socket_are_named() {
    let world = World::empty("passfile", Services::shared().clone());
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "*:*:*:*:secret\n").expect("room");
    let url = format!("postgres://u@127.0.0.1:{}/d", picky_server());
    let status = |mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), mode).expect("one's own file");
        let mut command = doorbell(&world, &["status"]);
        let command = command.env("DATABASE_URL", &url);
        command
            .env("PGPASSFILE", file.path())
            .output()
            .expect("it runs")
    };
    let path = file.path().display().to_string();
    refused(
        &status(0o644),
        1,
        &["password authentication failed", "chmod 600", &path],
    );
    let strict = status(0o600);
    assert!(!String::from_utf8_lossy(&strict.stderr).contains("chmod"));

    let folder = tempfile::tempdir().expect("a folder");
    let encoded = folder.path().display().to_string().replace('/', "%2F");
    let url = format!("postgres://u@{encoded}:5433/d");
    let socket = format!("{}/.s.PGSQL.5433", folder.path().display());
    let checkup = Checkup::of(&world, &["--database-url", &url]);
    checkup.finds("error", "postgres-away", &[&socket, "No such file"]);
}

#[test]
fn a_relay_that_waits_for_kafka_is_named_while_none_leads() {
    let world = World::new("nokafka");
    create_topic(&world, &world.topic, 1, &[]);
    let waiting = Relay::spawn(&world, &["--kafka-brokers", "127.0.0.1:1"]);
    let version = concat!(
        "waits for Kafka and says so in its log: doorbell ",
        env!("CARGO_PKG_VERSION")
    );
    let process = format!(", process {}", waiting.pid());
    eventually(version, || {
        let output = world.doorbell(&["status"]);
        let status = String::from_utf8_lossy(&output.stdout);
        (status.contains(version) && status.contains(&process)).then_some(())
    });
    Checkup::of(&world, &[]).finds("note", "no-leader", &["waits for Kafka"]);
    assert!(waiting.stop().success());
}

#[test]
fn a_host_that_is_not_in_the_dns_yet_is_waited_for() {
    let world = World::new("nodns");
    create_topic(&world, &world.topic, 1, &[]);
    let url = world.database_url.replace("127.0.0.1", "db.invalid");
    let flags = ["--database-url", url.as_str()];
    let checkup = Checkup::of(&world, &flags);
    checkup.finds(
        "error",
        "postgres-away",
        &["db.invalid", "cannot be resolved"],
    );
    let relay = Relay::spawn(&world, &flags);
    relay.await_log_times("its host cannot be resolved", 1);
    assert!(relay.stop().success());
    let run = world.doorbell(&[&["run", "--start-timeout", "100ms"], &flags[..]].concat());
    assert_eq!(run.status.code(), Some(1));
}
