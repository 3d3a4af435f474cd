//! The values that each source gives. Which source wins is in `cases.txt`.

use secrecy::ExposeSecret;

use super::*;

#[test]
fn a_whole_file_gives_the_settings() {
    let settings = load(WHOLE, &[]).expect("it is right");
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
    let shown = format!("{settings:?}");
    assert!(!shown.contains("HUNTER2"), "{shown}");
    for part in [
        "DatabaseUrl(u@file-host/db)",
        r#"brokers: "file-broker:9092""#,
        r#"Http { listen: At("[::1]:0"), stuck_after: 120s, token: None, show_payloads: true, hosts: [] }"#,
        r#"traces: Some("http://file-collector:4318/v1/traces")"#,
        "stop_timeout: 5s, leader_timeout: 90s",
        r#"[Outbox { table: TableName { schema: Some("app"), name: "outbox" }"#,
        r#"topic: Route { parts: [Table, Literal("."), Type] }, sweep: 10s, columns: Columns { id: "No", event_type: Some("type"),"#,
        r#"key: Named("order id"), topic: Default("topic"), headers: Default("headers"), event_id: None, partition: None, not_before: None, headers_from: [] }, topics:"#,
        r#"timestamp: CreatedAt, poison: Stop, poison_topics: {"audit.log": Park, "payments": HoldKey},"#,
        r#"poison_breaker: Some(1000), in_flight_rows: 1000, in_flight_bytes: 1048576,"#,
        r#"max_rate: Some(500), delivery: AtLeastOnce }, Outbox { table: TableName { schema: None, name: "Other" }"#,
        r#"topic: Route { parts: [Table] }, sweep: 60s,"#,
        r#"headers_from: [("z", "zeta"), ("a.b", "alpha")] }, topics:"#,
        r#"in_flight_bytes: 65536, max_rate: None, delivery: ExactlyOnce(Transactions { id: Some("file"),"#,
        r#"receipts: Route { parts: [Literal("doorbell.receipts."), Table] } }) }]"#,
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn the_token_for_the_http_port_comes_from_a_file_or_a_variable() {
    let secret = written(b"HUNTER2-of-the-file\n");
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
    let config = written(WHOLE.as_bytes());
    let path = config.path().display().to_string();
    let env = [("DOORBELL_CONFIG", path.as_str())];
    let settings = Settings::load(Overrides::default(), &variables(&env), KAFKA);
    let settings = settings.expect("the file is right");
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
