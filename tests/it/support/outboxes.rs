//! Configurations of one outbox and of several, for what must hold with both.

use tempfile::NamedTempFile;

use super::{World, create_topic};

/// One outbox, and several.
pub(crate) const TABLES: [&[&str]; 2] = [&["outbox"], &["outbox", "public.second", "third"]];

/// Writes a configuration of these outboxes.
pub(crate) fn configuration(world: &World, tables: &[&str]) -> NamedTempFile {
    let route = world.topic.replace("outbox", "{table}");
    let config = NamedTempFile::new().expect("a file");
    let sections = tables
        .iter()
        .map(|table| format!("[[outbox]]\ntable = '{table}'\ntopic = '{route}'\n"));
    std::fs::write(config.path(), sections.collect::<String>()).expect("room");
    config
}

/// Configures the outboxes, and creates their topics.
pub(crate) fn configured(world: &World, tables: &[&str]) -> NamedTempFile {
    for table in tables {
        let bare = table.trim_start_matches("public.");
        create_topic(world, &world.topic.replace("outbox", bare), 1, &[]);
    }
    configuration(world, tables)
}
