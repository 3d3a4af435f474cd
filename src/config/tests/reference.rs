//! The table of keys, and what is held against it: the example file and the reference.

use crate::config::key::{Draft, Key, Rule, Section};
use crate::config::keys::{self, KEYS};

use super::*;

pub(super) const EXAMPLE: &str = include_str!("../../../doorbell.example.toml");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The lines of the example below the head of each section, without the mark of a comment. The head
/// may have one as well, of a section that no file has by default.
fn example(section: Section) -> Vec<&'static str> {
    let is_head = |line: &&str| line.trim_start_matches("# ") == section.head();
    let lines = EXAMPLE.lines().skip_while(|line| !is_head(line));
    let lines = lines.skip(1).take_while(|line| !line.starts_with('['));
    lines
        .map(|line| line.trim_start_matches('#').trim_start())
        .collect()
}

#[test]
fn the_example_has_every_key_with_its_default() {
    for key in KEYS.iter().filter(|key| key.section != Section::OUTSIDE) {
        let lines = example(key.section);
        for name in key.names() {
            let default = key.default.map(|text| match &key.rule {
                Rule::Choice(_) | Rule::Count(..) => text.to_owned(),
                Rule::List(_) => format!("[\"{text}\"]"),
                Rule::OptionalCount(..) if text != "off" => text.to_owned(),
                _ => format!("\"{text}\""),
            });
            let line = format!("{name} = {}", default.unwrap_or_default());
            let found = lines.iter().any(|it| it.starts_with(&line));
            assert!(found, "{} lacks {line}", key.section.head());
        }
        assert!(
            lines.iter().any(|line| line.contains(" = ")),
            "{}",
            key.section.head()
        );
    }
    assert!(EXAMPLE.contains("hold-key"));
}

fn row(key: &Key) -> String {
    let code = |text: &&str| format!("`{text}`");
    let bounds = match &key.rule {
        Rule::Duration(_, bounds) => {
            let bounds = [bounds.start(), bounds.end()];
            bounds.map(|it| humantime::format_duration(*it).to_string())
        }
        Rule::Count(_, bounds) | Rule::OptionalCount(_, bounds) => {
            [bounds.start(), bounds.end()].map(ToString::to_string)
        }
        Rule::Size(_, bounds) => {
            let bounds = [bounds.start(), bounds.end()];
            bounds.map(|it| bytesize::ByteSize(*it as u64).to_string())
        }
        _ => Default::default(),
    };
    let [low, high] = bounds;
    let bounds = if low.is_empty() {
        low
    } else {
        format!("{low} to {high}")
    };
    let names = match key.names() {
        [] => key.name.to_owned(),
        names => names.iter().map(code).collect::<Vec<_>>().join(", "),
    };
    let sources = [
        key.flag.map(|(flag, _)| flag),
        key.variable,
        key.file_variable,
    ];
    let sources: Vec<_> = sources.iter().flatten().map(code).collect();
    let default = key.default.as_ref().map(code).unwrap_or_default();
    let sources = sources.join(", ");
    let help = key
        .help
        .replace("[default: ", "(default: ")
        .replace(']', ")");
    format!("| {names} | {help}. | {default} | {bounds} | {sources} |\n")
}

#[test]
fn the_reference_has_every_key() {
    let mut expected = String::new();
    for section in [Section::OUTSIDE].into_iter().chain(keys::sections()) {
        let head = match section {
            Section::OUTSIDE => "Outside of the file".to_owned(),
            _ => format!("`{}`", section.head()),
        };
        expected.push_str(&format!("\n### {head}\n\n"));
        expected.push_str(
            "| key | meaning | default | bounds | flag, variables |\n|---|---|---|---|---|\n",
        );
        let keys = KEYS.iter().filter(|key| key.section == section);
        expected.extend(keys.map(row));
    }
    assert!(
        REFERENCE.ends_with(&expected),
        "docs/configuration.md should end with:\n{expected}"
    );
}

#[test]
fn each_default_is_valid_and_is_what_the_settings_have() {
    let shown = |draft: &Draft| {
        format!(
            "{:?} {:?} {:?}",
            draft.settings, draft.outbox, draft.transactions
        )
    };
    for key in KEYS.iter().filter(|key| key.name != "listen") {
        let mut draft = Draft::default();
        if let Some(default) = key.default {
            key.store(&mut draft, key.name, default).expect(key.name);
        }
        assert_eq!(shown(&draft), shown(&Draft::default()), "{}", key.name);
    }
}

#[test]
fn a_program_that_embeds_the_relay_needs_no_command_line() {
    let text =
        "database.url = 'postgres://h/db'\nkafka.brokers = 'b:1'\n[[outbox]]\nsweep = '1s'\n";
    let settings = Settings::from_toml(text, &|_| None).expect("it is right");
    assert_eq!(
        settings.outboxes[0].sweep,
        std::time::Duration::from_secs(1)
    );
    let variable = |name: &str| (name == "KAFKA_BROKERS").then(|| "env:1".to_owned());
    let settings = Settings::from_toml(text, &variable).expect("it is right");
    assert_eq!(settings.kafka.brokers, "env:1");
    let errors = Settings::from_toml("[[outbox]]\nsweep = 'x'", &|_| None).expect_err("an error");
    assert!(
        errors.to_string().contains("<text>:2: the sweep must be"),
        "{errors}"
    );
    let url = DatabaseUrl::parse("postgres://h/db").expect("a URL");
    let own = Settings::new(url, "b:1");
    let read = Settings::from_toml(&text[..text.len() - 24], &|_| None).expect("it is right");
    assert_eq!(format!("{own:?}"), format!("{read:?}"));
    let without_a_file = load("", &[ENOUGH[0], ("KAFKA_BROKERS", "b:1")]).expect("it is enough");
    assert_eq!(format!("{own:?}"), format!("{without_a_file:?}"));
}
