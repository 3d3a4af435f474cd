//! What the operator reads, compared with the code: metrics, alerts, dashboard, runbook, log.

mod lines;
mod plurals;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use doorbell::test_support::{PROCESS, REGISTRY};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every metric under the name that it is stored by, with its kind.
fn metrics() -> BTreeSet<(String, String)> {
    let named = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    REGISTRY
        .iter()
        .map(|metric| named(&metric.full_name(), metric.kind()))
        .chain([named("doorbell_build_info", "gauge")])
        .chain(PROCESS.map(|(name, _, is_counter)| match is_counter {
            true => (format!("{name}_total"), "counter".to_owned()),
            false => named(name, "gauge"),
        }))
        .collect()
}

/// Returns the metrics that an expression names; a histogram by any of its parts.
fn named_in(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression
        .split(|c| !is_part(c))
        .filter(|word| {
            ["doorbell_", "process_"]
                .iter()
                .any(|it| word.starts_with(it))
        })
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| word.strip_suffix(part));
            whole.unwrap_or(word).to_owned()
        })
        .collect()
}

#[track_caller]
fn assert_exist(expression: &str) {
    let known: BTreeSet<String> = metrics().into_iter().map(|(name, _)| name).collect();
    for name in named_in(expression) {
        assert!(
            known.contains(&name),
            "no metric {name}, which is asked for in: {expression}"
        );
    }
}

#[test]
fn names_follow_the_conventions() {
    for metric in REGISTRY {
        let name = metric.full_name();
        assert!(name.starts_with("doorbell_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind() == "counter",
            "{name}"
        );
        for unit in ["_ms", "_milliseconds", "_minutes", "_kb", "_percent"] {
            assert!(!name.contains(unit), "{name}: base units only");
        }
        assert!(
            !metric.help.is_empty() && !metric.help.ends_with('.'),
            "{name}"
        );
    }
}

#[test]
fn the_page_on_metrics_has_each_of_them_and_no_other() {
    let page = read("docs/metrics.md");
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let is_metric = ["doorbell_", "process_"]
            .iter()
            .any(|it| name.starts_with(it));
        is_metric.then_some((name.to_owned(), cells.next()?.to_owned()))
    };
    let documented: BTreeSet<_> = page.lines().filter_map(row).collect();
    assert_eq!(documented, metrics());
    for path in ["/metrics", "/healthz", "/readyz", "/status.json"] {
        assert!(page.contains(&format!("| `{path}` |")), "{path}");
    }
}

fn rules() -> String {
    read("deploy/prometheus/alerts.yml") + &read("deploy/prometheus/standby.yml")
}

/// The alerts with their expressions. YAML of a form that we write ourselves: one key a line,
/// folded lines deeper than their key.
fn alerts() -> Vec<(String, String)> {
    let text = rules();
    let mut alerts = Vec::new();
    for rule in text.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name").to_owned();
        let (_, rest) = rule.split_once("expr: ").expect("an expression");
        let lines = rest.lines();
        let keys = ["for:", "labels:", "keep_firing_for:"];
        let expression =
            lines.take_while(|line| !keys.iter().any(|key| line.trim().starts_with(key)));
        alerts.push((name, expression.collect::<Vec<_>>().join(" ")));
    }
    assert!(alerts.len() > 10, "{alerts:?}");
    alerts
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_each_has_a_runbook_entry_and_a_test() {
    let (runbook, tests) = (
        read("docs/runbook.md"),
        read("deploy/prometheus/alerts_test.yml"),
    );
    let rules = rules();
    let operation = read("docs/operation.md");
    let mut names = BTreeSet::new();
    for (name, expression) in alerts() {
        assert!(
            !named_in(&expression).is_empty(),
            "{name} asks for nothing: {expression}"
        );
        assert_exist(&expression);
        let entry = runbook.split(&format!("\n## {name}\n")).nth(1);
        let entry = entry.unwrap_or_else(|| panic!("no entry for {name}"));
        assert!(entry.trim().len() > 80, "{name}: {entry}");
        let rule = rules.split(&format!("- alert: {name}\n")).nth(1);
        let rule = rule.and_then(|rule| rule.split("- alert: ").next());
        let rule = rule.expect("the rule").to_owned() + "\n";
        let link = format!(
            "runbook_url: https://doorbell.example/runbook.html#{}\n",
            name.to_lowercase()
        );
        assert!(rule.contains(&link), "{link}");
        assert!(rule.contains("description: "), "{name} has no description");
        // Two services on one Prometheus are told apart.
        let mut groups = expression
            .split("by (")
            .skip(1)
            .filter_map(|it| it.split(')').next());
        let whole = "job, namespace, database, name";
        assert!(
            groups.all(|labels| labels.starts_with(whole)) && expression.contains(whole),
            "{name}: {expression}"
        );
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} is not tested"
        );
        let severity = rules.split(&format!("- alert: {name}\n")).nth(1);
        let severity = severity.and_then(|rule| rule.split("severity: ").nth(1));
        let severity = severity.and_then(|rest| rest.lines().next());
        let row = format!(
            "\n| [{name}](runbook.md#{}) | {} |",
            name.to_lowercase(),
            severity.expect("a severity")
        );
        assert!(operation.contains(&row), "docs/operation.md has no {row}");
        names.insert(name);
    }
    for heading in runbook.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(names.contains(heading), "an entry for no alert: {heading}");
    }
}

#[test]
fn the_sample_for_alertmanager_names_alerts_that_exist() {
    let known: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    let sample = read("deploy/prometheus/alertmanager.yml");
    let mut named = 0;
    for line in sample.lines().filter(|line| line.contains("_matchers: ")) {
        let (_, value) = line.split_once("alertname ").expect("an alert");
        let names = value
            .trim_start_matches(['=', '~', ' ', '"'])
            .trim_end_matches([']', '"', ')']);
        for name in names.replace("Doorbell(", "").split('|') {
            let name = format!("Doorbell{}", name.trim_start_matches("Doorbell"));
            assert!(known.contains(&name), "no alert {name}: {line}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn panels_of_the_dashboard_ask_for_metrics_that_exist() {
    let text = read("deploy/grafana/doorbell.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut shown = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(
            panel["type"] == "row" || !targets.is_empty(),
            "{title} is empty"
        );
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(!named_in(expression).is_empty(), "{title}: {expression}");
            assert_exist(expression);
            shown.extend(named_in(expression));
        }
    }
    // A metric that no panel shows is noticed too late.
    let left_out: Vec<String> = metrics()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !shown.contains(name))
        .collect();
    assert!(left_out.is_empty(), "in no panel: {left_out:?}");
}

/// Returns the source without its own tests.
fn code_of(path: &str) -> String {
    let text = read(path);
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .expect("code")
        .to_owned()
}

/// Returns the texts of a piece of code, without what is filled in: the longest part of each.
fn texts_of(code: &str) -> Vec<String> {
    let literals = code.split('"').skip(1).step_by(2);
    let longest = |literal: &str| {
        let mut parts = literal.split(['{', '}', '(']);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |longest, part| {
            if part.len() > longest.len() {
                part.to_owned()
            } else {
                longest
            }
        })
    };
    literals
        .map(longest)
        .map(|it| it.trim_matches([' ', ':']).to_owned())
        .collect()
}

#[test]
fn each_state_of_readiness_is_produced_and_seen_in_a_test() {
    // What several terms have in common is tested without a broker.
    let tests = read("tests/it/http/readiness.rs") + &read("src/relay/monitor/reading.rs");
    let said = texts_of(&code_of("src/relay/monitor/readiness.rs"));
    // One word is a name; a reason has several.
    let reasons: Vec<&String> = said.iter().filter(|text| text.contains(' ')).collect();
    assert!(reasons.len() >= 7, "{said:?}");
    for reason in reasons
        .into_iter()
        .map(String::as_str)
        .chain(["starting", "standby", "leading"])
    {
        assert!(
            tests.contains(reason),
            "{reason:?} is in no test of /readyz"
        );
    }
    let monitor = read("src/relay/monitor/kinds.rs");
    let kinds = monitor
        .split("pub enum ProblemKind {")
        .nth(1)
        .expect("the kinds of problems");
    let kinds = kinds.split("\n}").next().expect("their end");
    let names: Vec<String> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .map(str::to_lowercase)
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let seen = format!("await_ailment(&relay, \"{name}\")");
        let or = seen.replace("&relay", "&leader");
        assert!(
            tests.contains(&seen) || tests.contains(&or),
            "{name} is in no test of /readyz"
        );
    }
}

#[test]
fn each_finding_of_check_is_produced_and_seen_in_a_test() {
    let files = [
        "operator/check",
        "operator/check_kafka",
        "operator/check_server",
        "security/acls",
        "operator/lock_holders",
        "operator/stuck",
        "findings/hazards",
        "findings/causes",
        "rows/undeleted",
        "mapping/not_before/table",
    ];
    let tests: String = files
        .iter()
        .map(|file| read(&format!("tests/it/{file}.rs")))
        .collect();
    // Without white space, so that line breaks do not matter.
    let tests: String = tests.chars().filter(|c| !c.is_whitespace()).collect();
    let table = code_of("src/cli/commands/check/finding.rs");
    let table = table.split("\ncodes! {").nth(1).expect("the codes");
    let codes = texts_of(table.split("\n}").next().expect("their end"));
    assert!(codes.len() > 60, "{codes:?}");
    for code in codes {
        let found = ["error", "warning", "note"];
        let finds = |severity: &&str| tests.contains(&format!("(\"{severity}\",\"{code}\","));
        assert!(found.iter().any(finds), "no test produces {code}");
    }
}
