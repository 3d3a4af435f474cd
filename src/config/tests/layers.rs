//! What each layer gives, and which goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;

#[test]
fn a_whole_file_gives_the_settings() {
    let settings = load(WHOLE, &[]).expect("it is right");
    assert_eq!(settings.database.url.shown(), "u@file-host/db");
    assert_eq!(settings.kafka.brokers, "file-broker:9092");
    assert_eq!(settings.stop_timeout, Duration::from_secs(5));
    assert_eq!(settings.http.listen, Listen::At("[::1]:0".into()));
    assert_eq!(settings.http.stuck_after, Duration::from_secs(120));
    assert!(settings.http.show_payloads);
    assert_eq!(settings.leader_timeout, Duration::from_secs(90));
    let traces = "http://file-collector:4318/v1/traces".to_owned();
    assert_eq!(settings.telemetry.traces, Some(traces));
    let properties: Vec<_> = settings
        .kafka
        .properties
        .iter()
        .map(|(k, v)| (k.as_str(), v.expose_secret()))
        .collect();
    assert_eq!(
        properties,
        [
            ("compression.type", "zstd"),
            ("linger.ms", "16"),
            ("sasl.password", "HUNTER2"),
            ("socket.keepalive.enable", "true"),
        ]
    );
    let [first, second] = settings.outboxes.as_slice() else {
        panic!("two outboxes: {:?}", settings.outboxes)
    };
    let first_expected = Outbox {
        table: TableName {
            schema: Some("app".into()),
            name: "outbox".into(),
        },
        topic: Route::parse("{table}.{type}").expect("a legal route"),
        sweep: Duration::from_secs(10),
        columns: Columns {
            id: "No".into(),
            key: Optional::Named("order id".into()),
            ..Columns::default()
        },
        poison: Poison::Stop,
        poison_topics: [("payments", Poison::HoldKey), ("audit.log", Poison::Park)]
            .map(|(topic, policy)| (topic.to_owned(), policy))
            .into(),
        in_flight_rows: 1000,
        in_flight_bytes: 1 << 20,
        max_rate: Some(500),
        delivery: Delivery::AtLeastOnce,
    };
    assert_eq!(first, &first_expected);
    let table = TableName {
        schema: None,
        name: "Other".into(),
    };
    assert_eq!(
        second,
        &Outbox {
            table,
            in_flight_bytes: 65536,
            delivery: Delivery::ExactlyOnce(Transactions {
                id: Some("file".into()),
                ..Transactions::default()
            }),
            ..Outbox::default()
        }
    );
    assert!(!format!("{settings:?}").contains("HUNTER2"), "{settings:?}");
}

#[test]
fn without_a_file_the_defaults_hold() {
    let settings = load("", ENOUGH).expect("it is enough");
    assert_eq!(settings.outboxes, [Outbox::default()]);
    assert_eq!(settings.stop_timeout, defaults::STOP_TIMEOUT);
    assert_eq!(
        format!("{:?}", settings.http),
        format!("{:?}", Http::default())
    );
    assert_eq!(settings.telemetry, Telemetry::default());
    assert_eq!(settings.leader_timeout, defaults::LEADER_TIMEOUT);
    assert!(settings.kafka.properties.is_empty());
    assert_eq!(
        load("outbox = []", ENOUGH)
            .expect("as good as none")
            .outboxes,
        [Outbox::default()]
    );
    let env = |name: &str| (name == "DATABASE_URL").then(|| "postgres://h/db".to_owned());
    let settings = Settings::load(Overrides::default(), &env, Needs { kafka: false })
        .expect("Kafka is not needed");
    assert_eq!(settings.kafka.brokers, "");
}

#[test]
fn spans_go_where_the_variables_of_opentelemetry_say_and_an_address_for_traces_goes_first() {
    let traces = |file: &str, env: &[(&str, &str)]| {
        let settings = load(file, &[ENOUGH, env].concat()).expect("all layers are right");
        settings.telemetry.traces.expect("a collector")
    };
    let (all, one) = (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    );
    let file = "telemetry.otlp_endpoint = 'http://file:1'";
    assert_eq!(traces(file, &[]), "http://file:1/v1/traces");
    assert_eq!(
        traces(file, &[(all, "https://env:1/a/")]),
        "https://env:1/a/v1/traces"
    );
    assert_eq!(
        traces(file, &[(all, "http://env:1"), (one, "http://one:1/x")]),
        "http://one:1/x"
    );
    assert_eq!(
        traces(
            "telemetry.otlp_traces_endpoint = 'http://h/x'",
            &[(all, "")]
        ),
        "http://h/x"
    );
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let file = r#"
        database.url = "postgres://file/db"
        kafka.brokers = "file:1"
        relay.stop_timeout = "1s"
        [[outbox]]
        table = "file"
        sweep = "1s"
        topic = "file"
        in_flight_rows = 1
        in_flight_bytes = "1MiB"
        max_rate = 7
        columns = { id = "file", key = "file" }"#;
    let seen = |flags, env| {
        let settings = load_as(file.as_bytes(), flags, env, KAFKA).expect("all layers are right");
        let url = settings.database.url.shown();
        (
            url,
            settings.kafka.brokers,
            settings.stop_timeout,
            settings.outboxes,
        )
    };
    let (url, brokers, stop, outboxes) = seen(Overrides::default(), &[]);
    assert_eq!(
        (url.as_str(), brokers.as_str(), stop),
        ("file/db", "file:1", Duration::from_secs(1))
    );
    assert_eq!(outboxes[0].table.name, "file");

    let env = [
        ("DATABASE_URL", "postgres://env/db"),
        ("KAFKA_BROKERS", "env:1"),
    ];
    let (url, brokers, ..) = seen(Overrides::default(), &env);
    assert_eq!((url.as_str(), brokers.as_str()), ("env/db", "env:1"));
    let (url, brokers, ..) = seen(
        Overrides::default(),
        &[("DATABASE_URL", ""), ("KAFKA_BROKERS", " ")],
    );
    assert_eq!(
        (url.as_str(), brokers.as_str()),
        ("file/db", "file:1"),
        "empty is not set"
    );

    let flags = Overrides {
        global: GlobalFlags {
            database_url: Some("postgres://flag/db".into()),
            kafka_brokers: Some("flag:1".into()),
            stop_timeout: Some("2s".into()),
            leader_timeout: Some("3s".into()),
            config: None,
        },
        outbox: OutboxFlags {
            table: Some("flag".into()),
            topic: Some("flag".into()),
            sweep: Some("2s".into()),
            column: vec!["key=a=b".into(), "type=flag".into()],
            in_flight_rows: Some("2".into()),
            poison: Some("stop".into()),
            in_flight_bytes: Some("2MiB".into()),
            max_rate: Some("off".into()),
            delivery: Some("exactly-once".into()),
            transactional_id: Some("flag".into()),
            receipts: Some("flag.{table}".into()),
        },
        ..Overrides::default()
    };
    let (url, brokers, stop, outboxes) = seen(flags, &env);
    assert_eq!(
        (url.as_str(), brokers.as_str(), stop),
        ("flag/db", "flag:1", Duration::from_secs(2))
    );
    let expected = Outbox {
        table: TableName {
            schema: None,
            name: "flag".into(),
        },
        topic: Route::parse("flag").expect("a legal route"),
        sweep: Duration::from_secs(2),
        columns: Columns {
            id: "file".into(),
            event_type: "flag".into(),
            key: Optional::Named("a=b".into()),
            ..Columns::default()
        },
        in_flight_rows: 2,
        poison: Poison::Stop,
        poison_topics: BTreeMap::new(),
        in_flight_bytes: 2 << 20,
        max_rate: None,
        delivery: Delivery::ExactlyOnce(Transactions {
            id: Some("flag".into()),
            receipts: Route::parse("flag.{table}").expect("a legal route"),
        }),
    };
    assert_eq!(outboxes, [expected]);
}

#[test]
fn the_http_port_follows_the_layers_and_may_be_off() {
    let file = "http.listen = '0.0.0.0:1'";
    let seen = |flag: Option<&str>, env: &[(&str, &str)]| {
        let flags = Overrides {
            http: HttpFlags {
                listen: flag.map(str::to_owned),
                stuck_after: Some("1s".into()),
            },
            ..Overrides::default()
        };
        let env = [ENOUGH, env].concat();
        load_as(file.as_bytes(), flags, &env, KAFKA)
            .expect("all layers are right")
            .http
    };
    let at = |address: &str| Listen::At(address.into());
    assert_eq!(seen(None, &[]).listen, at("0.0.0.0:1"));
    let env = [("DOORBELL_LISTEN", "localhost:2")];
    assert_eq!(seen(None, &env).listen, at("localhost:2"));
    assert_eq!(seen(Some("OFF"), &env).listen, Listen::Off);
    assert_eq!(seen(None, &[]).stuck_after, Duration::from_secs(1));
}

#[test]
fn the_token_for_the_http_port_comes_from_a_file_or_a_variable() {
    let secret = NamedTempFile::new().expect("a folder for temporary files");
    std::fs::write(secret.path(), "HUNTER2-of-the-file\n").expect("room for a small file");
    let path = secret.path().display().to_string();
    let file = format!("[http]\ntoken_file = '{path}'");
    let token = |file: &str, env: &[(&str, &str)]| {
        let settings = load(file, &[ENOUGH, env].concat()).expect("all layers are right");
        assert!(!format!("{settings:?}").contains("HUNTER2"));
        settings
            .http
            .token
            .map(|token| token.expose_secret().to_owned())
    };
    let seen = |text: &str| Some(text.to_owned());
    assert_eq!(token("", &[]), None);
    assert_eq!(token(&file, &[]), seen("HUNTER2-of-the-file"));
    let by_name = [("DOORBELL_HTTP_TOKEN_FILE", path.as_str())];
    assert_eq!(token("", &by_name), seen("HUNTER2-of-the-file"));
    let itself = [("DOORBELL_HTTP_TOKEN", "HUNTER2-of-the-variable")];
    assert_eq!(token(&file, &itself), seen("HUNTER2-of-the-variable"));
}

#[test]
fn the_file_may_come_from_the_environment() {
    let mut config = NamedTempFile::new().expect("a folder for temporary files");
    config
        .write_all(WHOLE.as_bytes())
        .expect("room for a small file");
    let path = config.path().display().to_string();
    let env = |name: &str| (name == "DOORBELL_CONFIG").then(|| path.clone());
    let settings = Settings::load(Overrides::default(), &env, KAFKA).expect("the file is right");
    assert_eq!(settings.kafka.brokers, "file-broker:9092");
}

#[test]
fn secrets_may_come_from_files() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("room for a small file");
        path.display().to_string()
    };
    let (url, password) = (
        write("url", "postgres://u@h/db\n"),
        write("password", "HUN&TER2\n"),
    );
    let (kafka, token) = (write("kafka", "HUNTER3\r\n"), write("token", "HUNTER4"));
    let file = format!(
        "[database]\nurl = {{ file = \"/nowhere\" }}\n[kafka]\nbrokers = \"b:1\"\ntoken_file = \"{token}\"\n\
         [kafka.properties]\n\"sasl.password\" = {{ file = \"{kafka}\" }}\nsasl.mechanism = \"OAUTHBEARER\"\n"
    );
    // The file that a higher layer replaces is not read.
    let env = [
        ("DATABASE_URL_FILE", url.as_str()),
        ("PGPASSWORD_FILE", &password),
    ];
    let settings = load(&file, &env).expect("all can be read");
    assert_eq!(
        settings.database.url.text().expose_secret(),
        "postgres://u@h/db?password=%48%55%4E%26%54%45%52%32"
    );
    assert_eq!(
        settings.kafka.properties["sasl.password"].expose_secret(),
        "HUNTER3"
    );
    assert_eq!(settings.kafka.token_file, Some(token.into()));
    assert!(!format!("{settings:?}").contains("HUNTER"), "{settings:?}");

    let own = [
        ("DATABASE_URL", "postgres://u:own@h/db"),
        ("PGPASSWORD_FILE", "/nowhere"),
    ];
    let settings = load(&file, &own).expect("the URL has a password, so no other is read");
    assert_eq!(
        settings.database.url.text().expose_secret(),
        "postgres://u:own@h/db"
    );
}
