//! `sql/pending.sql`.

use super::assert_refused;
use crate::support::{Consumer, Relay, World, create_topic, eventually, get};

const PENDING: &str = include_str!("../../../sql/pending.sql");

fn pending(world: &mut World, ids: [&str; 3]) -> Vec<String> {
    let ids = ids.join("', '");
    world.texts(&format!(
        "SELECT doorbell.pending(id::uuid) FROM unnest(ARRAY['{ids}']) id"
    ))
}

#[test]
fn where_an_event_is_can_be_asked_by_the_id_that_its_record_has() {
    let mut world = World::new("pending");
    create_topic(&world, &world.topic, 1, &[]);
    // Twice, because it can be run again.
    world.sql(PENDING);
    world.sql(PENDING);
    world.sql("SET quote_all_identifiers = on");
    let emit = "INSERT INTO outbox (type, headers) VALUES ('x', $$HEADERS$$) RETURNING doorbell.event_id('outbox', id, created_at)::text";
    let sent = world.texts(&emit.replace("HEADERS", "{}")).remove(0);
    let dead = world.texts(&emit.replace("HEADERS", "[]")).remove(0);
    let never = "00000000-0000-8000-8000-000000000000";
    let all = [&sent, &dead, never];
    assert_eq!(pending(&mut world, all), ["waiting", "waiting", "gone"]);

    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.await_records(1)[0].header("id"), sent);
    world.await_empty();
    assert_eq!(pending(&mut world, all), ["gone", "dead", "gone"]);
    assert!(relay.stop().success());
    assert_refused(
        &world,
        &[
            ("SELECT doorbell.pending(NULL)", "22004"),
            ("SELECT doorbell.event_id('outbox', 1, NULL)", "22023"),
            ("SELECT doorbell.event_id('pg_class', 1, now())", "22023"),
        ],
    );
}

#[test]
fn a_delivery_is_awaited_at_the_relay_which_tells_what_waits_is_held_or_dead() {
    let mut world = World::new("delivered");
    world.sql(PENDING);
    create_topic(&world, &world.topic, 1, &[]);
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0", "--poison", "hold-key"]);
    let insert = |world: &mut World, key: &str, headers: &str| {
        let sql = format!(
            "INSERT INTO outbox (type, key, headers) VALUES ('x', '{key}', '{headers}') RETURNING doorbell.event_id('outbox', id, created_at)::text"
        );
        world.texts(&sql).remove(0)
    };
    let state = |id: &str, wait: &str| {
        let answer = get(&relay, &format!("/delivered?id={id}&wait={wait}"));
        assert_eq!(answer.code, 200, "{answer:?}");
        let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer["id"], id);
        answer["state"].as_str().expect("a state").to_owned()
    };
    let event = insert(&mut world, "a", "{}");
    assert_eq!(state(&event, "30s"), "sent");
    assert_eq!(state(&event, "0s"), "sent");
    let held = insert(&mut world, "b", "[]");
    let behind = insert(&mut world, "b", "{}");
    eventually("the key is held", || {
        (state(&behind, "0s") == "held").then_some(())
    });
    assert_eq!(state(&held, "0s"), "held");
    assert_eq!(state("00000000-0000-8000-8000-000000000000", "5s"), "gone");
    for bad in [
        "",
        "?id=x",
        "?id=00000000-0000-8000-8000-000000000000&wait=x",
    ] {
        assert_eq!(get(&relay, &format!("/delivered{bad}")).code, 400, "{bad}");
    }

    // What is not committed is not there.
    let mut session = world.connect();
    world.sql_on(&mut session, "BEGIN");
    let uncommitted = world.text_on(
        &mut session,
        "INSERT INTO outbox (type) VALUES ('x') RETURNING doorbell.event_id('outbox', id, created_at)::text",
    );
    assert_eq!(state(&uncommitted, "100ms"), "gone");
    world.sql_on(&mut session, "COMMIT");
    assert_eq!(state(&uncommitted, "30s"), "sent");
    assert!(relay.stop().success());
}
