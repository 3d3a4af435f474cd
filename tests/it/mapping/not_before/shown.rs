//! What is said of rows that wait for their time.

use serde_json::Value;

use super::{MODES, Mapped, SETTINGS, insert, scheduled};
use crate::support::{Relay, eventually, get, metrics};

const LONG_AGO: &str = "INSERT INTO outbox (type, key, payload, created_at, send_at) SELECT 't', 'k', 'x', now() - interval '1 day', ";

/// Returns what a command says, and asserts that it succeeds.
#[track_caller]
fn says(mapped: &Mapped, arguments: &[&str]) -> (String, String) {
    let output = mapped.doorbell(arguments);
    assert!(output.status.success(), "{arguments:?} {output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

/// The value of a metric, if the relay has it.
fn metric(relay: &Relay, name: &str) -> Option<f64> {
    let text = metrics(relay);
    let begin = format!("{name}{{");
    let line = text.lines().find(|line| line.starts_with(&begin))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn rows_that_wait_are_no_backlog_and_age_from_their_time_on() {
    let mut mapped = scheduled(MODES[0], &SETTINGS.replace("'1h'", "'300ms'"));
    let flags = ["--listen", "127.0.0.1:0", "--stuck-after", "1s"];
    let relay = Relay::leading(&mapped.world, &mapped.flags(&flags));
    mapped.world.sql(&format!(
        "{LONG_AGO} now() + interval '1 day' FROM generate_series(1, 3)"
    ));
    eventually("the sweep counts them", || {
        (metric(&relay, "doorbell_delayed_rows") == Some(3.0)).then_some(())
    });
    let swept = relay.count_log("swept rows=");
    relay.await_log_times("swept rows=", swept + 5);
    let ready = get(&relay, "/readyz");
    assert!(
        ready.code == 200 && ready.body.contains("leading"),
        "{}",
        ready.body
    );
    for name in ["doorbell_backlog_rows", "doorbell_oldest_row_age_seconds"] {
        assert_eq!(metric(&relay, name), Some(0.0), "{name}");
    }
    let status: Value = serde_json::from_str(&get(&relay, "/status.json").body).expect("JSON");
    assert_eq!(status["outboxes"][0]["delayed"]["rows"], 3);
    let page = get(&relay, "/").body;
    assert!(
        page.contains("Not due yet") && page.contains("that is due is in Kafka"),
        "{page}"
    );

    let status: Value =
        serde_json::from_str(&says(&mapped, &["status", "--json"]).0).expect("JSON");
    assert_eq!(status[0]["backlog"], 0);
    assert_eq!(status[0]["delayed"], 3);
    assert_eq!(status[0]["oldest_seconds"], Value::Null);
    let next = status[0]["next_due_seconds"].as_f64().expect("a number");
    assert!((86_000.0..86_400.0).contains(&next), "{next}");
    let (text, _) = says(&mapped, &["status"]);
    let line = "delayed  3 rows not to be sent yet; the next is due in 23h 59m";
    assert!(text.contains(line), "{text}");
    let (check, _) = says(&mapped, &["check"]);
    assert!(!check.contains("stuck"), "{check}");

    // A row that comes due during a pause is a backlog, and as old as that.
    says(&mapped, &["pause"]);
    relay.await_log("paused: no row is fetched");
    mapped.world.sql(&format!("{LONG_AGO} now()"));
    eventually("the paused relay counts it", || {
        (metric(&relay, "doorbell_backlog_rows") == Some(1.0)).then_some(())
    });
    let age = metric(&relay, "doorbell_oldest_row_age_seconds");
    assert!(age < Some(60.0), "{age:?}");
    let status: Value =
        serde_json::from_str(&says(&mapped, &["status", "--json"]).0).expect("JSON");
    assert_eq!(
        (&status[0]["backlog"], &status[0]["delayed"]),
        (&1.into(), &3.into())
    );
    assert!(
        status[0]["oldest_seconds"].as_f64() < Some(60.0),
        "{status}"
    );
    says(&mapped, &["resume"]);
    mapped.world.await_number("SELECT count(*) FROM outbox", 3);
    // The latency of a row counts from its time.
    let total = "doorbell_stage_duration_seconds_sum";
    let sums = metrics(&relay);
    let sum = sums
        .lines()
        .find(|it| it.starts_with(total) && it.contains("total"));
    let sum: f64 = sum
        .and_then(|it| it.rsplit(' ').next()?.parse().ok())
        .expect("a sum");
    assert!(sum < 600.0, "{sum} s");
    assert!(relay.stop().success());
}

#[test]
fn commands_tell_rows_that_wait_from_others() {
    let mut mapped = scheduled(MODES[0], SETTINGS);
    let later = insert(&mut mapped, "k", 86_400_000);
    mapped
        .world
        .sql("INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'now')");
    let due = insert(&mut mapped, "k", -1_000);
    let (shown, note) = says(&mapped, &["preview"]);
    assert!(
        shown.contains(&format!("row {due} ")) && !shown.contains(&format!("row {later} ")),
        "{shown}"
    );
    assert!(note.contains("1 row is not shown: not due yet"), "{note}");
    let topic = mapped.world.topic.clone();
    let (pending, _) = says(&mapped, &["tail", "--topic", &topic, "--pending", "k"]);
    let lines: Vec<_> = pending
        .lines()
        .filter(|line| line.contains("due in"))
        .collect();
    assert!(
        lines.len() == 1 && lines[0].contains(&format!("row {later} ")),
        "{pending}"
    );
    let (drained, _) = says(&mapped, &["drain"]);
    assert!(drained.contains("1 row not to be sent yet"), "{drained}");

    // A row with a lower id that is sent later is no offence.
    mapped.world.sql(&format!(
        "UPDATE outbox SET send_at = now() WHERE id = {later}"
    ));
    insert(&mut mapped, "k", 86_400_000);
    says(&mapped, &["drain"]);
    let (verified, _) = says(&mapped, &["verify"]);
    assert!(verified.contains(", which is no offence"), "{verified}");
    assert!(
        verified.contains("1 row in the table, 1 row is not to be sent yet"),
        "{verified}"
    );
}

#[test]
fn starts_that_find_only_rows_that_wait_are_no_crash_loop() {
    let mut mapped = scheduled(MODES[0], SETTINGS);
    insert(&mut mapped, "k", 86_400_000);
    for _ in 0..5 {
        let relay = mapped.relay();
        assert_eq!(relay.count_log("crash loop"), 0);
        relay.kill();
    }
}
