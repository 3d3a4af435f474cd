//! When rows are sent, in which order, and what wakes the relay for them.

use super::{MODES, SETTINGS, assert_in_time, insert, scheduled};
use crate::support::Meter;

/// What was sent, by id.
macro_rules! seqs {
    ($received:expr) => {
        $received.iter().map(|it| it.seq()).collect::<Vec<_>>()
    };
}

#[test]
fn a_row_wakes_a_sleeping_relay_at_its_time_and_an_earlier_one_before() {
    for mode in MODES {
        let mut mapped = scheduled(mode, SETTINGS);
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        mapped.world.await_asleep();
        let late = insert(&mut mapped, "k", 3_000);
        let early = insert(&mut mapped, "k", 1_000);
        let past = insert(&mut mapped, "k", -1_000);
        let tomorrow = insert(&mut mapped, "k", 86_400_000);
        mapped
            .world
            .sql("INSERT INTO outbox (type, key, payload, send_at) VALUES ('t', 'k', 'never', 'infinity')");
        let received = consumer.await_records(3).to_vec();
        assert_eq!(seqs!(received), [past, early, late], "{mode}");
        received[1..].iter().for_each(assert_in_time);
        mapped.world.await_number("SELECT count(*) FROM outbox", 2);
        let left = mapped
            .world
            .texts("SELECT id::text FROM outbox ORDER BY id");
        assert_eq!(left, [tomorrow.to_string(), (tomorrow + 1).to_string()]);
        // The sweep had no part in it.
        assert_eq!(relay.count_log("swept rows="), 0, "{mode}");
        assert!(relay.stop().success());
        assert_eq!(consumer.drain().len(), 3, "{mode}");
    }
}

#[test]
fn rows_that_came_due_while_no_relay_ran_are_sent_in_the_order_of_their_times() {
    for mode in MODES {
        let mut mapped = scheduled(mode, SETTINGS);
        // Later ids have earlier times, and more rows than a page of ids has.
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, send_at) SELECT 't', 'k', repeat('x', 50), now() - g * interval '1 s' FROM generate_series(1, 12000) g",
        );
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, send_at) VALUES ('t', 'k', 'first', '-infinity')",
        );
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        let received = consumer.await_records(12_001).to_vec();
        assert_eq!(
            seqs!(received),
            (1..=12_001).rev().collect::<Vec<i64>>(),
            "{mode}"
        );
        mapped.world.await_empty();
        assert!(relay.stop().success());
    }
}

#[test]
fn each_kind_of_rows_goes_on_beside_a_backlog_of_the_other() {
    let settings = format!("in_flight_rows = 100\n{SETTINGS}");
    let mut mapped = scheduled(MODES[0], &settings);
    for time in ["NULL", "now()"] {
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, key, payload, send_at) SELECT 't', 'k' || {time}, 'x', {time} FROM generate_series(1, 5000) g"
        ));
    }
    let relay = mapped.relay();
    let mut consumer = mapped.consumer();
    let received = consumer.await_records(10_000);
    let undelayed = received[..5_000].iter().filter(|it| it.seq() <= 5_000);
    let undelayed = undelayed.count();
    assert!((1_000..4_000).contains(&undelayed), "{undelayed}");
    mapped.world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn a_time_that_an_update_changes_holds_from_the_next_sweep_or_timer_on() {
    let settings = SETTINGS.replace("'1h'", "'500ms'");
    let mut mapped = scheduled(MODES[0], &settings);
    let relay = mapped.relay();
    let mut consumer = mapped.consumer();
    let earlier = insert(&mut mapped, "a", 86_400_000);
    let later = insert(&mut mapped, "b", 1_500);
    let sooner = insert(&mut mapped, "c", 86_400_000);
    mapped.world.await_asleep();
    for (id, at) in [
        (earlier, "now() - interval '1 s'"),
        (later, "now() + interval '1 day'"),
        (sooner, "NULL"),
    ] {
        mapped
            .world
            .sql(&format!("UPDATE outbox SET send_at = {at} WHERE id = {id}"));
    }
    let mut sent = seqs!(consumer.await_records(2));
    sent.sort_unstable();
    assert_eq!(sent, [earlier, sooner]);
    // The time that the row had is over.
    let wait = insert(&mut mapped, "d", 2_000);
    assert_eq!(consumer.await_records(3)[2].seq(), wait);
    mapped
        .world
        .await_number("SELECT sum(id)::bigint FROM outbox", later);
    assert!(relay.stop().success());
}

#[test]
fn a_transaction_that_is_silent_and_commits_late_sets_the_timer() {
    let mut mapped = scheduled(MODES[0], SETTINGS);
    let mut writer = mapped.world.connect();
    // No relay sleeps yet, so it will not ring.
    mapped.world.sql_on(
        &mut writer,
        "BEGIN; INSERT INTO outbox (type, key, payload, send_at) SELECT 't', 'k', ceil(EXTRACT(epoch FROM at) * 1000)::bigint, at \
         FROM (SELECT clock_timestamp() + interval '5 s' AS at) t",
    );
    let relay = mapped.relay();
    mapped.world.sql_on(&mut writer, "COMMIT");
    mapped.world.await_asleep();
    assert_in_time(&mapped.consumer().await_records(1)[0]);
    assert_eq!(relay.count_log("swept rows="), 0);
    assert!(relay.stop().success());
}

#[test]
fn rows_that_wait_cost_neither_the_fetch_nor_an_idle_relay_anything() {
    let settings = SETTINGS.replace("'1h'", "'300ms'");
    let mut mapped = scheduled(MODES[0], &settings);
    let meter = Meter::new(&mut mapped.world);
    let path = mapped.file.path().to_str().expect("a path").to_owned();
    let relay = meter.leading(&mapped.world, &["--config", &path]);
    // All that the fetch, the looks for rows whose time has come, and the deletes read.
    let blocks = |mapped: &mut super::Mapped| {
        let role = format!("meter_{}", mapped.world.name());
        mapped.world.number(&format!(
            "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements WHERE userid = '{role}'::regrole \
             AND (query LIKE '%send_at%' AND query NOT LIKE 'SELECT count(%' OR query LIKE '%DELETE FROM public.%')"
        ))
    };
    let cost = |mapped: &mut super::Mapped, rows: i64| {
        let before = blocks(mapped);
        for _ in 0..rows {
            mapped
                .world
                .sql("INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'x')");
            mapped
                .world
                .await_number("SELECT count(*) FROM outbox WHERE send_at IS NULL", 0);
        }
        blocks(mapped) - before
    };
    cost(&mut mapped, 20);
    let without = cost(&mut mapped, 20);
    mapped.world.sql(
        "INSERT INTO outbox (type, key, payload, send_at) SELECT 't', 'k', repeat('x', 100), now() + interval '1 day' FROM generate_series(1, 100000)",
    );
    mapped.world.await_asleep();
    let with = cost(&mut mapped, 20);
    // Some blocks more of deeper indexes; the rows and their entries are thousands of blocks.
    assert!(
        with < without * 3 + 500,
        "{with} blocks instead of {without}"
    );
    mapped.world.await_asleep();
    let swept = relay.count_log("swept rows=");
    relay.await_log_times("swept rows=", swept + 1);
    let (before, from) = (meter.statements(&mut mapped.world), swept + 1);
    relay.await_log_times("swept rows=", from + 10);
    let asked = meter.statements(&mut mapped.world) - before;
    let sweeps = i64::try_from(relay.count_log("swept rows=") - from + 1).expect("a count");
    // The table's identity, the dead letters, ids below the cursor, a fetch, the rows whose time
    // has come, the number of the others.
    assert!(
        asked <= sweeps * 6,
        "{asked} statements in {sweeps} sweeps\n{}",
        meter.list(&mut mapped.world)
    );
    assert!(relay.stop().success());
    meter.remove(&mut mapped.world);
}
