//! What breaks a promise, or soon will: each is caused on purpose.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::{Checkup, Consumer, Relay, Roles, World, create_topic, refused, stage};

#[test]
fn what_a_table_has_that_breaks_a_promise_is_found_and_the_remedies_cure_it() {
    let mut world = World::new("hazards");
    let name = world.name().to_owned();
    world.sql(&format!(
        "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE TABLE audit (event bigint REFERENCES outbox); \
         CREATE TABLE tidy (event bigint REFERENCES outbox ON DELETE CASCADE); \
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep(); \
         CREATE TRIGGER seen AFTER UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION keep(); \
         GRANT INSERT, UPDATE ON outbox TO PUBLIC; CREATE TABLE kid () INHERITS (outbox); \
         ALTER TABLE outbox ADD tenant text NOT NULL, ADD site text NOT NULL DEFAULT 'here'; \
         ALTER SEQUENCE outbox_id_seq INCREMENT 50; INSERT INTO outbox (type, tenant) VALUES ('t', 'x'); INSERT INTO outbox (id, type, tenant) VALUES (1000, 't', 'x'); \
         ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    let checkup = Checkup::of(&world, &[]);
    let mut remedies = Vec::new();
    for (severity, code, words) in [
        ("warning", "search-path", &["public by PUBLIC"][..]),
        (
            "warning",
            "foreign-keys",
            &["audit_event_fkey of public.audit"],
        ),
        ("warning", "deletes-kept", &["keep on public.outbox"]),
        ("note", "rows-change", &["seen on public.outbox"]),
        ("note", "rows-change", &["PUBLIC"]),
        ("warning", "id-not-unique", &["kid"]),
        ("warning", "sequence-step", &["50"]),
        ("warning", "sequence-behind", &["1000"]),
        ("warning", "column-required", &[": tenant"]),
        ("warning", "read-only", &[&name]),
    ] {
        remedies.push(checkup.finds(severity, code, words));
    }
    for (remedy, statement) in remedies.iter().zip([
        "REVOKE CREATE",
        "ALTER TABLE",
        "DROP TRIGGER",
        "DROP TRIGGER",
        "REVOKE UPDATE",
        "ALTER TABLE",
        "ALTER SEQUENCE",
        "SELECT setval",
    ]) {
        let at = remedy.find(statement).expect("a statement");
        let statement = remedy[at..].split(", and ").next().expect("a text");
        world.sql(statement);
    }
    world.sql(&format!(
        "ALTER TABLE outbox ALTER tenant DROP NOT NULL; ALTER DATABASE {name} RESET default_transaction_read_only"
    ));
    Checkup::of(&world, &[]).lacks(&[
        "search-path",
        "foreign-keys",
        "deletes-kept",
        "rows-change",
        "id-not-unique",
        "sequence-step",
        "sequence-behind",
        "column-required",
        "read-only",
    ]);
}

#[test]
fn a_time_without_a_zone_is_warned_of_and_a_time_ahead_costs_no_row() {
    let (mut world, relay, mut consumer) = stage("localtime");
    world.sql("INSERT INTO outbox (type, payload, created_at) VALUES ('t', 'ahead', now() + interval '5 hours')");
    assert_eq!(consumer.await_records(1)[0].text(), "ahead");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());

    let name = world.name().to_owned();
    world.sql(&format!(
        "ALTER TABLE outbox ALTER created_at TYPE timestamp; ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"
    ));
    let words = format!("database {name} (Asia/Tokyo)");
    let migrated = world.doorbell(&["migrate"]);
    let said = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert!(migrated.status.success() && said.contains(&words), "{said}");
    let remedy = Checkup::of(&world, &[]).finds("warning", "created-at", &[&words]);
    world.sql(remedy.split_once("or: ").expect("a statement").1);
    let no_zone = |it: &Checkup| {
        let found = it.all("created-at");
        found
            .iter()
            .any(|it| it["what"].to_string().contains("zone"))
    };
    assert!(!no_zone(&Checkup::of(&world, &[])));
}

#[test]
fn a_database_without_an_encoding_is_refused_by_migrate_and_found_by_check() {
    let mut world = World::new("encoding");
    let ascii = format!("{}_ascii", world.name());
    world.sql(&format!(
        "CREATE DATABASE {ascii} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    let url = world.database_url.replace(world.name(), &ascii);
    let flags = ["--database-url", url.as_str()];
    let migrated = world.doorbell(&[&["migrate"], &flags[..]].concat());
    refused(&migrated, 1, &["SQL_ASCII", "ENCODING 'UTF8'"]);
    {
        let mut there = world.connect_to(&url);
        world.sql_on(
            &mut there,
            include_str!("../../../migrations/0001_outbox.sql"),
        );
        world.sql_on(
            &mut there,
            r"INSERT INTO outbox (type) VALUES (convert_from('\xff', 'SQL_ASCII'))",
        );
    }
    let checkup = Checkup::of(&world, &flags);
    checkup.finds("error", "encoding", &["SQL_ASCII"]);
    let remedy = checkup.finds("error", "statement-failed", &["UTF8", "0xff", "22021"]);
    assert!(remedy.contains("correct or delete the row"), "{remedy}");
    checkup.lacks(&["postgres-away"]);
    world.sql(&format!("DROP DATABASE {ascii} WITH (FORCE)"));
}

#[test]
fn row_security_that_applies_to_the_relay_ends_its_start_with_the_remedy() {
    let mut world = World::new("rowsecurity");
    let roles = Roles::new(&mut world);
    let url = world.url_as(&roles.relay);
    world.sql("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON outbox USING (true)");
    let run = world.doorbell(&["run", "--database-url", &url]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    for word in ["row security", "DISABLE ROW LEVEL SECURITY", "BYPASSRLS"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    roles.drop(&mut world);
}

#[test]
fn connections_over_a_network_without_encryption_are_found_and_warned_of() {
    let world = World::new("plain");
    create_topic(&world, &world.topic, 1, &[]);
    // The same machine under a name that does not say so.
    let far = |text: &str| text.replace("127.0.0.1", "0.0.0.0");
    let (url, brokers) = (far(&world.database_url), far(&world.services.kafka_brokers));
    let flags = ["--database-url", url.as_str(), "--kafka-brokers", &brokers];
    let checkup = Checkup::of(&world, &flags);
    let remedy = checkup.finds("warning", "postgres-plaintext", &["0.0.0.0", "prefer"]);
    assert!(remedy.contains("verify-full"), "{remedy}");
    checkup.finds("warning", "kafka-plaintext", &["0.0.0.0", "plaintext"]);
    let near = Checkup::of(&world, &[]);
    near.lacks(&["postgres-plaintext", "kafka-plaintext"]);
    let relay = Relay::leading(&world, &flags);
    relay.assert_logged("connections over a network are not encrypted", 1);
    assert!(relay.stop().success());
}

#[test]
fn topics_that_drop_old_records_and_small_receipts_are_found() {
    let mut world = World::new("retention");
    let receipts = format!("{}.receipts", world.name());
    create_topic(&world, &world.topic, 1, &[("retention.ms", "3600000")]);
    let small = [
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "20000"),
    ];
    create_topic(&world, &receipts, 1, &small);
    world.sql("INSERT INTO doorbell.dead (outbox, row_id, created_at, type, reason, code, payload_size, key_size, headers_size, attempts) \
        VALUES ('public.outbox', 1, now() - interval '1 day', 't', 'too large', 'MessageSizeTooLarge', 1, 0, 0, 1)");
    let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
    let checkup = Checkup::of(&world, &flags);
    checkup.finds(
        "warning",
        "topic-retention",
        &["1h", "dead letters", "1day"],
    );
    checkup.finds("error", "receipts-unfit", &["max.message.bytes", "20000"]);
    world.sql("INSERT INTO outbox (type, created_at) VALUES ('t', now() - interval '2 hours')");
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "topic-retention", &["1h", "rows wait", "2h"]);
    assert!(Consumer::new(&world, &world.topic).drain().is_empty());
}

/// Forwards to a broker, and gives its address in the answers another name of the same length.
fn renaming(broker: &str) -> String {
    let near = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = near.local_addr().expect("an address").to_string();
    let broker = broker.to_owned();
    std::thread::spawn(move || {
        for client in near.incoming().flatten() {
            let server = TcpStream::connect(&broker).expect("a broker");
            let (mut from, mut to) = (
                client.try_clone().expect("a copy"),
                server.try_clone().expect("a copy"),
            );
            std::thread::spawn(move || std::io::copy(&mut from, &mut to).ok());
            std::thread::spawn(move || answer(server, client));
        }
    });
    address
}

/// Passes each answer on whole.
fn answer(mut server: TcpStream, mut client: TcpStream) -> Option<()> {
    const NAME: &[u8] = b"127.0.0.1";
    loop {
        let mut size = [0; 4];
        server.read_exact(&mut size).ok()?;
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        server.read_exact(&mut body).ok()?;
        while let Some(at) = body.windows(NAME.len()).position(|it| it == NAME) {
            body[at..at + NAME.len()].copy_from_slice(b"x.invalid");
        }
        client.write_all(&size).ok()?;
        client.write_all(&body).ok()?;
    }
}

#[test]
fn brokers_whose_own_names_cannot_be_resolved_are_named() {
    let world = World::new("listeners");
    create_topic(&world, &world.topic, 1, &[]);
    let brokers = renaming(&world.services.kafka_brokers);
    let checkup = Checkup::of(&world, &["--kafka-brokers", &brokers]);
    let remedy = checkup.finds("error", "kafka-listeners", &["x.invalid:"]);
    assert!(remedy.contains("advertised.listeners"), "{remedy}");
    Checkup::of(&world, &[]).lacks(&["kafka-listeners"]);
    let relay = Relay::spawn(&world, &["--kafka-brokers", &brokers]);
    relay.await_log("a broker names a host that cannot be resolved");
    relay.assert_logged("x.invalid", 1);
    assert!(relay.stop().success());
}
