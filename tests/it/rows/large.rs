//! Rows of any size: what a fetch reads is bounded by the bytes of all columns, and a row that is
//! too large for Kafka is parked without being read.

use crate::exactly_once::{flags, receipts};
use crate::support::{Consumer, Relay, World, create_topic, stage};

/// Four times the default of `in_flight_bytes`, and what the process takes without rows.
const MEMORY_BOUND_MIB: u64 = 4 * 32 + 60;

/// What the log says of a row that was not read, once for each.
const UNREAD: &str = "it was not read, since it has";

#[test]
fn rows_of_any_size_in_any_column_take_bounded_memory_and_stop_no_other() {
    let (mut world, relay, mut consumer) = stage("anysize");
    assert!(relay.stop().success());
    world.sql(
        "INSERT INTO outbox (type, payload) VALUES ('good', 'first'); \
         INSERT INTO outbox (type) SELECT v FROM (SELECT repeat('t', 900000) AS v OFFSET 0) v, generate_series(1, 60); \
         INSERT INTO outbox (type, topic) SELECT 't', v FROM (SELECT repeat('o', 8000000) AS v OFFSET 0) v, generate_series(1, 10); \
         INSERT INTO outbox (type, key) SELECT 't', v FROM (SELECT repeat('k', 8000000) AS v OFFSET 0) v, generate_series(1, 10); \
         INSERT INTO outbox (type, headers) SELECT 't', v FROM (SELECT jsonb_build_object('a', repeat('h', 30000000)) AS v OFFSET 0) v, generate_series(1, 3); \
         INSERT INTO outbox (type, payload, key) VALUES ('t', repeat('p', 150000000), 'k'); \
         INSERT INTO outbox (type, payload) VALUES ('good', 'last')",
    );
    let relay = Relay::leading(&world, &[]);
    world.await_empty();
    let peak = relay.peak_memory();
    assert!(peak < MEMORY_BOUND_MIB, "{peak} MiB");
    let good = consumer.await_records(62).iter();
    let good: Vec<_> = good.filter(|it| it.header("type") == "good").collect();
    assert_eq!((good[0].text(), good[1].text()), ("first", "last"));
    let parked = "SELECT code || ': ' || count(*) FROM doorbell.dead GROUP BY code ORDER BY code";
    let codes = ["InvalidTopic: 10", "MessageSizeTooLarge: 14"];
    assert_eq!(world.texts(parked), codes);
    let intact = "SELECT count(*) FROM doorbell.dead WHERE octet_length(payload) = 150000000 AND key = 'k' \
         OR length(headers ->> 'a') = 30000000";
    assert_eq!(world.number(intact), 4);
    relay.await_log(UNREAD);
    assert!(relay.stop().success());
}

#[test]
fn a_row_that_is_not_read_obeys_its_policy_and_its_key() {
    for once in [false, true] {
        let mut world = World::new("unreadkey");
        create_topic(&world, &world.topic, 1, &[]);
        world.sql(
            "INSERT INTO outbox (type, key, payload) VALUES ('t', 'k', 'before'), ('t', 'k', repeat('x', 9000000)), \
             ('t', 'k', 'behind'), ('t', 'free', 'free')",
        );
        let (receipts, hold) = (receipts(&world), ["--poison", "hold-key"]);
        world.will_delete(&receipts);
        let mode = if once {
            flags(&receipts, &hold)
        } else {
            hold.to_vec()
        };
        let relay = Relay::leading(&world, &mode);
        relay.await_log(UNREAD);
        let mut consumer = Consumer::committed(&world, &world.topic);
        let texts: Vec<_> = consumer
            .await_records(2)
            .iter()
            .map(|it| it.text())
            .collect();
        assert_eq!(texts, ["before", "free"], "{once}");
        world.await_number("SELECT count(*) FROM outbox", 2);
        world.sql("UPDATE outbox SET payload = 'small' WHERE octet_length(payload) > 9");
        let texts: Vec<_> = consumer
            .await_records(4)
            .iter()
            .map(|it| it.text())
            .collect();
        assert_eq!(texts, ["before", "free", "small", "behind"], "{once}");
        world.await_empty();
        assert!(relay.stop().success());
    }
}

#[test]
fn documents_behind_small_rows_are_fetched_by_their_bytes() {
    let (mut world, relay, mut consumer) = stage("documents");
    assert!(relay.stop().success());
    // The first fetches teach that rows are small.
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'small', n::text FROM generate_series(1, 20000) n; \
         INSERT INTO outbox (type, headers) SELECT 'large', v FROM \
         (SELECT jsonb_build_object('a', repeat('h', 400000)) AS v OFFSET 0) v, generate_series(1, 400)",
    );
    let relay = Relay::leading(&world, &[]);
    let begun = std::time::Instant::now();
    consumer.await_records(20_001);
    let first = begun.elapsed();
    world.await_empty();
    let peak = relay.peak_memory();
    assert!(peak < MEMORY_BOUND_MIB, "{peak} MiB");
    assert!(first < std::time::Duration::from_secs(10), "{first:?}");
    assert_eq!(consumer.drain().len(), 20_400, "each once");
    assert!(relay.stop().success());
}
