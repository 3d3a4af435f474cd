//! Rows that the server cannot send are gone round, and named.

use crate::exactly_once::{flags, receipts};
use crate::support::{Consumer, Relay, World, create_topic};

const UNREADABLE: &str = "it cannot be read";

#[test]
fn a_row_that_the_server_cannot_send_is_parked_and_stops_no_other() {
    for (once, poison) in [(false, "park"), (true, "hold-key")] {
        let mut world = World::encoded("wrongbyte", "WIN1252");
        create_topic(&world, &world.topic, 1, &[]);
        // A byte without a character in UTF-8: in the payload, in the key, and in the last row.
        let bad = "convert_from('\\x81'::bytea, 'WIN1252')";
        world.sql(&format!(
            "INSERT INTO outbox (type, key, payload) SELECT 't', CASE n WHEN 500 THEN {bad} ELSE 'k' || n END, \
             CASE WHEN n IN (7, 8, 1000) THEN {bad} ELSE n::text END FROM generate_series(1, 1000) n"
        ));
        let (receipts, policy) = (receipts(&world), ["--poison", poison]);
        world.will_delete(&receipts);
        let mode = if once {
            flags(&receipts, &policy)
        } else {
            policy.to_vec()
        };
        let relay = Relay::leading(&world, &mode);
        let mut consumer = Consumer::committed(&world, &world.topic);
        let mut seen: Vec<i64> = consumer
            .await_records(996)
            .iter()
            .map(|it| it.seq())
            .collect();
        seen.sort_unstable();
        let good = |n: &i64| ![7, 8, 500, 1000].contains(n);
        assert!(seen.into_iter().eq((1..=1000).filter(good)), "{poison}");
        relay.await_log(UNREADABLE);
        let left = if poison == "park" { 0 } else { 4 };
        world.await_number("SELECT count(*) FROM outbox", left);
        let parked = "SELECT count(*) FROM doorbell.dead WHERE code = 'Unreadable'";
        assert_eq!(world.number(parked), 4 - left);
        world.sql("UPDATE outbox SET payload = 'mended', key = 'mended'");
        world.await_empty();
        assert!(relay.stop().success());
    }
}

#[test]
fn the_smallest_id_is_sent_once_and_rows_without_an_id_are_refused() {
    let mut world = World::new("smallest");
    create_topic(&world, &world.topic, 1, &[]);
    let insert =
        "INSERT INTO outbox (id, type, payload) VALUES (-9223372036854775808, 't', 'smallest')";
    world.sql(insert);
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(1);
    world.await_empty();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'other')");
    consumer.await_records(2);
    world.await_empty();
    world.await_asleep();
    world.sql(insert);
    consumer.await_records(3);
    world.await_empty();
    world.await_asleep();
    assert_eq!(consumer.drain().len(), 3);
    assert!(relay.stop().success());
    world.sql(
        "ALTER TABLE outbox DROP CONSTRAINT outbox_pkey, ALTER id DROP IDENTITY; ALTER TABLE outbox ALTER id DROP NOT NULL; \
         CREATE INDEX ON outbox (id)",
    );
    let mut relay = Relay::spawn(&world, &[]);
    assert_eq!(relay.wait().code(), Some(1));
    relay.await_log("ALTER TABLE outbox ALTER COLUMN \"id\" SET NOT NULL");
}
