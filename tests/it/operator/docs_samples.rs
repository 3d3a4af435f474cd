//! The samples of the documentation, each run or read as its page shows it.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::support::{Consumer, Relay, Services, World, create_topic, stage};

include!("../../../examples/rust/place_order.rs");

/// Pages with configuration that a reader copies.
const PAGES: [&str; 7] = [
    "README.md",
    "docs/adopt.md",
    "docs/configuration.md",
    "docs/start.md",
    "docs/operation.md",
    "docs/upgrade.md",
    "docs/security.md",
];

fn read(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The samples of a page in one language, in order.
fn samples<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    page.split(&format!("\n```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("a sample"))
        .collect()
}

fn file_with(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    file
}

/// Roles belong to the whole server, so these have other names than in the files.
fn own_roles(sql: &str) -> String {
    let mut sql = sql.to_owned();
    for role in ["writer", "relay", "operator"].map(|role| format!("doorbell_{role}")) {
        sql = sql.replace(&role, &format!("book_{role}_{}", std::process::id()));
    }
    for role in ["shop_service", "shop_relay"] {
        sql = sql.replace(role, &format!("{role}_{}", std::process::id()));
    }
    sql
}

#[test]
fn the_sql_of_the_start_runs_in_its_order_and_its_event_leaves() {
    let (mut world, relay, mut consumer) = stage("book_start");
    world.sql(&own_roles(&read("sql/roles.sql")));
    world.sql(&read("sql/pending.sql"));
    for sample in samples(&read("docs/start.md"), "sql") {
        world.sql(&own_roles(sample));
    }
    let record = &consumer.await_records(1)[0];
    assert_eq!(record.header("type"), "OrderPlaced");
    assert_eq!(record.header("source"), "sql");
    world.await_empty();

    // The page's login may insert, and the relay's may relay.
    let (service, login) = (own_roles("shop_service"), own_roles("shop_relay"));
    world.sql(&format!(
        "SET ROLE {service}; INSERT INTO outbox (type, payload) VALUES ('t', 'x'); RESET ROLE"
    ));
    consumer.await_records(2);
    assert!(relay.stop().success());
    let as_login = world
        .database_url
        .replace("//postgres@", &format!("//{login}@"));
    let relay = Relay::leading(&world, &["--database-url", &as_login]);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'y')");
    consumer.await_records(3);
    world.await_empty();
    assert!(relay.stop().success());
    let roles =
        own_roles("shop_service, shop_relay, doorbell_writer, doorbell_relay, doorbell_operator");
    world.sql(&format!("DROP OWNED BY {roles}; DROP ROLE {roles}"));
}

#[test]
fn the_rust_of_the_start_is_the_example_and_places_an_order_with_its_event() {
    let page = read("docs/start.md");
    assert_eq!(
        samples(&page, "rust"),
        ["{{#include ../examples/rust/place_order.rs}}"],
        "the book shows the file itself"
    );
    let (mut world, relay, mut consumer) = stage("book_rust");
    world.sql(samples(&page, "sql")[0]);
    let mut session = world.connect();
    let order = world
        .block_on(place_order(&mut session, "grace", 1250))
        .expect("an order");
    let record = &consumer.await_records(1)[0];
    assert_eq!(record.key, Some(order.to_string().into_bytes()));
    assert!(record.text().contains("grace"));
    world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn each_configuration_of_the_pages_is_accepted() {
    let world = World::empty("book_toml", Services::shared().clone());
    let mut accepted = 0;
    for page in PAGES {
        for sample in samples(&read(page), "toml") {
            let file = file_with(sample);
            let path = file.path().to_str().expect("a path");
            let output = world.doorbell(&["config", "--config", path]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            // All faults are reported at once. A secret that a page names does not exist on this
            // machine, and nothing else may be wrong.
            let is_absent = |line: &str| line.contains("No such file or directory");
            assert!(
                output.status.success() || stderr.lines().all(is_absent),
                "{page}: {stderr}\n{sample}"
            );
            // Kafka's library checks its own properties when a command uses it. The database is
            // empty, so the command goes no further.
            let drain = ["drain", "--start-timeout", "1s", "--config", path];
            let output = world.doorbell(&drain);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.code() == Some(1) || stderr.lines().all(is_absent),
                "{page}: {stderr}\n{sample}"
            );
            accepted += 1;
        }
    }
    assert!(accepted >= 5, "{accepted}");
}

/// Runs those lines of a shell sample that change a database. A unit test of the command line
/// parses the others.
fn run_shell(world: &World, sample: &str) {
    for line in sample.lines() {
        let mut words = line.split(['"']).enumerate().flat_map(|(number, part)| {
            // Every other part was quoted.
            match number % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            }
        });
        let changes = ["migrate", "pause", "resume", "status"];
        if words.next() != Some("doorbell") {
            continue;
        }
        let arguments: Vec<_> = words.collect();
        if arguments.first().is_some_and(|verb| changes.contains(verb)) {
            let output = world.doorbell(&arguments);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {stderr}");
        }
    }
}

/// All samples of a page in order, each with its language.
fn all_samples(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<_> = page.split("\n```").collect();
    let inside = parts.chunks_exact(2).map(|pair| pair[1]);
    inside
        .map(|sample| sample.split_once('\n').expect("a sample"))
        .collect()
}

#[test]
fn the_steps_of_the_upgrade_move_rows_and_take_all_away_again() {
    let mut world = World::new("book_upgrade");
    let topic = format!("{}.events", world.name());
    create_topic(&world, &topic, 1, &[]);
    let page = read("docs/upgrade.md").replace("shop.events", &topic);
    let page = page.as_str();
    let mut configuration = None;
    for (language, sample) in all_samples(page) {
        match language {
            "sh" => run_shell(&world, sample),
            "toml" => configuration = Some(file_with(sample)),
            "sql" if sample.starts_with("DROP SCHEMA") => {
                let carried = "SELECT count(*) FROM outbox WHERE topic = 'outbox.event.order' AND key = '7' AND headers ? 'event_id'";
                assert_eq!(world.number(carried), 1);
                assert_eq!(world.number("SELECT count(*) FROM outbox_event"), 0);
                let file = configuration.as_ref().expect("a configuration");
                let path = file.path().to_str().expect("a path");
                let relay = Relay::leading(&world, &["--config", path]);
                let mut consumer = Consumer::new(&world, &topic);
                let record = &consumer.await_records(1)[0];
                assert_eq!(record.header("type"), "OrderPlaced");
                assert_eq!(record.key.as_deref(), Some(&b"8"[..]));
                world.await_number("SELECT count(*) FROM events", 0);
                assert!(relay.stop().success());
                world.sql(sample);
                world.sql("INSERT INTO outbox (type) VALUES ('t')");
            }
            "sql" => {
                world.sql(sample);
                if sample.starts_with("CREATE TABLE events") {
                    world.sql(
                        "INSERT INTO events (aggregate_id, event_type, payload, published_at) \
                         VALUES ('7', 'OrderPlaced', '{}', now()), ('8', 'OrderPlaced', '{}', NULL)",
                    );
                }
                if sample.starts_with("CREATE FUNCTION outbox_event_carry") {
                    world.sql(
                        "INSERT INTO outbox_event VALUES (gen_random_uuid(), 'order', '7', 'OrderPlaced', '{}')",
                    );
                }
            }
            other => panic!("a sample in {other} that nothing runs"),
        }
    }
    assert!(configuration.is_some());
}
