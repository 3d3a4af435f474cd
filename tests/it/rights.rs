//! The roles of `sql/roles.sql`: enough, and no more than enough.

use crate::support::{Consumer, Relay, World, create_topic, refused};

#[test]
fn the_roles_are_enough_and_each_right_of_the_relay_is_needed() {
    let mut world = World::new("rights");
    create_topic(&world, &world.topic, 1, &[]);
    // Roles belong to the whole server: other names here than in the file.
    let (writer, relay, operator) = (
        format!("writer_{}", std::process::id()),
        format!("relay_{}", std::process::id()),
        format!("operator_{}", std::process::id()),
    );
    let file = include_str!("../../sql/roles.sql");
    world.sql(
        &file
            .replace("doorbell_writer", &writer)
            .replace("doorbell_relay", &relay)
            .replace("doorbell_operator", &operator),
    );
    world.sql(&format!(
        "ALTER ROLE {writer} LOGIN; ALTER ROLE {relay} LOGIN; ALTER ROLE {operator} LOGIN"
    ));

    let as_role = |world: &World, role: &str| {
        world
            .database_url
            .replace("//postgres@", &format!("//{role}@"))
    };
    let running = Relay::leading(&world, &["--database-url", &as_role(&world, &relay)]);
    world.sql(&format!(
        "SET ROLE {writer}; INSERT INTO outbox (type, payload) VALUES ('t', 'x'); RESET ROLE"
    ));
    assert_eq!(
        Consumer::new(&world, &world.topic).await_records(1)[0].text(),
        "x"
    );
    world.await_empty();
    assert!(
        world
            .doorbell(&["status", "--database-url", &as_role(&world, &relay)])
            .status
            .success()
    );
    for right in ["INSERT", "SELECT (attempts)", "SELECT (row_id)"] {
        world.sql(&format!("REVOKE {right} ON doorbell.dead FROM {relay}"));
        world.sql("INSERT INTO outbox (type, headers) VALUES ('bad', '[]')");
        running.await_log("permission denied for table dead");
        world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'good')");
        world.await_number("SELECT count(*) FROM outbox WHERE type <> 'bad'", 0);
        assert_eq!(world.number("SELECT count(*) FROM outbox"), 1, "{right}");
        world.sql(&format!("GRANT {right} ON doorbell.dead TO {relay}"));
        world.await_empty();
    }
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 3);
    assert!(running.stop().success());

    let database = as_role(&world, &relay);
    let topic = world.topic.clone();
    let verify = ["verify", "--topic", &topic, "--database-url"];
    let verify = [&verify[..], &[database.as_str()]].concat();
    assert!(world.doorbell(&verify).status.success());
    world.sql(&format!(
        "REVOKE SELECT (retried_at) ON doorbell.dead FROM {relay}"
    ));
    refused(
        &world.doorbell(&verify),
        1,
        &["permission denied for table dead"],
    );

    // Without it the relay goes on all the same, and says what it cannot do.
    world.sql(&format!("REVOKE INSERT ON doorbell.starts FROM {relay}"));
    let running = Relay::leading(&world, &["--database-url", &database]);
    running.await_log("starts cannot be counted");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
    world.await_empty();
    assert!(running.stop().success());
    world.sql(&format!("GRANT INSERT ON doorbell.starts TO {relay}"));

    let url = as_role(&world, &operator);
    let dead = |world: &World, command: &[&str]| {
        let output = world.doorbell(&[&["dead", "--database-url", &url], command].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), stderr)
    };
    let (list, retry) = (&["list"][..], &["retry", "1"][..]);
    let drop = &["drop", "1", "--yes"][..];
    for (right, on, refused, granted) in [
        ("SELECT", "doorbell.dead", list, &["show", "1"][..]),
        ("UPDATE", "doorbell.dead", retry, list),
        ("INSERT", "outbox", retry, list),
        ("DELETE", "doorbell.dead", drop, list),
        ("USAGE", "SCHEMA doorbell", list, list),
    ] {
        world.sql(&format!("REVOKE {right} ON {on} FROM {operator}"));
        let (success, stderr) = dead(&world, refused);
        assert!(!success, "{right} on {on}");
        assert!(stderr.contains("permission denied"), "{stderr}");
        world.sql(&format!("GRANT {right} ON {on} TO {operator}"));
        let (success, stderr) = dead(&world, granted);
        assert!(success, "{stderr}");
    }
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    for command in [retry, &["drop", "2", "--yes"]] {
        let (success, stderr) = dead(&world, command);
        assert!(success, "{stderr}");
    }
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 1);

    for command in ["pause", "resume"] {
        let switch = [command, "--database-url", &url];
        let right = "UPDATE (paused_at) ON doorbell.outbox";
        world.sql(&format!("REVOKE {right} FROM {operator}"));
        refused(&world.doorbell(&switch), 1, &["permission denied"]);
        world.sql(&format!("GRANT {right} TO {operator}"));
        assert!(world.doorbell(&switch).status.success(), "{command}");
    }

    for (right, on) in [
        ("SELECT", "outbox"),
        ("UPDATE", "outbox"),
        ("DELETE", "outbox"),
        ("SELECT", "doorbell.outbox"),
        ("USAGE", "SCHEMA doorbell"),
    ] {
        world.sql(&format!("REVOKE {right} ON {on} FROM {relay}"));
        let output = world.doorbell(&[
            "run",
            "--start-timeout",
            "1s",
            "--database-url",
            &as_role(&world, &relay),
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "without {right} on {on}: {stderr}"
        );
        assert!(stderr.to_lowercase().contains("grant"), "{stderr}");
        world.sql(&format!("GRANT {right} ON {on} TO {relay}"));
    }
    world.sql(&format!(
        "DROP OWNED BY {writer}, {relay}, {operator}; DROP ROLE {writer}, {relay}, {operator}"
    ));
}
