//! `sql/events.sql`.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::{assert_refused, query, side_by_side, sqlstate};
use crate::support::{Consumer, Relay, World, create_topic};

const EVENTS: &str = include_str!("../../../sql/events.sql");

/// What another role may have put into the search_path: it must never run.
const TRAP: &str = "CREATE FUNCTION trap(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'; \
     CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = trap)";

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

fn world(test: &str) -> World {
    let mut world = World::new(test);
    world.sql(TRAP);
    // Twice, because both can be run again.
    for _ in 0..2 {
        world.sql(EVENTS);
        world.sql("SELECT doorbell.create_event_store('outbox')");
    }
    world
}

/// Appends two events at the version that the stream has, in one transaction.
async fn append(session: &mut PgConnection, level: &str, stream: &str) -> Result<(), sqlx::Error> {
    query(session, &format!("BEGIN ISOLATION LEVEL {level}")).await?;
    let read = format!("SELECT coalesce(max(version), -1) FROM doorbell.read_stream('{stream}')");
    let version: i64 = query(session, &read).await?[0].get(0);
    let append = format!("SELECT doorbell.append('{stream}', {version}, '{{x,y}}', '{{1,NULL}}')");
    query(session, &append).await?;
    query(session, "COMMIT").await.map(drop)
}

/// Appends, again after each conflict, which a read may meet as well. Returns the conflicts.
async fn decide(session: &mut PgConnection, level: &str, stream: &str) -> usize {
    let mut conflicts = 0;
    while let Err(error) = append(session, level, stream).await {
        let code = sqlstate(&error);
        assert!(["DB409", "40001"].contains(&code.as_str()), "{error}");
        query(session, "ROLLBACK").await.expect("a rollback");
        conflicts += 1;
    }
    conflicts
}

#[test]
fn events_of_many_writers_are_in_the_topic_in_the_order_of_their_versions() {
    let mut world = world("eventstore");
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let conflicts = side_by_side(&world, 16, async |writer, mut session| {
        let mut conflicts = 0;
        for turn in 0..15 {
            let stream = format!("s{}", (writer + turn) % 4);
            conflicts += decide(&mut session, LEVELS[turn % 3], &stream).await;
        }
        conflicts
    });
    assert!(
        conflicts.iter().sum::<usize>() > 0,
        "no writer met a conflict"
    );
    let all = world.rows("SELECT stream, array_agg(version ORDER BY version), count(*) FROM doorbell.event GROUP BY 1");
    assert_eq!(all.len(), 4);
    for stream in &all {
        let versions: Vec<i64> = stream.get(1);
        let expected: Vec<i64> = (1..=stream.get::<i64, _>(2)).collect();
        assert_eq!(versions, expected);
    }

    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(480);
    let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for record in consumer.drain() {
        let last = seen.entry(record.key.clone().expect("a key")).or_default();
        *last += 1;
        assert_eq!(record.header("stream-version"), last.to_string());
    }
    assert_eq!(seen.values().sum::<i64>(), 480);
    world.await_empty();
    let verified = world.doorbell(&["verify", "--topic", &world.topic]);
    assert!(verified.status.success(), "{verified:?}");
    assert!(relay.stop().success());
}

#[test]
fn of_two_first_appends_at_once_one_is_refused() {
    let world = world("firstappend");
    for level in LEVELS {
        let appended = side_by_side(&world, 2, async |_, mut session| {
            query(&mut session, &format!("BEGIN ISOLATION LEVEL {level}")).await?;
            let append = format!("SELECT doorbell.append('{level}', -1, '{{x}}', '{{1}}')");
            let appended = query(&mut session, &append).await?;
            query(&mut session, "COMMIT").await?;
            Ok::<_, sqlx::Error>(appended[0].get::<i64, _>(0))
        });
        let (done, refused): (Vec<_>, Vec<_>) = appended.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1, "{level}: {refused:?}");
        let code = sqlstate(refused[0].as_ref().expect_err("one of the two"));
        // Where the second does not see what the first has committed, PostgreSQL says so.
        let is_serial = level != "READ COMMITTED";
        assert!(code == "DB409" || (is_serial && code == "40001"), "{code}");
    }
}

#[test]
fn two_streams_in_opposite_orders_deadlock_as_postgresql_says() {
    let world = world("opposite");
    let (mut one, mut two) = (world.connect(), world.connect());
    let append = |stream| format!("SELECT doorbell.append('{stream}', NULL, '{{x}}', '{{1}}')");
    for (session, stream) in [(&mut one, "a"), (&mut two, "b")] {
        world.sql_on(session, "BEGIN");
        world.sql_on(session, &append(stream));
    }
    let (on_b, on_a) = (append("b"), append("a"));
    let ends = world.block_on(async {
        let first = async {
            let end = query(&mut one, &on_b).await;
            query(&mut one, if end.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
            end
        };
        let second = async {
            let end = query(&mut two, &on_a).await;
            query(&mut two, if end.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
            end
        };
        tokio::join!(first, second)
    });
    let errors: Vec<String> = [ends.0, ends.1]
        .iter()
        .filter_map(|end| end.as_ref().err().map(sqlstate))
        .collect();
    assert_eq!(errors, ["40P01"]);
}

#[test]
fn one_append_takes_ten_thousand_events() {
    let mut world = world("manyevents");
    world.sql(
        "SELECT doorbell.append('big', -1, array_agg('t' || n ORDER BY n), array_agg(n::text ORDER BY n)) FROM generate_series(1, 10000) n",
    );
    let disordered = "SELECT count(*) FROM (SELECT headers->>'stream-version' AS version, row_number() OVER (ORDER BY id) AS n FROM outbox) o \
         WHERE version <> n::text";
    assert_eq!(world.number(disordered), 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox WHERE key = 'big' AND type = 't' || (headers->>'stream-version')"), 10_000);
}

#[test]
fn a_state_is_kept_and_a_payload_can_be_erased() {
    let mut world = world("snapshots");
    world.sql(
        "SELECT doorbell.append('s', -1, '{a,b,c}', '{1,2,3}', ARRAY['{\"h\": \"v\"}', NULL, NULL]::jsonb[])",
    );
    world.sql("SELECT doorbell.save_snapshot('s', 2, 'two')");
    world.sql("SELECT doorbell.save_snapshot('s', 1, 'one')");
    let kept = "SELECT version || ' ' || state FROM doorbell.load_snapshot('s')";
    assert_eq!(world.texts(kept), ["2 two"]);
    world.sql("UPDATE doorbell.event SET payload = NULL WHERE stream = 's' AND version = 3");
    let read = "SELECT version || type || coalesce(payload, '-') || coalesce(headers->>'h', '-') FROM doorbell.read_stream";
    assert_eq!(
        world.texts(&format!("{read}('s')")),
        ["1a1v", "2b2-", "3c--"]
    );
    assert_eq!(world.texts(&format!("{read}('s', 2, 1)")), ["2b2-"]);
}

#[test]
fn what_cannot_be_appended_has_its_sqlstate_and_writes_nothing() {
    let mut world = world("badappend");
    assert_refused(
        &world,
        &[
            ("SELECT doorbell.append('s', NULL, '{a,b}', '{1}')", "22023"),
            ("SELECT doorbell.append('s', NULL, '{}', '{}')", "22023"),
            (
                "SELECT doorbell.append('s', NULL, '{a}', '{1}', '{}')",
                "22023",
            ),
            ("SELECT doorbell.append('s', -2, '{a}', '{1}')", "22023"),
            ("SELECT doorbell.save_snapshot('s', 1, 'x')", "22023"),
            ("SELECT doorbell.append('s', 1, '{a}', '{1}')", "DB409"),
            (
                "SELECT doorbell.append('s', NULL, '{NULL}', '{1}')",
                "22004",
            ),
            ("SELECT doorbell.append('s', NULL, NULL, '{1}')", "22004"),
            ("SELECT doorbell.append('s', NULL, '{a}', NULL)", "22004"),
            ("SELECT doorbell.append(NULL, NULL, '{a}', '{1}')", "22004"),
            ("SELECT doorbell.create_event_store('pg_class')", "42P16"),
            ("SELECT doorbell.create_event_store('none')", "42P01"),
        ],
    );
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 0);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.stream"), 0);
}
