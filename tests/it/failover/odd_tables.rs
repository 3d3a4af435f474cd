//! Tables in which rows are hard to know or to delete, over an outage of the broker that outlasts
//! every time-out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::{Consumer, Instance, Relay, World, create_topic, eventually};

const OUTBOXES: [&str; 3] = ["twins", "kept", "cited"];

/// Of `twins` two rows each share an id; a trigger of `kept` keeps every fourth row for a while;
/// rows of another table reference some of `cited`.
fn set_up(world: &mut World) {
    world.sql(
        "CREATE SEQUENCE twin_ids; \
         CREATE TABLE twins (id bigint NOT NULL DEFAULT nextval('twin_ids') / 2, type text NOT NULL, payload text, \
             created_at timestamptz NOT NULL DEFAULT clock_timestamp(), key text, topic text, headers jsonb, \
             PRIMARY KEY (id, created_at)) PARTITION BY HASH (created_at); \
         CREATE TABLE twins_1 PARTITION OF twins FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE twins_2 PARTITION OF twins FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    );
    for table in OUTBOXES {
        world.migrate(&["--table", table]);
        create_topic(world, &topic(world, table), 3, &[]);
    }
    world.sql(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
             IF OLD.id % 4 = 0 AND clock_timestamp() < OLD.created_at + interval ''2 s'' THEN RETURN NULL; END IF; RETURN OLD; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keep(); \
         CREATE TABLE citation (row bigint NOT NULL REFERENCES cited)",
    );
}

fn topic(world: &World, table: &str) -> String {
    format!("{}.{table}", world.name())
}

/// Inserts rows of two transactions, of which the first to begin is the last to commit. Returns how
/// many rows each outbox got.
fn write(world: &mut World, late: &mut sqlx::PgConnection, round: usize) -> usize {
    const EACH: usize = 10;
    let insert = |who: &str| {
        let rows = format!(
            "(type, key, payload) SELECT 'x', (n % 5)::text, '{who} {round} ' || n FROM generate_series(1, {EACH}) n"
        );
        format!("INSERT INTO twins {rows}; INSERT INTO kept {rows}; INSERT INTO cited {rows}")
    };
    world.sql_on(late, &format!("BEGIN; {}", insert("late")));
    world.sql(&format!(
        "{}; DELETE FROM citation; INSERT INTO citation SELECT max(id) FROM cited",
        insert("early")
    ));
    world.sql_on(late, "COMMIT");
    2 * EACH
}

#[test]
#[ignore = "it takes a minute or more of both processors"]
fn rows_of_odd_tables_leave_soon_after_an_outage_that_outlasts_every_timeout() {
    let mut kafka = Instance::start("oddtables", &["kafka"]);
    let mut world = World::empty("oddtables", kafka.services());
    set_up(&mut world);
    let config = tempfile::NamedTempFile::new().expect("a file");
    let mut text = format!(
        "[relay]\nleader_timeout = '2s'\n[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"socket.timeout.ms\" = 2000\n\
         \"topic.metadata.propagation.max.ms\" = 1000\n",
        world.services.kafka_brokers
    );
    for table in OUTBOXES {
        text += &format!(
            "[[outbox]]\ntable = '{table}'\ntopic = '{}'\nsweep = '1h'\nin_flight_rows = 500\n",
            topic(&world, table)
        );
    }
    std::fs::write(config.path(), text).expect("room");
    let flags = ["--config", config.path().to_str().expect("a path")];
    let relays = [(); 2].map(|()| Relay::spawn(&world, &flags));
    eventually("each outbox has a leader", || {
        let leads = |relay: &Relay| relay.count_log("leading");
        (relays.iter().map(leads).sum::<usize>() >= OUTBOXES.len()).then_some(())
    });
    let mut late = world.connect();
    let (mut rounds, mut rows) = (0.., 0);
    let mut write_for = |world: &mut World, time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            rows += write(world, &mut late, rounds.next().expect("a number"));
        }
        rows
    };
    write_for(&mut world, Duration::from_secs(2));
    kafka.kill("kafka");
    // Far longer than leader_timeout and the producer's own.
    write_for(&mut world, Duration::from_secs(12));
    kafka.again();
    let rows = write_for(&mut world, Duration::from_secs(2));
    let back = Instant::now();
    world.sql("DELETE FROM citation");
    for table in OUTBOXES {
        world.await_number(&format!("SELECT count(*) FROM {table}"), 0);
        let mut consumer = Consumer::new(&world, &topic(&world, table));
        let texts: HashSet<&str> = consumer.drain().iter().map(|it| it.text()).collect();
        assert_eq!(texts.len(), rows, "{table}");
    }
    let took = back.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    for relay in relays {
        assert!(relay.stop().success());
    }
}
