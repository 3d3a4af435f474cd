//! Rows that wait are counted whatever they wait for, and a relay whose rows wait is not ready.

use super::dead_letters::bury;
use crate::support::{Relay, World, create_topic, eventually, get, metrics};

/// Waits until `/metrics` has these samples of the outbox.
#[track_caller]
fn await_samples(relay: &Relay, samples: &[(&str, &str)]) {
    eventually(&format!("{samples:?}"), || {
        let body = metrics(relay);
        let has = |(name, value): &(&str, &str)| {
            body.contains(&format!("{name}{{outbox=\"outbox\"}} {value}\n"))
        };
        samples.iter().all(has).then_some(())
    });
}

#[test]
fn held_paused_and_dead_rows_are_counted() {
    let mut world = World::new("counted");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 64, "Common");
    let flags = ["--listen", "127.0.0.1:0", "--sweep", "500ms"];
    let relay = Relay::leading(&world, &[&flags[..], &["--poison", "hold-key"]].concat());
    await_samples(&relay, &[("doorbell_dead_letters", "64.0")]);
    let page = get(&relay, "/").body;
    let tile = "<dt>Dead letters</dt><dd class=\"dead\"><a href=\"/dead\">64</a>";
    assert!(page.contains(tile), "{page}");

    world.sql(
        "INSERT INTO outbox (type, key, headers, created_at) VALUES ('t', 'k', '[]', now() - interval '1 hour'), ('t', 'k', NULL, now()); \
         INSERT INTO outbox (type, key, payload) VALUES ('t', 'free', 'x')",
    );
    world.await_number("SELECT count(*) FROM outbox", 2);
    await_samples(&relay, &[("doorbell_backlog_rows", "2.0")]);
    let age = || {
        let body = metrics(&relay);
        let line = body
            .lines()
            .find(|it| it.starts_with("doorbell_oldest_row_age_seconds"));
        line.and_then(|it| it.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    assert!(age() >= Some(3_600.0), "{:?}", age());
    assert_eq!(get(&relay, "/readyz").code, 200, "the key is why they wait");

    world.doorbell(&["pause", "--by", "ann", "--reason", "the first"]);
    relay.await_log("paused: no row is fetched");
    world.sql("INSERT INTO outbox (type, payload) SELECT 't', 'x' FROM generate_series(1, 3)");
    await_samples(&relay, &[("doorbell_backlog_rows", "5.0")]);
    assert!(age() >= Some(3_600.0), "{:?}", age());
    world.doorbell(&["pause", "--by", "bob", "--reason", "the second"]);
    eventually("the new reason is shown", || {
        let body = get(&relay, "/readyz").body;
        body.contains("paused by bob: the second").then_some(())
    });
    world.doorbell(&["resume"]);
    world.sql("UPDATE outbox SET headers = NULL; DELETE FROM doorbell.dead WHERE id > 1");
    world.await_empty();
    let gone = [
        ("doorbell_backlog_rows", "0.0"),
        ("doorbell_dead_letters", "1.0"),
    ];
    await_samples(&relay, &gone);
    assert!(relay.stop().success());
}

#[test]
fn a_relay_that_starts_paused_counts_its_dead_letters() {
    let mut world = World::new("pausedstart");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 3, "Common");
    let paused = world.doorbell(&["pause", "--by", "ann", "--reason", "not yet"]);
    assert!(paused.status.success(), "{paused:?}");
    let relay = Relay::spawn(&world, &["--listen", "127.0.0.1:0", "--sweep", "1h"]);
    relay.await_log("paused: no row is fetched");
    await_samples(&relay, &[("doorbell_dead_letters", "3.0")]);
    assert!(relay.stop().success());
}

/// A copy of the database has tables of the same OIDs, and its locks stand in the same list.
#[test]
fn dead_letters_are_counted_while_those_of_a_copy_of_the_database_are_locked() {
    let mut world = World::new("original");
    create_topic(&world, &world.topic, 1, &[]);
    bury(&mut world, 3, "Common");
    let copy = world.copy("copy");
    let mut user = copy.connect();
    copy.sql_on(
        &mut user,
        "BEGIN; LOCK TABLE doorbell.dead IN ACCESS EXCLUSIVE MODE",
    );
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    await_samples(&relay, &[("doorbell_dead_letters", "3.0")]);
    copy.sql_on(&mut user, "COMMIT");
    assert!(relay.stop().success());
}

#[test]
fn a_relay_whose_terms_end_without_a_look_is_never_ready_in_between() {
    const LEADING: &str = " leading";
    let mut world = World::new("overterms");
    create_topic(&world, &world.topic, 1, &[]);
    let flags = ["--listen", "127.0.0.1:0", "--stuck-after", "1s"];
    let relay = Relay::leading(&world, &flags);
    world.await_asleep();
    let mut user = world.connect();
    world.sql_on(
        &mut user,
        "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell %'";
    world.number(end);
    eventually("it is stuck", || {
        let body = get(&relay, "/readyz").body;
        body.contains("no look into the table has ended")
            .then_some(())
    });
    for _ in 0..3 {
        let led = relay.count_log(LEADING);
        world.number(end);
        relay.await_log_times(LEADING, led + 1);
        for _ in 0..5 {
            let answer = get(&relay, "/readyz");
            assert_eq!(answer.code, 503, "{answer:?}");
        }
    }
    world.sql_on(&mut user, "ROLLBACK");
    eventually("it is ready", || {
        (get(&relay, "/readyz").code == 200).then_some(())
    });
    assert!(relay.stop().success());
}
