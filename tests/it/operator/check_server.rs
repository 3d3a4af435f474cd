//! `doorbell check` and the server as a whole: each finding is caused on purpose.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::{
    Checkup, Instance, Relay, Services, TABLES, World, configuration, create_topic, eventually,
};

/// A walsender session that reports what a standby with `hot_standby_feedback` would: it holds this
/// snapshot.
struct Standby(TcpStream);

impl Standby {
    /// Streams, through a slot if one is named, and holds `xmin`.
    fn holding(world: &World, slot: Option<&str>, xmin: u32) -> Self {
        let address = world.host_port();
        let mut standby = Self(TcpStream::connect(address).expect("a connection"));
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend(b"user\0postgres\0replication\0true\0application_name\0far standby\0\0");
        standby.send(None, &startup);
        standby.await_message(b'Z');
        let through = slot.map_or_else(String::new, |slot| format!("SLOT {slot} "));
        standby.send(Some(b'Q'), b"IDENTIFY_SYSTEM\0");
        let row = standby.await_message(b'D');
        standby.await_message(b'Z');
        // The third of its fields is the place in the log.
        let text = String::from_utf8_lossy(&row).into_owned();
        let at = text.find('/').expect("a place in the log");
        let hex = |c: char| c.is_ascii_hexdigit();
        let low: String = text[at + 1..].chars().take_while(|c| hex(*c)).collect();
        let high: String = text[..at].chars().rev().take_while(|c| hex(*c)).collect();
        let high: String = high.chars().rev().collect();
        standby.send(
            Some(b'Q'),
            format!("START_REPLICATION {through}PHYSICAL {high}/{low}\0").as_bytes(),
        );
        standby.await_message(b'W');
        let mut feedback = vec![b'h'];
        feedback.extend(0_i64.to_be_bytes());
        feedback.extend(xmin.to_be_bytes());
        feedback.extend(0_u32.to_be_bytes());
        feedback.extend([0; 8]);
        standby.send(Some(b'd'), &feedback);
        standby
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).expect("a short message");
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend(length.to_be_bytes());
        message.extend(body);
        self.0.write_all(&message).expect("sent");
    }

    fn await_message(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).expect("an answer");
            let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).expect("an answer");
            assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
            if head[0] == wanted {
                return body;
            }
        }
    }
}

/// These findings hold for all databases of a server, so it has a server of its own: others would
/// be slowed down.
#[track_caller]
fn assert_snapshots_are_named(world: &mut World, flags: &[&str]) {
    let slot = format!("{}_{}", world.name(), flags.len());
    let now = "SELECT pg_current_xact_id()::text::bigint % 4294967296";
    let xmin = u32::try_from(world.number(now)).expect("32 bits");
    world.sql(&format!(
        "SELECT pg_create_physical_replication_slot('{slot}')"
    ));
    let _streaming = Standby::holding(world, None, xmin);
    let through = Standby::holding(world, Some(&slot), xmin);
    world.await_number("SELECT count(*) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL AND application_name = 'far standby'", 1);
    world.await_number(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND xmin IS NOT NULL"), 1);
    // A standby that reads, and one that restarts, are ordinary.
    let away = format!("{slot}_away");
    world.sql(&format!(
        "SELECT pg_create_physical_replication_slot('{away}')"
    ));
    let went = Standby::holding(world, Some(&away), xmin);
    world.await_number(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{away}' AND xmin IS NOT NULL"), 1);
    drop(went);
    world.await_number(
        &format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{away}' AND NOT active"
        ),
        1,
    );
    Checkup::of(world, flags).lacks(&["snapshot-held"]);
    world.sql(&format!("SELECT pg_drop_replication_slot('{away}')"));
    // A hundred thousand transactions pass.
    world.sql("DO $$ BEGIN FOR i IN 1..100001 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$");
    let checkup = Checkup::of(world, flags);
    checkup.finds(
        "warning",
        "snapshot-held",
        &["standby server \"far standby\"", "transactions"],
    );
    checkup.finds(
        "warning",
        "snapshot-held",
        &["the standby of the replication slot", &slot],
    );
    drop(through);
    world.await_number(
        &format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
        ),
        1,
    );
    let checkup = Checkup::of(world, flags);
    let remedy = checkup.finds(
        "warning",
        "snapshot-held",
        &["inactive replication slot", &slot],
    );
    let status =
        String::from_utf8(world.doorbell(&[&["status"], flags].concat()).stdout).expect("text");
    for words in [
        "snapshot the standby server",
        "snapshot the inactive replication slot",
    ] {
        assert!(status.contains(words), "{words} in {status}");
    }
    world.sql(remedy.split(" if ").next().expect("a statement"));
    Checkup::of(world, flags)
        .all("snapshot-held")
        .iter()
        .for_each(|it| {
            assert!(!it["what"].as_str().expect("what").contains(&slot), "{it}");
        });
}

#[track_caller]
fn assert_settings_are_named(world: &mut World, flags: &[&str]) {
    world.sql("ALTER SYSTEM SET autovacuum = off");
    world.sql("SELECT pg_reload_conf()");
    let checkup = eventually("the server has read its settings", || {
        Some(Checkup::of(world, flags)).filter(|it| !it.all("server-settings").is_empty())
    });
    let on = checkup.finds("warning", "server-settings", &["autovacuum"]);
    for statement in on.split_inclusive(';') {
        world.sql(statement);
    }
    eventually("the server has read them again", || {
        let checkup = Checkup::of(world, flags);
        checkup.all("server-settings").is_empty().then_some(())
    });
}

/// The queue of notifications can be made small from PostgreSQL 17 on.
#[track_caller]
fn assert_a_full_queue_stops_no_writer(world: &mut World, server: &mut Instance) {
    let version = "SELECT current_setting('server_version_num')::bigint";
    if world.number(version) < 170_000 {
        return;
    }
    world.sql("ALTER SYSTEM SET max_notify_queue_pages = 64");
    server.stop("postgres");
    server.again();
    world.reconnect();
    create_topic(world, &world.topic, 1, &[]);
    let relay = Relay::leading(world, &["--sweep", "1s"]);
    let mut deaf = world.connect();
    world.sql_on(&mut deaf, "SET application_name = 'deaf'; LISTEN elsewhere");
    world.sql_on(&mut deaf, "BEGIN; SELECT 1");
    let mut loud = world.connect();
    let notify = "SELECT pg_notify('elsewhere', repeat('x', 7900))";
    let full = (0..200).any(|_| world.try_sql_on(&mut loud, notify).is_err());
    assert!(full, "the queue is full");
    world.await_asleep();
    world.sql("INSERT INTO outbox (type) VALUES ('t')");
    world.await_empty();
    // Named once it has been in its transaction for longer than those that only write.
    let deaf = |it: &Checkup| {
        it.all("notify-queue")[0]["what"]
            .to_string()
            .contains("deaf")
    };
    let checkup = eventually("the deaf session is named", || {
        Some(Checkup::of(world, &[])).filter(deaf)
    });
    let end = checkup.finds("error", "notify-queue", &["deaf", "%"]);
    checkup.lacks(&["postgres-away"]);
    world.sql(&end);
    assert!(relay.stop().success());
    eventually("the queue is truncated", || {
        let checkup = Checkup::of(world, &[]);
        let codes = ["notify-queue", "statement-failed"];
        codes
            .iter()
            .all(|code| checkup.all(code).is_empty())
            .then_some(())
    });
}

#[test]
fn the_server_and_its_clock_are_judged() {
    let mut server = Instance::start("check", &["postgres", "standby"]);
    let mut world = World::on("checkserver", server.services());
    assert_a_full_queue_stops_no_writer(&mut world, &mut server);
    for tables in TABLES {
        let config = configuration(&world, tables);
        let path = config.path().to_str().expect("a path");
        let flags: &[&str] = if tables.len() == 1 {
            &[]
        } else {
            &["--config", path]
        };
        world.migrate(flags);
        assert_snapshots_are_named(&mut world, flags);
        assert_settings_are_named(&mut world, flags);
    }
    world.sql("SET allow_system_table_mods = on; CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE \
        AS $$ SELECT pg_catalog.statement_timestamp() + interval '1 hour' $$");
    Checkup::of(&world, &[]).finds("warning", "clock-skew", &["ahead", "3600"]);

    let two = world.database_url.replace("@127", "@127.0.0.1:1,127");
    Checkup::of(&world, &["--database-url", &two]).finds("warning", "host-away", &["127.0.0.1:1"]);
    let unreachable = world.database_url.replace(world.host_port(), "127.0.0.1:1");
    let checkup = Checkup::of(&world, &["--database-url", &unreachable]);
    assert_eq!(checkup.code, Some(2), "it could not look");
    checkup.finds("error", "postgres-away", &["127.0.0.1:1"]);
    let wrong = format!("{}_not", world.database_url);
    Checkup::of(&world, &["--database-url", &wrong]).finds(
        "error",
        "postgres-refused",
        &["does not exist"],
    );

    let (standby, _) = server
        .variable("DATABASE_URL_STANDBY")
        .rsplit_once('/')
        .expect("a URL");
    let standby = format!("{standby}/{}", world.name());
    let checkup = Checkup::of(&world, &["--database-url", &standby]);
    assert_eq!(checkup.code, Some(1));
    checkup.finds("error", "postgres-standby", &["standby server"]);
}

/// Answers one client as a server of version 13 does.
fn old_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut buffer = [0; 1_024];
            let message = |kind: u8, body: &[u8]| {
                let length = u32::try_from(body.len() + 4).expect("short");
                [&[kind][..], &length.to_be_bytes(), body].concat()
            };
            let field = |name: &str, oid: u32| {
                let numbers = [&[0; 6][..], &oid.to_be_bytes(), &[0; 8]].concat();
                [name.as_bytes(), &[0], &numbers].concat()
            };
            let ready = message(b'Z', b"I");
            let mut begun = false;
            while let Ok(1..) = client.read(&mut buffer) {
                let answer = if !begun && buffer[4..8] == 80_877_103_u32.to_be_bytes() {
                    b"N".to_vec() // no TLS
                } else if !begun {
                    begun = true;
                    [message(b'R', &[0; 4]), ready.clone()].concat()
                } else if buffer[0] == b'Q' {
                    let fields =
                        [&2_u16.to_be_bytes()[..], &field("v", 23), &field("r", 16)].concat();
                    let row = [
                        &2_u16.to_be_bytes()[..],
                        &6_u32.to_be_bytes(),
                        b"130010",
                        &1_u32.to_be_bytes(),
                        b"f",
                    ]
                    .concat();
                    [
                        message(b'T', &fields),
                        message(b'D', &row),
                        message(b'C', b"SELECT 1\0"),
                        ready.clone(),
                    ]
                    .concat()
                } else {
                    break;
                };
                if client.write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn a_server_that_is_too_old_is_named() {
    let world = World::empty("checkold", Services::shared().clone());
    let url = format!("postgres://postgres@127.0.0.1:{}/old", old_server());
    let checkup = Checkup::of(&world, &["--database-url", &url]);
    checkup.finds("error", "postgres-version", &["version 13"]);
    assert_eq!(checkup.code, Some(1));
}
