//! `sql/pending.sql`.

use super::assert_refused;
use crate::exactly_once::{flags, prepared, receipts};
use crate::support::{Consumer, Relay, World, create_topic, eventually, get};

const PENDING: &str = include_str!("../../../sql/pending.sql");
const HELD: &str = "SELECT count(*) FROM doorbell.held";
/// Each row of `outbox` that is inserted gets its event id from here.
const EVENT: &str = "RETURNING doorbell.event_id('outbox', id, created_at)::text";

fn pending<const N: usize>(world: &mut World, ids: [&str; N]) -> Vec<String> {
    let ids = ids.join("', '");
    world.texts(&format!(
        "SELECT doorbell.pending(id::uuid) FROM unnest(ARRAY['{ids}']) WITH ORDINALITY i (id, n) ORDER BY n"
    ))
}

#[track_caller]
fn await_pending<const N: usize>(world: &mut World, ids: [&str; N], states: [&str; N]) {
    eventually(&format!("{states:?}"), || {
        (pending(world, ids) == states).then_some(())
    });
}

/// Inserts a row, which Kafka refuses if it is bad, and returns the id of its event.
fn insert(world: &mut World, key: &str, is_bad: bool) -> String {
    let headers = if is_bad { "'[]'" } else { "NULL" };
    let sql =
        format!("INSERT INTO outbox (type, key, headers) VALUES ('x', {key}, {headers}) {EVENT}");
    world.texts(&sql).remove(0)
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

#[test]
fn what_is_held_can_be_asked_in_sql_and_is_forgotten_with_its_release() {
    let mut world = World::new("pendingheld");
    world.sql(PENDING);
    create_topic(&world, &world.topic, 1, &[]);
    // Another outbox, whose key is a number under another name.
    world.sql(
        "CREATE TABLE other (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, type text, payload text, \
         created_at timestamptz NOT NULL DEFAULT now(), \"the key\" int, headers jsonb)",
    );
    world.migrate(&["--table", "other"]);
    let config = tempfile::NamedTempFile::new().expect("a file");
    let both = format!("topic = '{}'\npoison = 'hold-key'\n", world.topic);
    let text = format!(
        "[[outbox]]\n{both}[[outbox]]\ntable = 'other'\n{both}[outbox.columns]\nkey = 'the key'\n"
    );
    std::fs::write(config.path(), text).expect("room");
    let config = config.path().to_str().expect("a path");
    let relay = Relay::leading(&world, &["--config", config]);
    relay.await_log_times("leading", 2);

    let head = insert(&mut world, "'b'", true);
    let follower = insert(&mut world, "'b'", false);
    let alone = insert(&mut world, "NULL", true);
    let free = [
        insert(&mut world, "NULL", false),
        insert(&mut world, "'c'", false),
    ];
    let other = world.texts(
        "INSERT INTO other (type, \"the key\", headers) VALUES ('x', 7, '[]'), ('x', 7, NULL), ('x', 8, NULL) \
         RETURNING doorbell.event_id('other', id, created_at)::text",
    );
    let ids = [
        &head, &follower, &alone, &free[0], &free[1], &other[0], &other[1], &other[2],
    ]
    .map(String::as_str);
    let [held, gone] = ["held", "gone"];
    let states = [held, held, held, gone, gone, held, held, gone];
    await_pending(&mut world, ids, states);
    assert_eq!(world.number(HELD), 3, "a row for each first row");
    // A later row of the key waits from its commit on, also one with a lower id.
    let late = world.texts(&format!(
        "INSERT INTO outbox (id, type, key) OVERRIDING SYSTEM VALUE VALUES (-5, 'x', 'b') {EVENT}"
    ));
    assert_eq!(pending(&mut world, [&late[0]]), ["held"]);

    // A row that is gone holds nothing, before the relay knows; and one that is corrected is sent.
    world.sql("BEGIN; DELETE FROM outbox WHERE headers IS NOT NULL AND key = 'b'");
    assert_eq!(pending(&mut world, [&follower, &alone]), ["waiting", held]);
    world.sql("COMMIT; UPDATE other SET headers = NULL");
    let left = [gone, gone, held, gone, gone, gone, gone, gone];
    await_pending(&mut world, ids, left);
    world.await_number(HELD, 1);
    world.sql("UPDATE outbox SET headers = NULL");
    world.await_empty();
    world.await_number(HELD, 0);
    assert!(relay.stop().success());
}

#[test]
fn after_a_kill_the_next_relay_corrects_what_is_recorded_as_held() {
    for once in [false, true] {
        let mut world = prepared(if once { "pendingonce" } else { "pendingkill" });
        world.sql(PENDING);
        let lead = |world: &World, poison: &[&str]| {
            let receipts = receipts(world);
            let once = once.then(|| flags(&receipts, poison));
            Relay::leading(world, once.as_deref().unwrap_or(poison))
        };
        let hold: &[&str] = &["--poison", "hold-key"];
        let relay = lead(&world, hold);
        let insert = |world: &mut World, key| {
            let both = [insert(world, key, true), insert(world, key, false)];
            both.map(|id| -> &'static str { id.leak() })
        };
        let ([a, after_a], [b, after_b]) = (insert(&mut world, "'a'"), insert(&mut world, "'b'"));
        let ids = [a, after_a, b, after_b];
        await_pending(&mut world, ids, ["held"; 4]);
        relay.kill();
        world.sql("UPDATE outbox SET headers = NULL WHERE key = 'a'");
        assert_eq!(pending(&mut world, ids), ["held"; 4], "no relay knows yet");

        let relay = lead(&world, hold);
        await_pending(&mut world, ids, ["gone", "gone", "held", "held"]);
        world.await_number(HELD, 1);
        // Its sessions are lost, and it leads again.
        world.sql("DELETE FROM doorbell.held; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % leader %'");
        await_pending(&mut world, ids, ["gone", "gone", "held", "held"]);
        relay.kill();
        let relay = lead(&world, &["--poison", "park"]);
        await_pending(&mut world, ids, ["gone", "gone", "dead", "gone"]);
        world.await_number(HELD, 0);
        assert!(relay.stop().success());
    }
}

#[test]
fn without_the_table_held_rows_count_as_waiting_and_the_log_says_so_once() {
    let mut world = World::new("pendingold");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(PENDING);
    world.sql("DROP TABLE doorbell.held");
    let hold: &[&str] = &["--poison", "hold-key"];
    let relay = Relay::leading(&world, hold);
    let said = "held rows cannot be recorded";
    assert_eq!(relay.count_log(said), 0, "nothing is held");
    let a = insert(&mut world, "'a'", true);
    relay.await_log(said);
    assert_eq!(pending(&mut world, [&a]), ["waiting"]);
    // A new term.
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % leader %'");
    relay.await_log_times("leading", 2);
    let b = insert(&mut world, "'b'", true);
    relay.await_log("one more refused row");
    let free = insert(&mut world, "'c'", false);
    await_pending(&mut world, [&a, &b, &free], ["waiting", "waiting", "gone"]);
    assert!(relay.stop().success());

    world.migrate(&[]);
    let relay = Relay::leading(&world, hold);
    await_pending(&mut world, [&a, &b, &free], ["held", "held", "gone"]);
    assert_eq!(relay.count_log(said), 0);
    assert!(relay.stop().success());
}
