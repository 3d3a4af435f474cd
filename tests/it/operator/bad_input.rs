//! What the program says about bad input, and what it never says.

use std::io::{Read, Write};
use std::net::TcpListener;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{Services, World, doorbell, last_words, refused};

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
            &[
                "--database-url",
                "postgres://u@no-such-host.invalid/x?sslmode=require",
            ],
        ),
        1,
        &["no-such-host.invalid", "resolved"],
    );
    refused(
        &run(&world, &["--database-url", "postgres://u@127.0.0.1:1/x"]),
        1,
        &["127.0.0.1:1", "unreachable"],
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
        &["lacks UPDATE", "GRANT UPDATE"],
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
    refused(&output, 2, &[":2:", "`compression.type`"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hush"));
    for (property, words) in [
        ("'no.such.thing' = '1'", &["no.such.thing"][..]),
        (
            "'linger.ms' = '5ms'",
            &[":2:", "`linger.ms`", "without a unit"],
        ),
        (
            "'linger.ms' = 'x'",
            &[":2:", "`linger.ms`", "must be a number"],
        ),
        (
            "'compression.typ' = 'zstd'",
            &[":2:", "unknown property `compression.typ`"],
        ),
        (
            "'compression.type' = 'x'",
            &[":2:", "`compression.type` does not take this value"],
        ),
        (
            "'sasl.password' = { env = 'DOORBELL_TEST_ABSENT' }",
            &[":2:", "the variable DOORBELL_TEST_ABSENT is not set"],
        ),
        (
            "'security.protocol' = 'SASL_PLAINTEXT'",
            &[":2:", "`sasl.mechanism`", "SCRAM-SHA-256"],
        ),
    ] {
        std::fs::write(&file, format!("[kafka.properties]\n{property}\n")).expect("a file");
        let path = file.to_str().expect("a path");
        for command in ["run", "config"] {
            if command == "run" || !property.contains("ABSENT") {
                let output = world.doorbell(&[command, "--config", path]);
                refused(&output, 2, words);
            }
        }
    }
    // A container needs no file: properties as flags, and secrets in variables.
    std::fs::write(
        &file,
        "kafka.properties.'sasl.password' = { env = 'HUSH' }\n",
    )
    .expect("a file");
    let path = file.to_str().expect("a path");
    let flags = [
        "config",
        "--config",
        path,
        "-X",
        "linger.ms=7",
        "-X",
        "client.id=me",
    ];
    let output = doorbell(&world, &flags)
        .env("HUSH", "hush-hush")
        .output()
        .expect("an end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("\"sasl.password\" = { env = \"HUSH\" }"),
        "{text}"
    );
    assert!(
        text.contains("\"linger.ms\" = \"7\"") && text.contains("# -X"),
        "{text}"
    );
    assert!(!text.contains("hush-hush"), "{text}");
}

#[test]
fn a_port_that_does_not_speak_postgresql_is_said_to_be_one() {
    let world = World::empty("badport", Services::shared().clone());
    for (answer, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "does not speak PostgreSQL",
        ),
        // A proxy before a server that is down closes at once.
        (b"", "closed the connection without an answer"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let read = stream.read(&mut [0; 64]).expect("a request");
            assert!(read > 0, "a request");
            stream.write_all(answer).expect("an answer");
        });
        let url = format!("postgres://u@127.0.0.1:{port}/x");
        let output = world.doorbell(&["status", "--database-url", &url]);
        refused(&output, 1, &[&format!("127.0.0.1:{port}"), words]);
        server.join().expect("the port was asked");
    }
}

/// These ports have no listener: whatever is opened would be reported as unreachable, with another
/// exit code.
const NOWHERE: &str = "postgres://u@127.0.0.1:1/x";

#[test]
fn a_wrong_command_line_is_one_line_that_says_what_was_meant() {
    let world = World::empty("badusage", Services::shared().clone());
    for (words, said) in [
        (
            &["dead"][..],
            &["no command is given", "list", "see `doorbell dead --help`"][..],
        ),
        (&["receipts"], &["no command is given", "accept"]),
        (&["rum"], &["'rum'", "'run'"]),
        (&["dead", "lisd"], &["'lisd'", "'list'"]),
        (
            &["run", "--sweeep", "1s"],
            &["'--sweeep'", "'--sweep'", "see `doorbell run"],
        ),
        (&["run", "--sweep"], &["--sweep", "none was supplied"]),
        (
            &["run", "--start-timeout", "soon"],
            &["'soon'", "--start-timeout"],
        ),
        (&["run", "--json", "--json"], &["--json", "multiple times"]),
        (&["run", "outbox"], &["'outbox'"]),
        (&["emit", "x"], &["--type"]),
        (
            &["emit", "--type", "t", "--tombstone", "x"],
            &["--tombstone", "cannot be used with"],
        ),
        (&["completions"], &["<SHELL>"]),
        (&["completions", "cmd"], &["'cmd'", "bash"]),
        (&["status", "--watch", "1ms"], &["'1ms'", "100ms"]),
        (
            &["status", "--watch=abc"],
            &["must be a duration such as", "see `doorbell status --help`"],
        ),
        (
            &["dead", "show", "abc"],
            &["must be a number", "see `doorbell dead show --help`"],
        ),
        (
            &["run", "--poison", "drop"],
            &["known are park, hold-key, stop"],
        ),
        (
            &["run", "--in-flight-rows", "-1"],
            &["--in-flight-rows", "from 1 to 1000000"],
        ),
        (
            &["run", "--kafka-brokers", "http://kafka:9092"],
            &["--kafka-brokers", "must be host:port"],
        ),
        (
            &["run", "-X", "compression.typ=zstd"],
            &["-X: unknown property `compression.typ`"],
        ),
        (&["run", "-X", "zstd"], &["-X", "KEY=VALUE"]),
        (&["run", "-X", "acks=1"], &["-X", "`acks` cannot be set"]),
        (&["bench", "nothing"], &["'nothing'"]),
    ] {
        refused(&world.doorbell(words), 2, said);
    }
    for words in [
        &[][..],
        &["--help"],
        &["-h"],
        &["run", "--help"],
        &["help", "dead"],
        &["--version"],
    ] {
        let output = world.doorbell(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
    let said = |words: &[&str]| world.doorbell(words).stdout;
    assert_eq!(said(&["help", "run"]), said(&["run", "--help"]));
    assert_eq!(said(&["help"]), said(&["--help"]));
}

#[test]
fn a_secret_file_that_cannot_be_used_ends_the_start_before_anything_is_opened() {
    let world = World::empty("badsecret", Services::shared().clone());
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("room for a file");
        path.display().to_string()
    };
    let (empty, binary) = (write("empty", b"\n"), write("binary", b"hush\xff"));
    let itself = folder.path().display().to_string();
    for (file, why) in [
        ("/nowhere/secret", "No such file"),
        (itself.as_str(), "directory"),
        (&empty, "it is empty"),
        (&binary, "it is not UTF-8"),
    ] {
        let run = |variables: &[(&str, &str)], config: &str| {
            let config = write("doorbell.toml", config.as_bytes());
            let mut command = doorbell(&world, &["run", "--config", &config]);
            command
                .env_remove("DATABASE_URL")
                .envs(variables.iter().copied());
            command.output().expect("the binary runs")
        };
        let url = ("DATABASE_URL", NOWHERE);
        let said = [file, why];
        refused(
            &run(&[("DATABASE_URL_FILE", file)], ""),
            2,
            &[&["DATABASE_URL_FILE"], &said[..]].concat(),
        );
        refused(
            &run(&[url, ("PGPASSWORD_FILE", file)], ""),
            2,
            &[&["PGPASSWORD_FILE"], &said[..]].concat(),
        );
        let mechanism = "[kafka.properties]\n'sasl.mechanism' = 'OAUTHBEARER'\n";
        refused(
            &run(&[url, ("KAFKA_TOKEN_FILE", file)], mechanism),
            2,
            &[&["KAFKA_TOKEN_FILE"], &said[..]].concat(),
        );
        let property = format!("[kafka.properties]\n'sasl.password' = {{ file = '{file}' }}\n");
        refused(
            &run(&[url], &property),
            2,
            &[&["doorbell.toml:2"], &said[..]].concat(),
        );
        let database = format!("[database]\nurl = {{ file = '{file}' }}\n");
        refused(
            &run(&[], &database),
            2,
            &[&["doorbell.toml:2"], &said[..]].concat(),
        );
    }
    let good = write("good", NOWHERE.as_bytes());
    let both = [("DATABASE_URL", NOWHERE), ("DATABASE_URL_FILE", &good)];
    let output = doorbell(&world, &["run"]).envs(both).output();
    refused(
        &output.expect("the binary runs"),
        2,
        &["DATABASE_URL is set as well", "keep one"],
    );
}

#[test]
fn words_that_are_unknown_are_refused_with_those_that_are_known() {
    let world = World::new("badwords");
    for (flags, words) in [
        (["--poison", "forget"], ["--poison", "park, hold-key, stop"]),
        (
            ["--delivery", "twice"],
            ["--delivery", "at-least-once, exactly-once"],
        ),
        (
            ["--transactional-id", "x"],
            ["--transactional-id", "delivery = \"exactly-once\""],
        ),
        (
            ["--receipts", "x"],
            ["--receipts", "delivery = \"exactly-once\""],
        ),
    ] {
        refused(&world.doorbell(&[&["run"][..], &flags].concat()), 2, &words);
    }
}

#[test]
fn exactly_once_on_brokers_without_transactions_is_refused_in_one_line() {
    let brokers = MockCluster::new(1).expect("brokers");
    brokers
        .apiversion(RDKafkaApiKey::InitProducerId, None, None)
        .expect("brokers that are too old");
    let words = ["Kafka has no transactions", "upgrade the brokers"];
    refused_by(&brokers, "badbrokers", &words);
}

#[test]
fn exactly_once_on_brokers_that_allow_no_transaction_of_a_minute_is_refused_in_one_line() {
    let brokers = MockCluster::new(1).expect("brokers");
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[error]);
    let words = [
        "Kafka allows no transaction of 60 s",
        "transaction.max.timeout.ms",
    ];
    refused_by(&brokers, "shortbrokers", &words);
}

/// The relay must refuse to start with these brokers.
#[track_caller]
fn refused_by(brokers: &MockCluster<'_, DefaultProducerContext>, test: &str, words: &[&str]) {
    let mut world = World::new(test);
    world.sql("INSERT INTO outbox (type) VALUES ('t')");
    let run = [
        "run",
        "--start-timeout",
        "30s",
        "--delivery",
        "exactly-once",
    ];
    let address = ["--kafka-brokers", &brokers.bootstrap_servers()];
    refused(
        &last_words(world.doorbell(&[&run[..], &address].concat())),
        1,
        words,
    );
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);
}

#[test]
fn a_dead_letter_that_cannot_go_back_says_why() {
    let mut world = World::new("cannotgoback");
    world.sql("ALTER TABLE outbox ADD COLUMN tenant text NOT NULL");
    world.sql(
        "CREATE TABLE events (event_id bigint PRIMARY KEY, kind text, payload text, created_at timestamptz NOT NULL)",
    );
    let columns = ["--column", "id=event_id", "--column", "type=kind"];
    world.migrate(&[&["--table", "events"], &columns[..]].concat());
    world.sql(
        "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, payload, reason, code, payload_size, key_size, headers_size, attempts) \
         SELECT t, 1, now(), 't', 'x', 'why', 'Why', 1, 0, 0, 1 FROM unnest(ARRAY['public.outbox', 'public.events']) t",
    );
    refused(
        &world.doorbell(&["dead", "retry", "--all"]),
        1,
        &["column \"tenant\"", "give that column a default"],
    );
    let retry = ["dead", "retry", "--all", "--table", "events"];
    let missing = ["no column \"id\"", "--column"];
    refused(&world.doorbell(&retry), 1, &missing);
    let output = world.doorbell(&[&retry, &columns[..]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(world.number("SELECT event_id FROM events"), 1);
}
