//! The effective values, and the example, which shows all of them.

use secrecy::ExposeSecret;

use super::*;
use crate::config::effective::{Effective, EffectiveSection};

use super::reference::EXAMPLE;

/// As the library, which knows no property of another name.
fn takes(name: &str, _: &str) -> bool {
    name != "sasl.pasword"
}

fn effective(file: &str, mut flags: Overrides, env: &[(&str, &str)]) -> Effective {
    let config = written(file.as_bytes());
    flags.config = Some(config.path().to_owned());
    Effective::load(flags, &variables(env), &takes).expect("nothing is wrong")
}

/// Each value as `path value origin`, the file under its usual name.
fn lines(effective: &Effective) -> Vec<String> {
    let of_section = |section: &EffectiveSection| -> Vec<String> {
        let line = |value| {
            let path = section.path(value);
            let shown = match &value.value {
                serde_json::Value::Null => String::new(),
                shown => shown.to_string(),
            };
            let from = value.from();
            let from = from
                .rsplit_once(':')
                .map_or(from.clone(), |(_, line)| format!("file:{line}"));
            format!("{path} {shown} {from}")
        };
        section.values.iter().map(line).collect()
    };
    effective.sections.iter().flat_map(of_section).collect()
}

#[test]
fn each_value_is_shown_with_its_origin_and_secrets_are_not() {
    let flags = flags(&[("--in-flight-rows", "5"), ("--column", "key=order id")]);
    let file = "[database]\nurl = \"postgres://u:HUNTER2@h/db?password=HUNTER2&sslmode=require\"\n[kafka.properties]\n\
        sasl.password = \"HUNTER2\"\n\"ssl.key.pem\" = \"HUNTER2\"\nlinger.ms = 5\n[[outbox]]\ntopic = \"a.{type}\"\n\
        [[outbox.route]]\ncolumn = 'kind'\nmatch = 'x'\ntopic = 'b'\n[[outbox.route]]\ncolumn = 'kind'\nmatch = 'y'\ndrop = true\n";
    let env = [
        ("KAFKA_BROKERS", "b:1"),
        ("DOORBELL_HTTP_TOKEN", "HUNTER2-of-16-letters"),
    ];
    let effective = effective(file, flags, &env);
    let lines = lines(&effective);
    for expected in [
        "database.url \"postgres://u:***@h/db?password=***&sslmode=require\" file:2",
        "kafka.brokers \"b:1\" environment KAFKA_BROKERS",
        "kafka.properties.\"linger.ms\" \"5\" file:6",
        "kafka.properties.\"sasl.password\" \"***\" file:4",
        "kafka.properties.\"ssl.key.pem\" \"***\" file:5",
        "relay.stop_timeout \"30s\" default",
        "http.token_file  environment DOORBELL_HTTP_TOKEN",
        "http.show_payloads false default",
        "outbox[0].topic \"a.{type}\" file:8",
        "outbox[0].in_flight_rows 5 --in-flight-rows",
        "outbox[0].in_flight_bytes \"32MiB\" default",
        "outbox[0].columns.key \"order id\" --column",
        "outbox[0].columns.id \"id\" default",
        "outbox[0].route[1].column \"kind\" file:14",
        "outbox[0].route[1].drop true file:16",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} in {lines:#?}"
        );
    }
    assert!(!format!("{effective} {effective:?}").contains("HUNTER2"));
}

#[test]
fn what_is_not_given_is_no_fault_and_what_is_wrong_is() {
    let shown = effective("", Overrides::default(), &[]).to_string();
    assert!(shown.contains("# url ="), "{shown}");
    assert!(shown.contains("# not given"), "{shown}");
    let env = variables(&[("DATABASE_URL", "mysql://HUNTER2")]);
    let errors = Effective::load(Overrides::default(), &env, &takes).expect_err("that is no URL");
    assert!(errors.to_string().starts_with("environment DATABASE_URL: "));
}

#[test]
fn what_is_shown_can_be_read_back() {
    for file in [
        "",
        &WHOLE
            .replace("u:HUNTER2@", "u@")
            .replace("sasl.password = \"HUNTER2\"\n", ""),
    ] {
        let shown = effective(file, Overrides::default(), ENOUGH).to_string();
        let again = load(&shown, &[]).expect(&shown);
        let settings = load(file, ENOUGH).expect("nothing is wrong");
        assert_eq!(format!("{again:?}"), format!("{settings:?}"), "{shown}");
    }
}

#[test]
fn the_example_is_valid_and_its_defaults_are_the_defaults() {
    let active: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
            _ => line,
        })
        .collect();
    let active = active.join("\n");
    let settings = load(&active, &[]).expect("the example is right");
    let columns = Columns {
        key: Optional::Named("key".into()),
        topic: Optional::Named("topic".into()),
        headers: Optional::Named("headers".into()),
        ..Columns::default()
    };
    let usual = Outbox {
        columns,
        ..Outbox::default()
    };
    assert_eq!(settings.outboxes, [usual]);
    assert_eq!(settings.stop_timeout, defaults::STOP_TIMEOUT);
    assert_eq!(
        settings.kafka.properties["compression.type"].expose_secret(),
        "zstd"
    );
    let untouched = load(EXAMPLE, &[]).expect("the example is right as it is");
    assert_eq!(untouched.outboxes, [Outbox::default()]);
}

#[test]
fn a_value_from_a_file_is_shown_as_that_file() {
    let secret = written(b"HUNTER2");
    let path = secret.path().display();
    let file = format!("[kafka.properties]\n\"sasl.password\" = {{ file = \"{path}\" }}\n");
    let shown = effective(&file, Overrides::default(), &[]).to_string();
    assert!(
        shown.contains(&format!("\"sasl.password\" = {{ file = \"{path}\" }}")),
        "{shown}"
    );
    assert!(!shown.contains("HUNTER2"), "{shown}");
}

#[test]
fn the_snippets_of_the_page_on_security_are_configurations() {
    let page = include_str!("../../../docs/security.md");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let place = folder.path().display().to_string();
    std::fs::write(folder.path().join("database-url"), "postgres://h/db\n").expect("a file");
    std::fs::write(folder.path().join("kafka-password"), "p").expect("a file");
    std::fs::write(folder.path().join("kafka-token"), "t").expect("a file");
    let snippets: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(snippets.len(), 2);
    for snippet in snippets {
        let snippet = snippet
            .replace("/run/secrets", &place)
            .replace("/etc/kafka/ca.pem", "probe");
        let own = [("DATABASE_URL", "postgres://h/db")];
        let needed = if snippet.contains("[database]") {
            &[][..]
        } else {
            &own
        };
        load(&snippet, needed).expect(&snippet);
    }
}

#[test]
fn every_property_that_holds_a_secret_or_is_unknown_is_hidden() {
    let secrets = [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.pasword",
    ];
    for name in secrets {
        let file = format!("[kafka.properties]\n\"{name}\" = \"HUNTER2\"\n");
        let shown = effective(&file, Overrides::default(), &[]).to_string();
        assert!(!shown.contains("HUNTER2"), "{shown}");
        assert!(shown.contains(&format!("\"{name}\" = \"***\"")), "{shown}");
    }
}
