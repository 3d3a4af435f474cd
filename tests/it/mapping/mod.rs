//! Tables that were there before: their columns, and the records that their consumers expect.

mod debezium;
mod event_ids;
mod headers;
mod none;
mod not_before;
mod partition;
mod routes;

use std::io::Write;

use tempfile::NamedTempFile;

use crate::support::{Consumer, Relay, World, create_topic};

/// Both ways to deliver, as the file has them.
const MODES: [&str; 2] = ["at-least-once", "exactly-once"];

/// A world with its topic and a configuration file.
struct Mapped {
    world: World,
    file: NamedTempFile,
}

impl Mapped {
    /// `settings` continue `[[outbox]]` after its topic and its delivery mode.
    fn new(mode: &str, settings: &str) -> Self {
        let world = World::new("mapping");
        create_topic(&world, &world.topic, 3, &[]);
        let mut mapped = Self {
            world,
            file: NamedTempFile::new().expect("a file"),
        };
        mapped.configure(mode, settings);
        mapped
    }

    fn configure(&mut self, mode: &str, settings: &str) {
        let topic = &self.world.topic;
        let receipts = topic.replace("outbox", "receipts");
        let mut text = format!("[[outbox]]\ndelivery = '{mode}'\n");
        if mode == "exactly-once" {
            text += &format!("receipts = '{receipts}'\n");
            self.world.will_delete(&receipts);
        }
        if !settings.contains("topic = ") {
            text += &format!("topic = '{topic}'\n");
        }
        text += settings;
        let file = self.file.as_file_mut();
        file.set_len(0).expect("an empty file");
        std::io::Seek::rewind(file).expect("its beginning");
        file.write_all(text.as_bytes()).expect("room");
    }

    /// Configures other outboxes after it.
    fn configure_beside(&mut self, mode: &str, settings: &str, others: &[&str]) {
        let topic = format!("topic = '{}'\n", self.world.topic);
        let other = |name: &&str| format!("[[outbox]]\ntable = '{name}'\n{topic}");
        let others: String = others.iter().map(other).collect();
        self.configure(mode, &format!("{topic}{settings}{others}"));
    }

    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let path = self.file.path().to_str().expect("a path");
        [more, &["--config", path]].concat()
    }

    fn relay(&self) -> Relay {
        Relay::leading(&self.world, &self.flags(&[]))
    }

    /// Runs a command with the configuration.
    fn doorbell(&self, arguments: &[&str]) -> std::process::Output {
        self.world.doorbell(&self.flags(arguments))
    }

    fn consumer(&self) -> Consumer {
        Consumer::committed(&self.world, &self.world.topic)
    }
}

fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}
