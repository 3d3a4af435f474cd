//! Every error with its place. The cases are in `cases.txt`: lines of a file, `$ NAME=value` for
//! flags and variables, and indented the beginning of each error, or after `=` a part of the
//! settings.

use super::*;

#[test]
fn a_file_that_cannot_be_read() {
    let env = variables(&[("DOORBELL_CONFIG", "/nowhere/doorbell.toml")]);
    let shown = Settings::load(Overrides::default(), &env, KAFKA).expect_err("there is none");
    // What the file would have said is not missed.
    assert_eq!(
        shown.to_string(),
        "environment DOORBELL_CONFIG: cannot read the configuration file /nowhere/doorbell.toml: No such file or directory (os error 2)"
    );

    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let flags = Overrides {
        config: Some(folder.path().to_owned()),
        ..Overrides::default()
    };
    let shown = Settings::load(flags, &env, KAFKA)
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
fn each_case_gives_its_settings_or_all_its_errors_with_places_and_remedies() {
    let mut lines = include_str!("cases.txt").lines().peekable();
    while lines.peek().is_some() {
        let (mut file, mut given) = (Vec::new(), Vec::new());
        while let Some(line) = lines.next_if(|line| !line.starts_with("    ")) {
            match line.strip_prefix("$ ") {
                Some(line) => given.extend(line.split_once('=')),
                None => file.push(line),
            }
        }
        let file = file.join("\n");
        let variables = [&given, ENOUGH].concat();
        let result = load_as(file.as_bytes(), flags(&given), &variables, KAFKA);
        let shown = format!("{result:?}");
        assert!(!shown.contains("HUNTER2"), "{shown}");
        let mut errors = result.err().unwrap_or_default().into_iter();
        while let Some(line) = lines.next_if(|line| line.starts_with("    ")) {
            let expected = line.trim_start();
            if let Some(expected) = expected.strip_prefix("= ") {
                assert!(
                    shown.contains(expected),
                    "{expected}\n{file} {given:?}: {shown}"
                );
                continue;
            }
            let error = errors.next().unwrap_or_default();
            let error = error.trim_start_matches("doorbell.toml:");
            assert!(
                error.starts_with(expected),
                "{expected}\n{file} {given:?}: {shown}"
            );
        }
        assert_eq!(errors.next(), None, "{file} {given:?}: {shown}");
    }
}

#[test]
fn a_database_is_always_needed_and_kafka_not() {
    let needs = Needs { kafka: false };
    let shown = load_as(b"", Overrides::default(), &[], needs).expect_err("no database");
    assert_eq!(shown.len(), 1, "{shown:?}");
    let settings = load_as(b"", Overrides::default(), &ENOUGH[..1], needs);
    assert_eq!(settings.expect("it is enough").kafka.brokers, "");
}

#[test]
fn flags_of_one_outbox_do_not_fit_two() {
    let flags = flags(&[
        ("--sweep", "1s"),
        ("--column", "key=a"),
        ("--column", "id=b"),
    ]);
    let shown = load_as(WHOLE.as_bytes(), flags, ENOUGH, KAFKA).expect_err("two outboxes");
    let text = "the file has 2 [[outbox]], and a flag cannot say which it means: set it there, or choose one with --table";
    assert_eq!(
        shown,
        [format!("--column: {text}"), format!("--sweep: {text}")]
    );
}

#[test]
fn a_table_chooses_one_of_several_outboxes() {
    let with = |table: &str| {
        let flags = flags(&[("--sweep", "7s"), ("--table", table)]);
        load_as(WHOLE.as_bytes(), flags, ENOUGH, KAFKA)
    };
    let both = load_as(WHOLE.as_bytes(), Overrides::default(), ENOUGH, KAFKA).expect("valid");
    for outbox in &both.outboxes {
        let chosen = with(&outbox.table.to_string()).expect("a configured outbox");
        let [only] = chosen.outboxes.as_slice() else {
            panic!("{:?}", chosen.outboxes)
        };
        assert_eq!(only.table, outbox.table);
        assert_eq!(only.sweep, std::time::Duration::from_secs(7));
    }
    let shown = with("other").expect_err("no such outbox");
    let text = "--table: \"other\" is not a configured outbox; choose one of ";
    assert!(shown.iter().any(|it| it.starts_with(text)), "{shown:?}");
}
