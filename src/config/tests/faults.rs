//! Every fault: where it is said to be, and what is said.

use super::*;

fn faults(file: &str) -> Vec<String> {
    load(file, ENOUGH).expect_err(file)
}

#[test]
fn a_file_that_cannot_be_read() {
    let env = |name: &str| (name == "DOORBELL_CONFIG").then(|| "/nowhere/doorbell.toml".to_owned());
    let shown = Settings::load(Overrides::default(), &env, KAFKA)
        .expect_err("there is none")
        .to_string();
    assert!(
        shown.starts_with("environment DOORBELL_CONFIG: cannot read"),
        "{shown}"
    );
    assert!(
        shown.contains("/nowhere/doorbell.toml: No such file"),
        "{shown}"
    );
    assert_eq!(
        shown.lines().count(),
        1,
        "what the file would have said is not missed: {shown}"
    );

    let flags = |path: &std::path::Path| Overrides {
        global: GlobalFlags {
            config: Some(path.to_owned()),
            ..GlobalFlags::default()
        },
        ..Overrides::default()
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let shown = Settings::load(flags(folder.path()), &env, KAFKA)
        .expect_err("a folder is no file")
        .to_string();
    assert!(shown.starts_with("--config: cannot read"), "{shown}");

    let shown = load_as(b"# \xff", Overrides::default(), &[], KAFKA).expect_err("Latin-1");
    assert_eq!(
        shown,
        ["--config: cannot read the configuration file doorbell.toml: it is not UTF-8 text"]
    );
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let shown = load("", &[]).expect_err("nothing is given");
    assert_eq!(
        shown,
        [
            "no Kafka is given: set KAFKA_BROKERS, --kafka-brokers, or `brokers` in [kafka]",
            "no database is given: set DATABASE_URL, --database-url, or `url` in [database]",
        ]
    );
    let shown =
        load_as(b"", Overrides::default(), &[], Needs { kafka: false }).expect_err("no database");
    assert_eq!(shown.len(), 1, "{shown:?}");
}

#[test]
fn each_fault_of_a_file_has_its_line_and_its_remedy() {
    for (file, expected) in [
        (
            "\nlisten = 1",
            "2: unknown key `listen` at the top of the file; known are database, kafka, relay, http, telemetry, outbox",
        ),
        (
            "[outbx]",
            "1: unknown key `outbx` at the top of the file; did you mean `outbox`?",
        ),
        (
            "\"a\\nb\" = 1",
            "1: unknown key at the top of the file; known are",
        ),
        ("[database]\nurl = 5", "2: `url` must be a text in quotes"),
        (
            "[database]\nurll = ''",
            "2: unknown key `urll` in [database]; did you mean `url`?",
        ),
        (
            "database = ''",
            "1: `database` is a section: write [database] on a line of its own",
        ),
        (
            "[kafka]\nbroker = ''",
            "2: unknown key `broker` in [kafka]; did you mean `brokers`?",
        ),
        (
            "[kafka]\nproperties = 1",
            "2: `properties` is a section: write [kafka.properties] on",
        ),
        (
            "[kafka.properties]\na = 1.5",
            "2: a property must be a text in quotes, a whole number, true or false, or { file",
        ),
        (
            "[kafka.properties]\na.b = 1979-05-27",
            "2: a property must be a text",
        ),
        (
            "[kafka.properties]\na = \"\\u0000\"",
            "2: a property in [kafka.properties] contains a NUL character",
        ),
        (
            "[relay]\nstop = '1s'",
            "2: unknown key `stop` in [relay]; known are stop_timeout, leader_timeout",
        ),
        (
            "[relay]\nstop_timeout = '25h'",
            "2: the stop timeout must be from 0s to 1day",
        ),
        (
            "[relay]\nleader_timeout = '1s'",
            "2: the leader timeout must be from 2s to 1day",
        ),
        (
            "[http]\nlisten = 8686",
            "2: `listen` must be a text in quotes",
        ),
        (
            "[http]\nlisten = '8686'",
            "2: the HTTP address must be HOST:PORT, such as 127.0.0.1:8686, or off",
        ),
        (
            "[http]\nlisten = '::1:8686'",
            "2: the HTTP address must be HOST:PORT",
        ),
        (
            "[http]\nlisten = 'h:70000'",
            "2: the HTTP address has a port that is not a number from 0 to 65535",
        ),
        (
            "[http]\nstuck_after = '10ms'",
            "2: the time after which the relay is stuck must be from 1s to 1day",
        ),
        (
            "[http]\nshow_payloads = 'true'",
            "2: `show_payloads` must be true or false, without quotes",
        ),
        (
            "[http]\ntoken_file = '/nowhere/token'",
            "2: the token for the HTTP port cannot be read from /nowhere/token: No such file",
        ),
        (
            "[telemetry]\notlp_endpoint = 'localhost:4318'",
            "2: the collector's address must be http://HOST:PORT or https://HOST:PORT, such as http://localhost:4318",
        ),
        (
            "[telemetry]\notlp_traces_endpoint = 'http://u:HUNTER2@h/v1/traces'",
            "2: the collector's address for traces must not have a login: headers for a collector are given in OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            "[telemetry]\nendpoint = 'http://h'",
            "2: unknown key `endpoint` in [telemetry]; known are otlp_endpoint, otlp_traces_endpoint",
        ),
        (
            "[http]\nlisen = ''",
            "2: unknown key `lisen` in [http]; did you mean `listen`?",
        ),
        (
            "[outbox]\ntable = 'a'",
            "1: outboxes are written with two brackets: [[outbox]]",
        ),
        (
            "outbox = [1]",
            "1: an outbox is a section of its own: [[outbox]]",
        ),
        (
            "[[outbox]]\n\ntopik = ''",
            "3: unknown key `topik` in [[outbox]]; did you mean `topic`?",
        ),
        (
            "[[outbox]]\ntable = 'a b'",
            "2: the table is not a table's name: write table or schema.table",
        ),
        (
            "[[outbox]]\ntable = '\"a b\"'",
            "2: the table's name makes no topic: a topic name has only",
        ),
        (
            "[[outbox]]\ntable = '\"a b\"'\ntopic = '{table}'",
            "3: the table's name makes no topic: a topic name has",
        ),
        (
            "[[outbox]]\ntopic = 'a b'",
            "2: the topic is not legal: a topic name has only letters",
        ),
        (
            "[[outbox]]\ntopic = '{typ}'",
            "2: the topic has an unknown placeholder; known are {table} and {type}",
        ),
        (
            "[[outbox]]\nsweep = 60",
            "2: `sweep` must be a text in quotes",
        ),
        (
            "[[outbox]]\nsweep = '60'",
            "2: the sweep must be a number and a unit, such as 500ms, 30s or 2m",
        ),
        (
            "[[outbox]]\nsweep = '1ms'",
            "2: the sweep must be from 100ms to 1day",
        ),
        (
            "[[outbox]]\nsweep = 'off'",
            "2: the sweep cannot be off: it is the net under the notifications; the longest is 1day",
        ),
        (
            "[[outbox]]\npoison = 'ignore'",
            "2: the poison policy is unknown; known are park, hold-key, stop",
        ),
        (
            "[[outbox]]\n[outbox.poison_topics]\norders.eu = 'hold'",
            "3: the poison policy of the topic `orders.eu` is unknown; known are park, hold-key, stop",
        ),
        (
            "[[outbox]]\n[outbox.poison_topics]\norders = true",
            "3: `orders` must be a text in quotes",
        ),
        (
            "[[outbox]]\n[outbox.poison_topics]\n\"a b\" = 'park'",
            "3: no topic of [outbox.poison_topics] can have this name: a topic name has only",
        ),
        (
            "[[outbox]]\npoison_topics = 'park'",
            "2: `poison_topics` is a section: write [outbox.poison_topics] on a line of its own",
        ),
        (
            "[[outbox]]\ndelivery = 'exactly-onec'",
            "2: the delivery mode is unknown; did you mean `exactly-once`?",
        ),
        (
            "[[outbox]]\ntransactional_id = 'x'",
            "2: `transactional_id` belongs to the mode exactly-once",
        ),
        (
            "[[outbox]]\ndelivery = 'at-least-once'\nreceipts = 'x'",
            "3: `receipts` belongs to the mode exactly-once",
        ),
        (
            "[[outbox]]\ndelivery = 'exactly-once'\ntransactional_id = ' '",
            "3: the transactional id must be a text of 1 to 249 bytes",
        ),
        (
            "[[outbox]]\ndelivery = 'exactly-once'\nreceipts = '{type}'",
            "3: the topic of the receipts cannot depend on {type}",
        ),
        (
            "[[outbox]]\ndelivery = 'exactly-once'\nreceipts = 'a b'",
            "3: the topic of the receipts is not legal",
        ),
        (
            "[[outbox]]\nin_flight_rows = '1'",
            "2: `in_flight_rows` must be a whole number, without quotes",
        ),
        (
            "[[outbox]]\nin_flight_rows = 0",
            "2: the number of rows in flight must be a whole number from 1 to 1000000",
        ),
        (
            "[[outbox]]\nin_flight_rows = 99999999999999999999999999",
            "2: the number of rows in flight must be",
        ),
        (
            "[[outbox]]\nin_flight_bytes = '8M'",
            "2: the size in flight must be a number of bytes, or",
        ),
        (
            "[[outbox]]\nin_flight_bytes = 1",
            "2: the size in flight must be from 64.0 KiB to 4.0 GiB",
        ),
        (
            "[[outbox]]\nmax_rate = 0",
            "2: the greatest rate must be a whole number from 1 to 10000000, in rows a second, or off",
        ),
        (
            "[[outbox]]\nmax_rate = 'slow'",
            "2: the greatest rate must be a whole number",
        ),
        (
            "[[outbox]]\nin_flight_bytes = 1.5",
            "2: `in_flight_bytes` must be a text in quotes",
        ),
        (
            "[[outbox]]\n[outbox.columns]\nkeys = 'a'",
            "3: unknown key `keys` in [outbox.columns]; did you mean `key`?",
        ),
        (
            "[[outbox]]\n[outbox.columns]\nkey = ''",
            "3: the column for `key` has an empty name",
        ),
        (
            "[[outbox]]\ncolumns = 1",
            "2: `columns` is a section: write [outbox.columns] on a line of its own",
        ),
        (
            "[[outbox]]\n[[outbox]]",
            "2: the table outbox has two [[outbox]]: keep one, or name another table",
        ),
        (
            "[[outbox]]\n[[outbox]]\ntable = 'OUTBOX'",
            "3: the table outbox has two [[outbox]]",
        ),
        ("[relay", "1: this is not TOML: "),
        ("[relay]\n[relay]", "2: this is not TOML: duplicate key"),
        ("[relay]\nstop_timeout = ", "2: this is not TOML: "),
    ] {
        let shown = faults(file);
        assert_eq!(shown.len(), 1, "{file}: {shown:?}");
        assert!(
            shown[0].starts_with(&format!("doorbell.toml:{expected}")),
            "{file}: {shown:?}"
        );
    }
}

#[test]
fn each_fault_of_a_flag_or_variable_names_it() {
    let outbox = |change: fn(&mut OutboxFlags)| {
        let mut flags = Overrides::default();
        change(&mut flags.outbox);
        load_as(b"", flags, ENOUGH, KAFKA).expect_err("a fault")
    };
    for (shown, expected) in [
        (
            outbox(|flags| flags.table = Some("a.b.c".into())),
            "--table: the table has too many parts",
        ),
        (
            outbox(|flags| flags.topic = Some("{".into())),
            "--topic: the topic has a brace alone",
        ),
        (
            outbox(|flags| flags.sweep = Some("".into())),
            "--sweep: the sweep must be a number and a unit",
        ),
        (
            outbox(|flags| flags.poison = Some("parc".into())),
            "--poison: the poison policy is unknown; did you mean `park`?",
        ),
        (
            outbox(|flags| flags.delivery = Some("twice".into())),
            "--delivery: the delivery mode is unknown; known are at-least-once, exactly-once",
        ),
        (
            outbox(|flags| flags.in_flight_rows = Some("many".into())),
            "--in-flight-rows: the number of rows",
        ),
        (
            outbox(|flags| flags.in_flight_bytes = Some("1k".into())),
            "--in-flight-bytes: the size in flight",
        ),
        (
            outbox(|flags| flags.column = vec!["key".into()]),
            "--column: must be KEY=NAME, such as key=order_id",
        ),
        (
            outbox(|flags| flags.column = vec!["keu=a".into()]),
            "--column: has an unknown key before the `=`; did you mean `key`?",
        ),
        (
            outbox(|flags| flags.column = vec!["key=a".into(), "key=b".into()]),
            "--column: maps `key` twice: keep one",
        ),
        (
            outbox(|flags| flags.column = vec!["key=".into()]),
            "--column: the column for `key` has an empty name",
        ),
        (
            load("", &[("DATABASE_URL", "HUNTER2"), ENOUGH[1]]).expect_err("no URL"),
            "environment DATABASE_URL: the database URL must begin with postgres://",
        ),
        (
            load("", &[ENOUGH[0], ("KAFKA_BROKERS", "HUNTER2:x")]).expect_err("no port"),
            "environment KAFKA_BROKERS: the list of brokers has a port that is not a number from 1 to 65535",
        ),
    ] {
        assert_eq!(shown.len(), 1, "{expected}: {shown:?}");
        assert!(shown[0].starts_with(expected), "{expected}: {shown:?}");
        assert!(!shown[0].contains("HUNTER2"), "{shown:?}");
    }
}

#[test]
fn flags_of_one_outbox_do_not_fit_two() {
    let mut flags = Overrides::default();
    flags.outbox.sweep = Some("1s".into());
    flags.outbox.column = vec!["key=a".into()];
    let shown = load_as(WHOLE.as_bytes(), flags, ENOUGH, KAFKA).expect_err("two outboxes");
    let text = "the file has 2 [[outbox]], and a flag cannot say which it means: set it there";
    assert_eq!(
        shown,
        [format!("--column: {text}"), format!("--sweep: {text}")]
    );
}

#[test]
fn brokers() {
    for text in [
        "b",
        "b:9092",
        "b1:9092, b2:9093",
        "SSL://b:9093",
        "[::1]:9092",
        "[::1]",
        "10.0.0.1:9092",
    ] {
        let settings = load("", &[ENOUGH[0], ("KAFKA_BROKERS", text)]).expect(text);
        assert_eq!(settings.kafka.brokers, text);
    }
    for text in [
        ",", "b,", ":9092", "b:", "b:0", "b:65536", "b c:1", "u:p@b:1", "b:1/x", "SSL://",
    ] {
        let shown = load("", &[ENOUGH[0], ("KAFKA_BROKERS", text)]).expect_err(text);
        assert!(
            shown[0].starts_with("environment KAFKA_BROKERS: the list of brokers "),
            "{text}: {shown:?}"
        );
    }
}

#[test]
fn what_doorbell_sets_itself_is_refused_with_the_reason() {
    for (name, reason) in [
        ("bootstrap.servers", "set `brokers` in [kafka] instead"),
        ("metadata.broker.list", "set `brokers` in [kafka] instead"),
        ("enable.idempotence", "always true"),
        ("acks", "always `all`"),
        ("request.required.acks", "always `all`"),
        ("message.timeout.ms", "always 0"),
        ("delivery.timeout.ms", "always 0"),
        ("retries", "until Kafka has it"),
        ("message.send.max.retries", "until Kafka has it"),
        ("transactional.id", "`transactional_id` in [[outbox]]"),
        ("transaction.timeout.ms", "always 60 s"),
        ("queue.buffering.max.messages", "`in_flight_rows`"),
        ("queue.buffering.max.kbytes", "`in_flight_bytes`"),
        (
            "delivery.report.only.error",
            "when its delivery is reported",
        ),
    ] {
        for key in [name.to_owned(), format!("\"{name}\"")] {
            let shown = faults(&format!("[kafka.properties]\n{key} = 'HUNTER2'"));
            assert_eq!(shown.len(), 1, "{shown:?}");
            let expected =
                format!("doorbell.toml:2: `{name}` cannot be set in [kafka.properties]: ");
            assert!(
                shown[0].starts_with(&expected) && shown[0].contains(reason),
                "{shown:?}"
            );
            assert!(!shown[0].contains("HUNTER2"), "{shown:?}");
        }
    }
    for allowed in [
        "partitioner",
        "max.in.flight",
        "compression.type",
        "ssl.key.pem",
    ] {
        load(&format!("[kafka.properties]\n\"{allowed}\" = 'x'"), ENOUGH).expect(allowed);
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let file = r#"[database]
url = "postgres://u:HUNTER2@h:port/db"
pool = 5
[kafka.properties]
acks = "HUNTER2"
[relay]
stop_timeout = = "1s"
[[outbox]]
table = "a"
sweep = "never"
[[outbox]]
table = "b"
topik = "x"
[outbox.columns]
key = 1
"#;
    let mut flags = Overrides::default();
    flags.global.kafka_brokers = Some("b:0".into());
    let shown = load_as(
        file.as_bytes(),
        flags,
        &[("DATABASE_URL", "HUNTER2")],
        KAFKA,
    )
    .expect_err("many faults");
    let places: Vec<&str> = shown
        .iter()
        .map(|line| line.split(": ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        places,
        [
            "--kafka-brokers",
            "environment DATABASE_URL",
            "doorbell.toml:3",
            "doorbell.toml:5",
            "doorbell.toml:7",
            "doorbell.toml:10",
            "doorbell.toml:13",
            "doorbell.toml:15",
        ],
        "{shown:#?}"
    );
    assert!(!shown.concat().contains("HUNTER2"), "{shown:?}");
}

#[test]
fn faults_of_secrets_in_files_are_said_before_anything_is_opened() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let good = folder.path().join("good");
    std::fs::write(&good, "postgres://h/db\n").expect("room for a small file");
    let good = good.display().to_string();
    let file = "[kafka.properties]\n\"sasl.password\" = { file = \"/nowhere/kafka\" }\n";
    let env = [
        ("DATABASE_URL_FILE", "/nowhere/url"),
        ("PGPASSWORD_FILE", "/nowhere/password"),
        ("KAFKA_TOKEN_FILE", "/nowhere/token"),
        ("KAFKA_BROKERS", "b:9092"),
    ];
    let shown = load(file, &env).expect_err("there are no such files");
    let at = "cannot be read from /nowhere/";
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown[0].starts_with("environment DATABASE_URL_FILE: the database URL "),
        "{shown:?}"
    );
    assert!(shown[0].contains(at), "{shown:?}");
    assert!(
        shown[1].starts_with("environment KAFKA_TOKEN_FILE: the token is of no use"),
        "{shown:?}"
    );
    assert!(
        shown[2].starts_with("doorbell.toml:2: the value of a property cannot be read from /nowhere/kafka: No such file"),
        "{shown:?}"
    );

    let env = [
        ("DATABASE_URL_FILE", good.as_str()),
        ("PGPASSWORD_FILE", "/nowhere/password"),
        ("DATABASE_URL", "postgres://h/db"),
        ("PGPASSWORD", "HUNTER2"),
        ("KAFKA_BROKERS", "b:9092"),
    ];
    let shown = load("", &env).expect_err("each is given twice");
    assert_eq!(
        shown[..2],
        [
            "environment DATABASE_URL_FILE: DATABASE_URL is set as well: keep one",
            "environment PGPASSWORD_FILE: PGPASSWORD is set as well: keep one",
        ]
    );
    assert!(!format!("{shown:?}").contains("HUNTER2"), "{shown:?}");
}

#[test]
fn a_token_for_the_http_port_cannot_be_guessed_and_fits_into_a_header() {
    let long = "HUNTER2".repeat(1_000);
    for token in [
        "HUNTER2",
        "HUNTER2-and-a blank",
        "HUNTER2-and-an-ümlaut",
        &long,
    ] {
        let env = [ENOUGH, &[("DOORBELL_HTTP_TOKEN", token)]].concat();
        let shown = load("", &env).expect_err(token);
        assert_eq!(
            shown,
            [
                "environment DOORBELL_HTTP_TOKEN: the token for the HTTP port must have 16 to 1024 characters, letters, digits and signs \
                 without blanks: `openssl rand -hex 32` makes one"
            ]
        );
    }
}

#[test]
fn a_login_by_token_needs_a_token_and_a_token_that_login() {
    let oauth = "[kafka.properties]\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n";
    assert_eq!(
        faults(oauth),
        [
            "the mechanism OAUTHBEARER needs a token: set KAFKA_TOKEN_FILE, or `token_file` in [kafka], to a file that holds it"
        ]
    );
    let unsigned = "[kafka.properties]\n\"enable.sasl.oauthbearer.unsecure.jwt\" = true\n";
    let shown = faults(unsigned);
    assert!(
        shown[0].contains("set `token_file` in [kafka]"),
        "{shown:?}"
    );
}
