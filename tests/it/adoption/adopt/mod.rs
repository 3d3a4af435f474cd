//! `doorbell adopt`.

mod presets;
mod refused;
mod switch;
mod waits;

use tempfile::NamedTempFile;

use crate::support::{Services, World};

/// A table of Debezium's outbox event router.
pub(super) const DEBEZIUM: &str = "CREATE TABLE outboxevent (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype varchar(255) NOT NULL, \
    aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)";

/// A database with a table and rows in it that were sent long ago.
pub(super) fn adoptable(test: &str, create: &str) -> World {
    let mut world = World::empty(test, Services::shared().clone());
    world.sql(create);
    world
}

/// Runs the command, which must succeed, and returns what it prints.
#[track_caller]
pub(super) fn adopt(world: &World, arguments: &[&str]) -> String {
    let output = world.doorbell(&[&["adopt"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// The SQL of a plan, as statements that are sent one after the other.
fn printed_sql(plan: &str) -> Vec<String> {
    let sql = plan.split("\n\n").next().expect("the first part");
    let parts = sql.split("-- Locks: ").skip(1);
    parts
        .map(|part| part.split_once('\n').expect("a comment").1.to_owned())
        .collect()
}

/// The configuration of a plan, with this prefix of topics in place of `outbox.event`.
pub(super) fn printed_config(plan: &str, prefix: &str, more: &str) -> NamedTempFile {
    let (_, rest) = plan.split_once("[[outbox]]").expect("a section");
    let section = rest.split("\n\n").next().expect("an end");
    let section = section.replace("outbox.event.", &format!("{prefix}."));
    let file = NamedTempFile::new().expect("a file");
    let text = format!("[[outbox]]\n{more}{section}\n");
    std::fs::write(file.path(), text).expect("room");
    file
}

pub(super) fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("a path")
}

/// Everything that the catalogue knows of a table and its sequences, without oids.
fn catalogue(world: &mut World, table: &str) -> Vec<String> {
    world.texts(&format!(
        "SELECT format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) FROM pg_attribute a \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped \
         UNION ALL SELECT pg_get_indexdef(i.indexrelid) || i.indisvalid FROM pg_index i WHERE i.indrelid = '{table}'::regclass \
         UNION ALL SELECT c.relname || c.relkind::text || coalesce(c.relacl::text, '') || coalesce(c.reloptions::text, '') FROM pg_class c \
         WHERE c.relnamespace = 'public'::regnamespace \
         UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = '{table}'::regclass \
         UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'doorbell' ORDER BY 1"
    ))
}
