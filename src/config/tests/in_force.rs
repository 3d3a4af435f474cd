//! What is shown as in force, and the example that shows everything.

use secrecy::ExposeSecret;

use super::*;
use crate::config::in_force::{InForce, Section};

const EXAMPLE: &str = include_str!("../../../doorbell.example.toml");

/// As the library, which knows no property of another name.
fn takes(name: &str, _: &str) -> bool {
    name != "sasl.pasword"
}

fn in_force(file: &str, mut flags: Overrides, env: &[(&str, &str)]) -> InForce {
    let mut config = NamedTempFile::new().expect("a folder for temporary files");
    config.write_all(file.as_bytes()).expect("room");
    flags.global.config = Some(config.path().to_owned());
    let env = |name: &str| {
        let (_, value) = env.iter().find(|(known, _)| *known == name)?;
        Some((*value).to_owned())
    };
    InForce::load(flags, &env, &takes).expect("nothing is wrong")
}

/// Each value as `path value origin`, the file under its usual name.
fn lines(in_force: &InForce) -> Vec<String> {
    let of_section = |section: &Section| -> Vec<String> {
        let line = |value| {
            let path = section.path(value);
            let shown = value.value.as_ref().map(ToString::to_string);
            let from = value.from();
            let from = from
                .rsplit_once(':')
                .map_or(from.clone(), |(_, line)| format!("file:{line}"));
            format!("{path} {} {from}", shown.unwrap_or_default())
        };
        section.values.iter().map(line).collect()
    };
    in_force.sections.iter().flat_map(of_section).collect()
}

#[test]
fn each_value_is_shown_with_its_origin_and_secrets_are_not() {
    let flags = Overrides {
        outbox: OutboxFlags {
            in_flight_rows: Some("5".into()),
            column: vec!["key=order id".into()],
            ..OutboxFlags::default()
        },
        ..Overrides::default()
    };
    let file = "[database]\nurl = \"postgres://u:HUNTER2@h/db?password=HUNTER2&sslmode=require\"\n[kafka.properties]\n\
        sasl.password = \"HUNTER2\"\n\"ssl.key.pem\" = \"HUNTER2\"\nlinger.ms = 5\n[[outbox]]\ntopic = \"a.{type}\"\n";
    let env = [
        ("KAFKA_BROKERS", "b:1"),
        ("DOORBELL_HTTP_TOKEN", "HUNTER2-of-16-letters"),
    ];
    let in_force = in_force(file, flags, &env);
    let lines = lines(&in_force);
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
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} in {lines:#?}"
        );
    }
    assert!(!format!("{in_force} {in_force:?}").contains("HUNTER2"));
}

#[test]
fn what_is_not_given_is_no_fault_and_what_is_wrong_is() {
    let env = |_: &str| None;
    let shown = InForce::load(Overrides::default(), &env, &takes).expect("nothing is wrong");
    let shown = shown.to_string();
    assert!(shown.contains("# url ="), "{shown}");
    assert!(shown.contains("# not given"), "{shown}");
    let env = |name: &str| (name == "DATABASE_URL").then(|| "mysql://HUNTER2".to_owned());
    let faults = InForce::load(Overrides::default(), &env, &takes).expect_err("that is no URL");
    assert!(faults.to_string().starts_with("environment DATABASE_URL: "));
}

#[test]
fn what_is_shown_can_be_read_back() {
    for file in [
        "",
        &WHOLE
            .replace("u:HUNTER2@", "u@")
            .replace("sasl.password = \"HUNTER2\"\n", ""),
    ] {
        let shown = in_force(file, Overrides::default(), ENOUGH).to_string();
        let again = load(&shown, &[]).expect(&shown);
        let settings = load(file, ENOUGH).expect("nothing is wrong");
        assert_eq!(format!("{again:?}"), format!("{settings:?}"), "{shown}");
    }
}

#[test]
fn the_example_has_every_key_with_its_default() {
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
    // All that is shown as in force is in the file: nothing was left to its default.
    for line in lines(&in_force(&active, Overrides::default(), &[])) {
        // A token has to be there: it cannot be tried.
        let is_left_out = line.starts_with("kafka.token_file ")
            || line.starts_with("http.token_file ")
            // Without a collector there are no traces.
            || line.starts_with("telemetry.")
            // They belong to a mode that is not the default.
            || line.starts_with("outbox[0].transactional_id ")
            || line.starts_with("outbox[0].receipts ");
        assert!(
            is_left_out || line.contains(" file:"),
            "the example lacks {line}"
        );
    }
    assert_eq!(EXAMPLE.matches("# token_file = ").count(), 2);
    assert!(EXAMPLE.contains("# otlp_endpoint = "));
    assert!(EXAMPLE.contains("# otlp_traces_endpoint = "));
    assert!(EXAMPLE.contains("# transactional_id = "));
    assert!(EXAMPLE.contains("# receipts = "));
    let untouched = load(EXAMPLE, &[]).expect("the example is right as it is");
    assert_eq!(untouched.outboxes, [Outbox::default()]);
}

#[test]
fn a_value_from_a_file_is_shown_as_that_file() {
    let secret = NamedTempFile::new().expect("a folder for temporary files");
    std::fs::write(secret.path(), "HUNTER2").expect("room for a small file");
    let path = secret.path().display();
    let file = format!("[kafka.properties]\n\"sasl.password\" = {{ file = \"{path}\" }}\n");
    let shown = in_force(&file, Overrides::default(), &[]).to_string();
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
        let shown = in_force(&file, Overrides::default(), &[]).to_string();
        assert!(!shown.contains("HUNTER2"), "{shown}");
        assert!(shown.contains(&format!("\"{name}\" = \"***\"")), "{shown}");
    }
}
