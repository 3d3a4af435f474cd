//! The arrows of the house, as data: which module may use which. Moving one is a change of this table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and the modules of the crate that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("tls", &[]),
    ("config", &["tls"]),
    ("event", &[]),
    ("postgres", &["config", "event", "tls"]),
    ("kafka", &["config", "event", "tls"]),
    ("relay", &["config", "event", "postgres", "kafka"]),
    ("app", &["config", "postgres", "kafka", "relay", "tls"]),
];

/// A library, and the only modules that may know it.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["postgres"]),
    ("rdkafka", &["kafka"]),
    ("rustls", &["tls"]),
    ("clap", &["app", "config"]),
    ("anyhow", &["app"]),
    ("axum", &["app"]),
    ("askama", &["app"]),
    ("hyper", &["app"]),
    ("prometheus_client", &["app"]),
    ("opentelemetry", &["app", "relay"]),
    ("opentelemetry_sdk", &["app"]),
    ("opentelemetry_otlp", &["app"]),
    ("reqwest", &["app"]),
];

/// Files that decide and never wait: no clock, no socket, no runtime.
const PURE: &[&str] = &[
    "relay/doze.rs",
    "relay/gaps.rs",
    "relay/window.rs",
    "relay/backoff.rs",
    "relay/vitals/tally.rs",
    "relay/vitals/readiness.rs",
    "relay/once.rs",
    "relay/blame.rs",
    "kafka/failure.rs",
    "kafka/receipt.rs",
    "app/verify/judge.rs",
    "event.rs",
];

/// Where a secret is taken out of its wrapper, and for whom. Nowhere else may it be text.
const SECRETS: &[(&str, &str)] = &[
    (
        "config/database_url.rs",
        "it is taken apart and put together",
    ),
    (
        "config/in_force.rs",
        "its user is shown, and the properties that are no secrets",
    ),
    ("config/settle.rs", "it is checked"),
    ("postgres/session.rs", "the driver has it"),
    (
        "kafka/producer.rs",
        "the C library has it, and it is taken out of the library's words",
    ),
    ("kafka/trouble.rs", "the library's TLS is tried"),
    ("relay/run.rs", "a property that is no secret is read"),
    ("app/http/sessions.rs", "the token is made a hash"),
    (
        "app/bench/stage.rs",
        "a relay of its own is started with it, by its standard input",
    ),
];

/// Types of libraries that show a secret they hold.
const SHOWING: &[&str] = &["PgConnectOptions", "ClientConfig"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// Each file below `src` with its module and its lines of code.
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
    sources(&root).into_iter().map(read).collect()
}

/// Names that follow `prefix` in the lines: `crate::a` and `crate::{a, b}`.
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
                "{name} is in no room: add it to ARROWS"
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
                "{name} knows {library}; only {rooms:?} may"
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
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let table = readme
        .split("## Promises")
        .nth(1)
        .and_then(|rest| rest.split("### ").next())
        .expect("the promises");
    let named = assert_tests_exist("README.md", table);
    let rows = table.lines().filter(|line| line.starts_with("| ")).count() - 1;
    assert!(named >= rows, "{rows} promises and {named} tests");
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

/// How many tests the text names, `file::test`; all must be there.
fn assert_tests_exist(page: &str, text: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for name in text.split('`').filter(|name| name.contains("::")) {
        let (file, test) = name.rsplit_once("::").expect("file::test");
        let file = file.replace("::", "/");
        let path = root.join("tests/it").join(file).with_extension("rs");
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no file for {name}"));
        assert!(
            text.contains(&format!("fn {test}()")),
            "no test {name}, which {page} names"
        );
        named += 1;
    }
    named
}
