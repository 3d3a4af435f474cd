//! The rules of the source tree, as data: which module may use which, which library belongs where,
//! and which files never wait.

mod circles;
mod file;
mod size;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::rust_files;

/// A module, and the modules of the crate that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("numbers", &[]),
    ("tls", &[]),
    ("config", &["tls"]),
    ("event", &[]),
    ("postgres", &["config", "event", "numbers", "tls"]),
    ("kafka", &["config", "event", "numbers", "sync", "tls"]),
    (
        "relay",
        &["config", "event", "numbers", "postgres", "kafka", "sync"],
    ),
    (
        "otel",
        &["config", "event", "numbers", "relay", "sync", "tls"],
    ),
    ("describe", &["numbers", "postgres"]),
    (
        "http",
        &["config", "describe", "numbers", "postgres", "relay", "sync"],
    ),
    (
        "cli",
        &[
            "config", "describe", "http", "numbers", "otel", "postgres", "kafka", "relay", "sync",
            "tls",
        ],
    ),
];

/// A library, and the only modules that may use it.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["postgres"]),
    ("rdkafka", &["kafka"]),
    ("rustls", &["tls"]),
    ("regex", &["config"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("axum", &["http"]),
    ("askama", &["http"]),
    ("hyper", &["http"]),
    ("prometheus_client", &["http"]),
    ("opentelemetry", &["otel"]),
    ("opentelemetry_sdk", &["otel"]),
    ("opentelemetry_otlp", &["otel"]),
    ("reqwest", &["otel"]),
];

/// Files that decide and never wait: no clock, no socket, no runtime.
const PURE: &[&str] = &[
    "relay/fetch/sleep.rs",
    "relay/fetch/gaps.rs",
    "relay/in_flight.rs",
    "relay/backoff.rs",
    "relay/histogram.rs",
    "relay/monitor/readiness.rs",
    "relay/exactly_once/protocol.rs",
    "relay/exactly_once/attribution.rs",
    "kafka/error_policy.rs",
    "kafka/receipts/receipt.rs",
    "cli/commands/compare/judge.rs",
    "cli/commands/compare/json.rs",
    "cli/commands/verify/judge.rs",
    "event.rs",
];

/// The files that may take a secret out of its wrapper, and why.
const SECRETS: &[(&str, &str)] = &[
    (
        "config/types/database_url.rs",
        "the URL is parsed and assembled",
    ),
    (
        "config/effective.rs",
        "the user of the URL is shown, and properties that are no secrets",
    ),
    ("config/load.rs", "the flag of a column is split"),
    ("config/layer.rs", "the value is validated"),
    ("postgres/server.rs", "the driver needs it"),
    (
        "kafka/client.rs",
        "the C library needs it, and it is removed from the library's messages",
    ),
    (
        "kafka/connect_error.rs",
        "the TLS settings of the library are tested",
    ),
    (
        "relay/poison/policies.rs",
        "a property that is no secret is read",
    ),
    ("http/auth.rs", "the token is hashed"),
];

/// Types of libraries whose `Debug` shows the secret that they hold.
const SHOWING: &[&str] = &["PgConnectOptions", "ClientConfig"];

/// Returns each file below `src` with its module and its lines of code.
fn files() -> Vec<(String, String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .expect("below src")
            .to_str()
            .expect("a name")
            .to_owned();
        let module = name
            .split('/')
            .next()
            .expect("a part")
            .trim_end_matches(".rs")
            .to_owned();
        let text = fs::read_to_string(&path).expect("a file");
        let code = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"))
            .map(str::to_owned);
        (name, module, code.collect())
    };
    rust_files(&root).into_iter().map(read).collect()
}

/// Returns the names that follow `prefix` in the lines: `crate::a` and `crate::{a, b}`.
fn named_after(lines: &[String], prefix: &str) -> BTreeSet<String> {
    let text = lines.join(" ");
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        let list = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split('}').next());
        for part in list.unwrap_or(rest).split(',') {
            let name: String = part
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            names.insert(name);
            if list.is_none() {
                break;
            }
        }
    }
    names.remove("");
    names
}

#[test]
fn modules_use_what_their_arrows_allow() {
    for (name, module, lines) in files() {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == module) else {
            assert!(
                ["lib", "main"].contains(&module.as_str()),
                "{name} belongs to no module of ARROWS: add it"
            );
            continue;
        };
        for used in named_after(&lines, "crate::") {
            let is_module = ARROWS.iter().any(|(module, _)| *module == used);
            assert!(
                !is_module || used == module || allowed.contains(&used.as_str()),
                "{name} uses {used}: no arrow {module} -> {used}"
            );
        }
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    for (name, module, lines) in files() {
        for (library, rooms) in LIBRARIES {
            let uses = lines.iter().any(|line| {
                line.contains(&format!("{library}::")) || line.contains(&format!("use {library};"))
            });
            assert!(
                !uses || rooms.contains(&module.as_str()),
                "{name} uses {library}; only {rooms:?} may"
            );
        }
    }
}

#[test]
fn secrets_are_taken_out_where_they_are_needed_and_nothing_that_shows_them_can_be_printed() {
    let mut exposing = BTreeSet::new();
    for (name, _, lines) in files() {
        let code: Vec<&String> = lines
            .iter()
            .take_while(|line| *line != "#[cfg(test)]")
            .collect();
        if !name.contains("tests") && code.iter().any(|line| line.contains(".expose_secret()")) {
            exposing.insert(name.clone());
        }
        // A struct with its attributes, up to its end.
        let text = code
            .iter()
            .map(|line| line.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        for part in text.split("#[derive(").skip(1) {
            let whole = part.split("\n}").next().unwrap_or_default();
            let derives = whole.split(')').next().unwrap_or_default();
            let shows = SHOWING.iter().any(|it| whole.contains(&format!(": {it},")));
            assert!(
                !(shows && derives.contains("Debug")),
                "{name} can print a secret: {whole}"
            );
        }
    }
    let known: BTreeSet<String> = SECRETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(exposing, known);
}

#[test]
fn pure_files_never_wait() {
    let all = files();
    for pure in PURE {
        let (_, _, lines) = all
            .iter()
            .find(|(name, ..)| name == pure)
            .unwrap_or_else(|| panic!("{pure} is gone"));
        for forbidden in [
            "tokio",
            "Instant",
            "SystemTime",
            "async fn",
            ".await",
            "std::net",
            "std::fs",
        ] {
            assert!(
                !lines.iter().any(|line| line.contains(forbidden)),
                "{pure} has {forbidden}"
            );
        }
    }
}

#[test]
fn every_guarantee_names_a_test_that_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guarantees.md");
    let page = fs::read_to_string(page).expect("the page of guarantees");
    let mut rows = 0;
    for row in page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| guarantee"))
    {
        assert!(row.contains("::"), "no test for: {row}");
        rows += 1;
    }
    assert!(rows >= 118, "{rows} guarantees");
    assert_tests_exist("docs/guarantees.md", &page);
}

#[test]
fn every_failure_names_a_test_that_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failures.md");
    let page = fs::read_to_string(page).expect("the page of failures");
    for row in page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what"))
    {
        assert!(row.contains("::"), "no test for: {row}");
    }
    assert_tests_exist("docs/failures.md", &page);
}

#[test]
fn tests_that_the_book_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["start", "how", "exactly-once", "sizing", "upgrade"] {
        let page = format!("docs/{page}.md");
        let text = fs::read_to_string(root.join(&page)).expect("a page");
        // Samples have names of their own.
        let prose: Vec<&str> = text.split("\n```").step_by(2).collect();
        assert_tests_exist(&page, &prose.join("\n"));
    }
}

/// Checks that every test exists that the text names, as `file::test`.
fn assert_tests_exist(page: &str, text: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in text.split('`').filter(|name| name.contains("::")) {
        let (file, test) = name.rsplit_once("::").expect("file::test");
        let file = file.replace("::", "/");
        let path = root.join("tests/it").join(file).with_extension("rs");
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no file for {name}"));
        assert!(
            text.contains(&format!("fn {test}()")),
            "no test {name}, which {page} names"
        );
    }
}
