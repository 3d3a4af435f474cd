//! Whole configurations: from flags, variables and a file to the settings, or to all their errors.

use std::io::Write;

use tempfile::NamedTempFile;

use super::*;

mod damage;
mod effective;
mod errors;
mod merge;
mod reference;

const KAFKA: Needs = Needs { kafka: true };
const WHOLE: &str = r#"
[database]
url = "postgres://u:HUNTER2@file-host/db"
[kafka]
brokers = "file-broker:9092"
[kafka.properties]
"compression.type" = "zstd"
sasl.password = "HUNTER2"
linger.ms = 0x1_0
"socket.keepalive.enable" = true
[relay]
stop_timeout = "5s"
leader_timeout = "90s"
[http]
listen = "[::1]:0"
stuck_after = "2m"
show_payloads = true
[telemetry]
otlp_endpoint = "http://file-collector:4318"
[[outbox]]
table = "app.outbox"
topic = "{table}.{type}"
sweep = "10s"
poison = "stop"
in_flight_rows = 1_000
in_flight_bytes = "1MiB"
max_rate = 500
[outbox.columns]
id = "No"
key = "order id"
[outbox.poison_topics]
payments = "hold-key"
audit.log = "park"
[[outbox]]
table = '"Other"'
in_flight_bytes = 65536
delivery = "exactly-once"
transactional_id = "file"
[outbox.headers_from]
z = "zeta"
a.b = "alpha"
[[outbox.route]]
column = "header.region"
match = '^(?<r>eu|us)-(\d)'
topic = "{table}.{r}.{2}.{zeta}"
[[outbox.route]]
column = "zeta"
match = "x"
drop = true
"#;

/// The least that is complete, so that a test sees its own errors alone.
const ENOUGH: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://h/db"),
    ("KAFKA_BROKERS", "b:9092"),
];

fn written(file: &[u8]) -> NamedTempFile {
    let mut config = NamedTempFile::new().expect("a folder for temporary files");
    config.write_all(file).expect("room for a small file");
    config
}

fn variables(given: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    move |name| {
        let (_, value) = given.iter().find(|(known, _)| *known == name)?;
        Some((*value).to_owned())
    }
}

/// Loads with `file` as the configuration file, which the errors call `doorbell.toml`.
fn load_as(
    file: &[u8],
    mut flags: Overrides,
    env: &[(&str, &str)],
    needs: Needs,
) -> Result<Settings, Vec<String>> {
    let config = written(file);
    let path = config.path().display().to_string();
    flags.config = Some(config.path().to_owned());
    Settings::load(flags, &variables(env), needs).map_err(|errors| {
        let shown = errors.to_string();
        assert_eq!(
            shown.lines().count(),
            errors.iter().count(),
            "one line each"
        );
        shown
            .lines()
            .map(|line| line.replace(&path, "doorbell.toml"))
            .collect()
    })
}

/// Cases, one a line: what is given, an arrow, and what is expected.
pub(super) fn rows(cases: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = cases.lines().map(str::trim);
    let cases = lines.filter(|line| !line.is_empty());
    cases.map(|line| line.split_once(" -> ").expect("an arrow"))
}

/// Flags by their names; other names are left out.
fn flags(given: &[(&str, &str)]) -> Overrides {
    Overrides::of(
        given
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    )
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    load_as(file.as_bytes(), Overrides::default(), env, KAFKA)
}
