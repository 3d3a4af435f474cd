//! A table of Debezium is adopted, and the relay serves it.

use super::{DEBEZIUM, adopt, adoptable, catalogue, path, printed_config, printed_sql};
use crate::support::{Checkup, Consumer, Relay, World, create_topic};

/// Rows that were there before.
const OLD: &str = "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) SELECT 'order', 'old', 'Old', '{}' FROM generate_series(1, 5000)";

fn stage() -> World {
    let mut world = adoptable("adopt", DEBEZIUM);
    world.sql(OLD);
    world.sql(&format!(
        "CREATE ROLE {0}_w LOGIN PASSWORD 'p'; GRANT INSERT ON outboxevent TO {0}_w; \
         CREATE ROLE {0}_c LOGIN PASSWORD 'p'; GRANT INSERT (aggregatetype, aggregateid, type, payload) ON outboxevent TO {0}_c",
        world.name()
    ));
    world
}

fn leave(world: &mut World) {
    world.sql(&format!(
        "DROP OWNED BY {0}_w, {0}_c; DROP ROLE {0}_w, {0}_c",
        world.name()
    ));
}

#[test]
fn the_plan_changes_nothing_and_its_sql_does_what_apply_does_and_undo_takes_it_back() {
    let mut world = stage();
    let before = catalogue(&mut world, "outboxevent");
    let plan = adopt(&world, &["outboxevent"]);
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
    for sql in printed_sql(&plan) {
        world.sql(&sql);
    }
    let by_hand = catalogue(&mut world, "outboxevent");
    assert_ne!(by_hand, before);
    let again = adopt(&world, &["public.outboxevent", "--from", "debezium"]);
    assert!(again.contains("nothing is left to run"), "{again}");
    assert_eq!(printed_sql(&again), [""; 0]);

    for sql in printed_sql(&adopt(&world, &["outboxevent", "--undo"])) {
        world.sql(&sql);
    }
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
    assert!(adopt(&world, &["outboxevent", "--apply"]).contains(" is adopted\n"));
    assert_eq!(catalogue(&mut world, "outboxevent"), by_hand);
    let again = adopt(&world, &["outboxevent", "--apply"]);
    assert!(again.contains("is adopted already"), "{again}");
    assert_eq!(catalogue(&mut world, "outboxevent"), by_hand);
    // A role that gets its right later needs one on the sequence.
    world.sql("GRANT INSERT ON outboxevent TO PUBLIC");
    let plan = adopt(&world, &["outboxevent"]);
    let grant = "GRANT USAGE ON SEQUENCE public.outboxevent_seq_seq TO PUBLIC;";
    assert!(printed_sql(&plan).concat().contains(grant), "{plan}");
    adopt(&world, &["outboxevent", "--apply"]);
    assert_eq!(printed_sql(&adopt(&world, &["outboxevent"])), [""; 0]);
    world.sql("REVOKE INSERT ON outboxevent FROM PUBLIC");
    adopt(&world, &["outboxevent", "--undo", "--apply"]);
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
    let undone = adopt(&world, &["outboxevent", "--undo", "--apply"]);
    assert!(undone.contains("is not adopted"), "{undone}");
    leave(&mut world);
}

#[test]
fn an_adopted_table_is_relayed_without_its_old_rows_in_both_modes() {
    for mode in ["at-least-once", "exactly-once"] {
        let mut world = stage();
        let plan = adopt(&world, &["outboxevent", "--apply"]);
        let prefix = world.topic.replace("outbox", "event");
        let receipts = world.topic.replace("outbox", "receipts");
        let topic = format!("{prefix}.order");
        create_topic(&world, &topic, 3, &[]);
        let mut more = format!("poison = 'hold-key'\ndelivery = '{mode}'\n");
        if mode == "exactly-once" {
            more += &format!("receipts = '{receipts}'\n");
            world.will_delete(&receipts);
        }
        let file = printed_config(&plan, &prefix, &more);
        let config = ["--config", path(&file)];
        world.migrate(&config);
        let relay = Relay::leading(&world, &config);
        for role in ["w", "c"] {
            let role = format!("{}_{role}", world.name());
            let mut writer = world.connect_to(&world.url_as(&role));
            world.sql_on(
                &mut writer,
                "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) SELECT 'order', n::text, 'New', '{\"n\": 1}' FROM generate_series(1, 500) n",
            );
        }
        let mut consumer = Consumer::committed(&world, &topic);
        let received = consumer.await_records(1000).to_vec();
        for record in &received {
            assert_eq!(record.text(), "{\"n\": 1}");
            let names: Vec<_> = record.headers.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["id"], "{mode}");
        }
        // A row that Kafka cannot take holds its key, and no other.
        world.sql(
            "INSERT INTO outboxevent (aggregatetype, aggregateid, type) VALUES ('no topic!', 'k', 'Bad'), ('order', 'k', 'Held'), ('order', 'free', 'Free')",
        );
        consumer.await_records(1001);
        relay.await_log("it stays in the table");
        let status = world.doorbell(&[&["status", "--json"], &config[..]].concat());
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
        assert_eq!(status[0]["backlog"], 2, "{status}");
        world.sql("UPDATE outboxevent SET aggregatetype = 'order' WHERE aggregateid = 'k'");
        consumer.await_records(1003);
        let checkup = Checkup::of(&world, &config);
        checkup.lacks(&[
            "table-unfit",
            "id-not-unique",
            "fetch-plan",
            "null-id",
            "column-required",
        ]);
        assert!(relay.stop().success());

        let old = "SELECT count(*) FROM outboxevent WHERE seq IS NULL AND type = 'Old'";
        assert_eq!(world.number(old), 5000);
        assert_eq!(world.number("SELECT count(*) FROM outboxevent"), 5000);
        assert_eq!(consumer.drain().len(), 1003, "{mode}");
        leave(&mut world);
    }
}

#[test]
fn the_relay_reads_through_the_partial_index_and_touches_no_old_row() {
    let mut world = adoptable("adoptplan", DEBEZIUM);
    world.sql(OLD);
    let plan = adopt(&world, &["outboxevent", "--apply"]);
    let prefix = world.topic.replace("outbox", "event");
    let topic = format!("{prefix}.order");
    create_topic(&world, &topic, 1, &[]);
    let file = printed_config(&plan, &prefix, "sweep = '100ms'\n");
    let config = ["--config", path(&file)];
    world.migrate(&config);
    world.sql("VACUUM ANALYZE outboxevent");
    for statement in [
        "SELECT * FROM outboxevent WHERE seq > 0 ORDER BY seq LIMIT 100",
        "SELECT count(*) FROM (SELECT FROM outboxevent WHERE seq IS NOT NULL LIMIT 100) r",
        "DELETE FROM outboxevent USING (SELECT unnest(ARRAY[1, 2]::bigint[]) AS low) r WHERE seq >= low AND seq <= low",
    ] {
        let explain = format!("EXPLAIN (COSTS OFF) {statement}");
        let lines = world.texts(&explain);
        assert!(
            lines.iter().any(|it| it.contains("outboxevent_seq_key")),
            "{lines:#?}"
        );
    }
    // The server has all counts of a session when that has ended.
    world.reconnect();
    world.await_number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        0,
    );
    world.sql("SELECT pg_stat_reset_single_table_counters('outboxevent'::regclass)");
    let relay = Relay::leading(&world, &config);
    let mut writer = world.connect();
    for _ in 0..20 {
        world.sql_on(
            &mut writer,
            "INSERT INTO outboxevent (aggregatetype, aggregateid, type) SELECT 'order', n::text, 'New' FROM generate_series(1, 50) n",
        );
    }
    let mut consumer = Consumer::new(&world, &topic);
    consumer.await_records(1000);
    assert!(relay.stop().success());
    // The sessions have ended, and with that the server has their counts.
    world.await_number(
        "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'outboxevent' AND n_tup_del = 1000",
        1,
    );
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'outboxevent'";
    assert_eq!(world.number(scans), 0, "the whole table was read");
}
