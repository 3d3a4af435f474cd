//! Remedies work as they are printed, with one outbox and with several.

use std::process::Output;

use tempfile::NamedTempFile;

use crate::support::{Checkup, World, create_topic, refused};

/// Splits a command as a shell would, without its first word.
fn words(command: &str) -> Vec<String> {
    let command = command.strip_prefix("doorbell ").expect("a command");
    command
        .split(' ')
        .map(|word| word.trim_matches('\'').to_owned())
        .collect()
}

fn run(world: &World, path: &str, command: &str) -> Output {
    let words = words(command);
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.extend(["--config", path]);
    world.doorbell(&arguments)
}

#[test]
fn a_table_chooses_one_of_several_outboxes_in_every_command() {
    for tables in [&["outbox"][..], &["outbox", "public.second", "third"]] {
        let mut world = World::new("remedies");
        let route = world.topic.replace("outbox", "{table}");
        let config = NamedTempFile::new().expect("a file");
        let sections = tables
            .iter()
            .map(|table| format!("[[outbox]]\ntable = '{table}'\ntopic = '{route}'\n"));
        std::fs::write(config.path(), sections.collect::<String>()).expect("room");
        let path = config.path().to_str().expect("a path").to_owned();
        for table in tables {
            let bare = table.trim_start_matches("public.");
            create_topic(&world, &world.topic.replace("outbox", bare), 1, &[]);
        }
        let last = tables[tables.len() - 1];
        let does = |world: &World, command: &str| {
            let output = run(world, &path, command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
            String::from_utf8(output.stdout).expect("text")
        };
        let remedy = Checkup::of(&world, &["--config", &path]);
        for missing in remedy.all("table-missing") {
            let remedy = missing["remedy"].as_str().expect("a remedy");
            does(&world, remedy.split(", or").next().expect("a command"));
        }
        does(&world, &format!("doorbell pause --table {last}"));
        let id = does(&world, &format!("doorbell emit --table {last} --type t x"));
        assert_eq!(id.trim(), "1");
        // What `status` says of a trigger that is missing is right for this outbox alone.
        world.sql(&format!("DROP TRIGGER doorbell_ring ON {last}"));
        let status = does(&world, &format!("doorbell status --table {last}"));
        let (_, remedy) = status.split_once("; run `").expect("a remedy");
        does(&world, remedy.split('`').next().expect("a command"));
        let status = does(&world, &format!("doorbell status --table {last}"));
        assert!(!status.contains("missing"), "{status}");
        assert_eq!(status.matches("backlog").count(), 1, "{status}");
        assert!(
            status.contains("1 row\n") && status.contains("PAUSED"),
            "{status}"
        );
        let quoted = format!("public.{}", last.trim_start_matches("public."));
        world.sql(&format!(
            "INSERT INTO doorbell.dead (outbox, row_id, created_at, type, reason, code, payload_size, key_size, headers_size, attempts) \
             VALUES ('{quoted}', 7, now(), 't', 'too large', 'MessageSizeTooLarge', 1, 0, 0, 1)"
        ));
        let checkup = Checkup::of(&world, &["--config", &path]);
        let resume = checkup.finds("warning", "paused", &[]);
        assert!(does(&world, &resume).contains("is resumed"));
        let letters = checkup.finds("warning", "dead-letters", &["1 rows"]);
        let (list, retry) = letters.split_once(" shows").expect("two commands");
        assert!(does(&world, list).contains("too large"));
        let (_, retry) = retry.split_once("then: ").expect("a command");
        assert!(does(&world, retry).contains('1'));
        Checkup::of(&world, &["--config", &path]).lacks(&["paused", "dead-letters"]);
        // As the relay prints it: with the schema.
        does(
            &world,
            &format!("doorbell receipts accept --table '{quoted}'"),
        );
        does(&world, &format!("doorbell verify --table '{quoted}'"));
        if tables.len() > 1 {
            for command in ["receipts accept", "emit --type t x", "verify"] {
                let output = run(&world, &path, &format!("doorbell {command}"));
                refused(&output, 2, &["outbox, public.second, third", "--table"]);
            }
            let output = run(&world, &path, "doorbell status --table fourth");
            refused(&output, 2, &["fourth", "not a configured outbox", "third"]);
        }
    }
}
