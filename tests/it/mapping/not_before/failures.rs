//! Kills, takeovers, pauses, refused rows.

use super::{MODES, SETTINGS, assert_in_time, insert, scheduled};
use crate::support::Relay;

const REFUSED: &str = "Kafka cannot take this row: it stays in the table";

#[test]
fn a_kill_and_a_takeover_lose_no_row_that_waits_and_double_none() {
    let mut mapped = scheduled(MODES[1], SETTINGS);
    let first = mapped.relay();
    let second = Relay::spawn(&mapped.world, &mapped.flags(&[]));
    second.await_log("standby");
    let mut consumer = mapped.consumer();
    // They come due before, while and after the leader is killed.
    for n in 0..60 {
        insert(&mut mapped, "k", 500 + n * 50);
    }
    consumer.await_records(10);
    first.kill();
    second.await_log("leading");
    let received = consumer.await_records(60).to_vec();
    let seqs: Vec<_> = received.iter().map(|it| it.seq()).collect();
    assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
    mapped.world.await_empty();
    assert!(second.stop().success());
    assert_eq!(consumer.drain().len(), 60);
}

#[test]
fn a_pause_keeps_rows_that_come_due_and_its_end_sends_them() {
    for mode in MODES {
        let mut mapped = scheduled(mode, SETTINGS);
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        let due = insert(&mut mapped, "k", 1_000);
        let later = insert(&mut mapped, "k", 4_000);
        assert!(mapped.doorbell(&["pause"]).status.success());
        relay.await_log("paused: no row is fetched");
        mapped
            .world
            .await_number("SELECT count(*) FROM outbox WHERE send_at < now()", 1);
        assert!(consumer.drain().is_empty(), "{mode}");
        assert!(mapped.doorbell(&["resume"]).status.success());
        assert_eq!(consumer.await_records(1)[0].seq(), due, "{mode}");
        let received = consumer.await_records(2)[1].clone();
        assert_eq!(received.seq(), later);
        assert_in_time(&received);
        assert!(relay.stop().success());
    }
}

#[test]
fn a_row_of_a_held_key_waits_for_it_and_then_goes_without_a_sweep() {
    for mode in MODES {
        let settings = format!("poison = 'hold-key'\n{SETTINGS}");
        let mut mapped = scheduled(mode, &settings);
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        // The first row is delayed, too, and refused for its headers.
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, headers, send_at) VALUES ('t', 'k', 'bad', '[1]', now() + interval '500 ms')",
        );
        let behind = insert(&mut mapped, "k", 1_000);
        let free = insert(&mut mapped, "free", 1_500);
        mapped
            .world
            .sql("INSERT INTO outbox (type, key, payload, send_at) VALUES ('t', 'k', 'b', now() + interval '700 ms')");
        relay.await_log(REFUSED);
        assert_eq!(consumer.await_records(1)[0].seq(), free, "{mode}");
        mapped
            .world
            .sql("UPDATE outbox SET headers = NULL WHERE payload = 'bad'");
        let received = consumer.await_records(4);
        let seqs: Vec<_> = received.iter().map(|it| it.seq()).collect();
        assert_eq!(seqs, [free, behind - 1, free + 1, behind], "{mode}");
        mapped.world.await_empty();
        assert_eq!(relay.count_log("swept rows="), 0, "{mode}");
        assert!(relay.stop().success());
    }
}

#[test]
fn a_refused_row_that_is_put_off_frees_its_key() {
    let settings = format!("poison = 'hold-key'\n{SETTINGS}");
    let mut mapped = scheduled(MODES[0], &settings);
    let relay = mapped.relay();
    let mut consumer = mapped.consumer();
    mapped.world.sql(
        "INSERT INTO outbox (type, key, payload, headers, send_at) VALUES ('t', 'k', 'bad', '[1]', now())",
    );
    relay.await_log(REFUSED);
    let behind = insert(&mut mapped, "k", 0);
    mapped
        .world
        .sql("UPDATE outbox SET send_at = 'infinity' WHERE payload = 'bad'");
    assert_eq!(consumer.await_records(1)[0].seq(), behind);
    mapped.world.await_number("SELECT count(*) FROM outbox", 1);
    assert!(relay.stop().success());
}

#[test]
fn a_dead_letter_that_was_delayed_is_sent_at_once_when_it_is_retried() {
    for mode in MODES {
        let mut mapped = scheduled(mode, SETTINGS);
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, headers, send_at) VALUES ('t', 'k', 'bad', '[1]', now() + interval '500 ms')",
        );
        mapped
            .world
            .await_number("SELECT count(*) FROM doorbell.dead", 1);
        mapped.world.sql("UPDATE doorbell.dead SET headers = NULL");
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        assert_eq!(consumer.await_records(1)[0].text(), "bad", "{mode}");
        mapped.world.await_empty();
        assert!(relay.stop().success());
    }
}

#[test]
fn a_drain_sends_what_is_due_and_leaves_the_others() {
    for mode in MODES {
        let mut mapped = scheduled(mode, SETTINGS);
        for time in ["NULL", "now()", "now() + interval '1 day'"] {
            mapped.world.sql(&format!(
                "INSERT INTO outbox (type, key, payload, send_at) SELECT 't', 'k', 'x', {time} FROM generate_series(1, 300)"
            ));
        }
        let drained = mapped.doorbell(&["drain"]);
        assert!(drained.status.success(), "{drained:?}");
        assert_eq!(mapped.consumer().drain().len(), 600, "{mode}");
        assert_eq!(mapped.world.number("SELECT count(*) FROM outbox"), 300);
    }
}
