//! Rows that Kafka has and that the table does not give away: they are sent once, named, and stop
//! no other.

use crate::support::{Checkup, Consumer, Relay, World, create_topic, eventually, metrics};

const SOFT_DELETE: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.type = ''kept'' \
     THEN RETURN NULL; END IF; RETURN OLD; END'; CREATE TRIGGER keep BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep()";

/// What the log says of rows that a delete left, once.
const KEPT: &str = "the table keeps acknowledged rows";

#[test]
fn rows_that_a_trigger_keeps_are_sent_once_and_named() {
    let mut world = World::new("softdelete");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(SOFT_DELETE);
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'kept', n::text FROM generate_series(1, 11) n",
    );
    let relay = Relay::leading(&world, &["--listen", "127.0.0.1:0"]);
    relay.await_log(KEPT);
    let mut consumer = Consumer::new(&world, &world.topic);
    consumer.await_records(11);
    // Each falling asleep is followed by a look over the whole table.
    for _ in 0..3 {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('good', 'good')");
        world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
        world.await_asleep();
    }
    assert_eq!(consumer.drain().len(), 14);
    relay.assert_logged(KEPT, 1);
    let checkup = Checkup::of(&world, &[]);
    checkup.finds("warning", "rows-kept", &["11 rows"]);
    checkup.finds("warning", "deletes-kept", &["keep on public.outbox"]);
    let status = world.doorbell(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("11 rows stay in the table although Kafka has them"),
        "{status}"
    );
    // Sessions of one process are told from others by a word, also while the leader's says more.
    let words = "SELECT count(DISTINCT split_part(application_name, ' ', 2)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name ~ '^doorbell [^ ]+ (leader|key|reader|bell) '";
    assert_eq!(world.number(words), 1);
    let metrics = metrics(&relay);
    assert!(
        metrics.contains("doorbell_kept_rows{outbox=\"outbox\"} 11"),
        "{metrics}"
    );
    world.sql("DROP TRIGGER keep ON outbox");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 14);
    assert!(relay.stop().success());
}

#[test]
fn a_row_that_a_foreign_key_holds_stops_no_other() {
    let mut world = World::new("foreignkey");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("CREATE TABLE audit (row bigint REFERENCES outbox)");
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 20000) n",
    );
    world.sql("INSERT INTO audit VALUES (777), (12345)");
    let relay = Relay::leading(&world, &[]);
    world.await_number("SELECT count(*) FROM outbox", 2);
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.drain().len(), 20_000);
    relay.await_log("777");
    world.sql("DELETE FROM audit");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 20_000);
    assert!(relay.stop().success());
}

#[test]
fn rows_that_are_freed_go_though_others_are_kept_all_the_time() {
    let mut world = World::new("freed");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE TABLE audit (row bigint REFERENCES outbox); CREATE TABLE freed (row bigint); \
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.type = ''kept'' AND NOT EXISTS \
         (SELECT FROM public.freed WHERE row = OLD.id) THEN RETURN NULL; END IF; RETURN OLD; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    // More than are singled out at once, and one behind them.
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 50) n; \
         INSERT INTO audit SELECT generate_series(1, 49)",
    );
    let relay = Relay::leading(&world, &[]);
    world.await_number("SELECT count(*) FROM outbox", 49);
    world.sql("DELETE FROM audit WHERE row = 49");
    world.await_number("SELECT count(*) FROM outbox WHERE id = 49", 0);
    world.sql("DELETE FROM audit");
    world.await_empty();
    world.sql("INSERT INTO outbox (type) VALUES ('kept')");
    relay.await_log(KEPT);
    world.sql("INSERT INTO freed SELECT id FROM outbox");
    eventually("the freed row is gone", || {
        world.sql("INSERT INTO outbox (type) VALUES ('kept')");
        std::thread::sleep(std::time::Duration::from_millis(200));
        (world.number("SELECT count(*) FROM outbox JOIN freed ON id = row") == 0).then_some(())
    });
    world.sql("DROP TRIGGER keep ON outbox");
    world.await_empty();
    assert!(relay.stop().success());
}

/// Raises for some rows, as PL/pgSQL, with an SQLSTATE of its own, for a missing table, and for a
/// missing privilege.
const RAISING: &str = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF OLD.id = 50 THEN RAISE 'not this one'; END IF; IF OLD.id = 60 THEN RAISE 'nor this' USING ERRCODE = 'DB001'; END IF; \
     IF OLD.id = 70 THEN PERFORM FROM no_such_table; END IF; IF OLD.id = 80 THEN RAISE insufficient_privilege; END IF; \
     RETURN OLD; END $$; CREATE TRIGGER no BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION no()";

#[test]
fn a_trigger_that_raises_for_one_row_stops_no_other() {
    let mut world = World::new("raises");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(RAISING);
    let relay = Relay::leading(&world, &[]);
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 100) n",
    );
    world.await_number("SELECT count(*) FROM outbox", 4);
    relay.await_log("not this one");
    // The next relay sends the rows again: the exit code says that some were not settled.
    assert_eq!(relay.stop().code(), Some(1));
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 100);
}

#[test]
fn a_row_for_a_missing_topic_leaves_the_others_their_speed() {
    let mut world = World::new("missingtopic");
    create_topic(&world, &world.topic, 1, &[]);
    let config = tempfile::NamedTempFile::new().expect("a file");
    // The producer waits for the topic as long as the test takes.
    let text = format!(
        "[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"allow.auto.create.topics\" = false\n\
         \"topic.metadata.propagation.max.ms\" = 600000\n[[outbox]]\nsweep = '1h'\nin_flight_rows = 2000\ntopic = '{}'\n",
        world.services.kafka_brokers, world.topic
    );
    std::fs::write(config.path(), text).expect("room");
    world.sql(
        "INSERT INTO outbox (type, payload, topic) VALUES ('x', 'waits', 'no.such.topic'); \
         INSERT INTO outbox (type, payload) SELECT 'x', 'good' FROM generate_series(1, 30000)",
    );
    let relay = Relay::leading(
        &world,
        &["--config", config.path().to_str().expect("a path")],
    );
    world.await_number("SELECT count(*) FROM outbox WHERE payload = 'good'", 0);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    relay.kill();
}

#[test]
fn a_row_that_stays_is_sent_once_in_the_mode_exactly_once_also_after_a_kill() {
    let mut world = World::new("oncekept");
    create_topic(&world, &world.topic, 1, &[]);
    let receipts = world.topic.replace("outbox", "receipts");
    world.will_delete(&receipts);
    let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
    world.sql("CREATE TABLE audit (row bigint REFERENCES outbox)");
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 100) n; \
         INSERT INTO audit VALUES (50)",
    );
    let relay = Relay::leading(&world, &flags);
    world.await_number("SELECT count(*) FROM outbox", 1);
    relay.kill();
    let relay = Relay::leading(&world, &flags);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'next')");
    world.await_number("SELECT count(*) FROM outbox", 1);
    world.sql("DELETE FROM audit");
    world.await_empty();
    let mut consumer = Consumer::committed(&world, &world.topic);
    assert_eq!(consumer.drain().len(), 101);
    assert!(relay.stop().success());
}

const LOCKED: &str = "acknowledged rows are locked by another session";

#[test]
fn locked_rows_are_bounded_and_not_sent_again_over_a_pause() {
    let mut world = World::new("locked");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 20000) n",
    );
    let mut user = world.connect();
    world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
    let flags = ["--listen", "127.0.0.1:0", "--in-flight-rows", "1000"];
    let relay = Relay::leading(&world, &flags);
    relay.await_log(LOCKED);
    let in_flight = || {
        let metrics = metrics(&relay);
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("doorbell_in_flight_rows{outbox=\"outbox\"} "));
        line.map(|text| text.parse::<f64>().expect("a number"))
    };
    eventually("the window is full", || {
        in_flight().filter(|rows| *rows > 750.0)
    });
    let mut consumer = Consumer::new(&world, &world.topic);
    for command in ["pause", "resume"] {
        assert!(world.doorbell(&[command]).status.success());
        let word = if command == "pause" {
            "paused: no row"
        } else {
            "resumed"
        };
        relay.await_log(word);
    }
    eventually("the term after the pause reports its rows", in_flight);
    assert!(in_flight().is_some_and(|rows| rows <= 1_000.0));
    let sent = consumer.drain().len();
    assert!(sent <= 1_000, "{sent}");
    world.sql_on(&mut user, "COMMIT");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 20_000, "each once");
    assert!(relay.stop().success());
}

#[test]
fn rows_that_a_rule_keeps_are_sent_once_and_named() {
    let mut world = World::new("ruled");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("CREATE RULE keep AS ON DELETE TO outbox WHERE OLD.type = 'kept' DO INSTEAD NOTHING");
    world.sql(
        "INSERT INTO outbox (type, payload) SELECT CASE WHEN n % 100 = 7 THEN 'kept' ELSE 'good' END, n::text FROM generate_series(1, 1000) n",
    );
    let relay = Relay::leading(&world, &[]);
    relay.await_log(KEPT);
    for _ in 0..2 {
        world.sql("INSERT INTO outbox (type, payload) VALUES ('good', 'more')");
        world.await_number("SELECT count(*) FROM outbox", 10);
        world.await_asleep();
    }
    let mut consumer = Consumer::new(&world, &world.topic);
    assert_eq!(consumer.drain().len(), 1_002);
    relay.assert_logged(KEPT, 1);
    world.sql("DROP RULE keep ON outbox");
    world.await_empty();
    assert_eq!(consumer.drain().len(), 1_002);
    assert!(relay.stop().success());
}

#[test]
fn rows_that_a_rule_changes_instead_are_sent_once_and_stop_no_other() {
    for (test, is_once) in [("marked", false), ("markedonce", true)] {
        let mut world = World::new(test);
        create_topic(&world, &world.topic, 1, &[]);
        let receipts = world.topic.replace("outbox", "receipts");
        world.will_delete(&receipts);
        let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
        // PostgreSQL refuses WITH where such a rule applies.
        world.sql(
            "ALTER TABLE outbox ADD gone boolean; CREATE RULE mark AS ON DELETE TO outbox WHERE OLD.type = 'kept' \
             DO INSTEAD UPDATE outbox SET gone = true WHERE id = OLD.id; \
             INSERT INTO outbox (type, payload) SELECT CASE WHEN n % 100 = 7 THEN 'kept' ELSE 'good' END, n::text FROM generate_series(1, 1000) n",
        );
        let relay = Relay::leading(&world, if is_once { &flags } else { &[] });
        relay.await_log(KEPT);
        world.await_number("SELECT count(*) FROM outbox WHERE gone", 10);
        for _ in 0..2 {
            world.sql("INSERT INTO outbox (type, payload) VALUES ('good', 'more')");
            world.await_number("SELECT count(*) FROM outbox", 10);
        }
        let mut consumer = Consumer::committed(&world, &world.topic);
        assert_eq!(consumer.drain().len(), 1_002);
        relay.assert_logged("acknowledged rows cannot be deleted", 0);
        Checkup::of(&world, &[]).finds("warning", "rules", &["mark"]);
        world.sql("DROP RULE mark ON outbox");
        world.await_empty();
        assert_eq!(consumer.drain().len(), 1_002);
        assert!(relay.stop().success());
    }
}

#[test]
fn locked_rows_are_not_sent_again_by_the_next_terms() {
    for (test, is_once) in [("nextterm", false), ("nexttermonce", true)] {
        let mut world = World::new(test);
        create_topic(&world, &world.topic, 1, &[]);
        let small = format!("{}.small", world.topic);
        create_topic(&world, &small, 1, &[("max.message.bytes", "5000")]);
        let receipts = world.topic.replace("outbox", "receipts");
        world.will_delete(&receipts);
        let flags = ["--delivery", "exactly-once", "--receipts", &receipts];
        world.sql(
            "INSERT INTO outbox (type, payload) SELECT 'x', n::text FROM generate_series(1, 3) n",
        );
        let mut user = world.connect();
        world.sql_on(&mut user, "BEGIN; SELECT FROM outbox FOR UPDATE");
        let relay = Relay::leading(&world, if is_once { &flags } else { &[] });
        relay.await_log(LOCKED);
        // A topic with a smaller limit ends the term, and so does a pause.
        let to_small = format!("INSERT INTO outbox (type, topic) VALUES ('x', '{small}')");
        world.sql(&to_small);
        relay.await_log("smaller batches");
        world.await_number("SELECT count(*) FROM outbox", 3);
        for (command, word) in [("pause", "paused: no row"), ("resume", "resumed")] {
            assert!(world.doorbell(&[command]).status.success());
            relay.await_log(word);
        }
        world.sql(&to_small);
        world.await_number("SELECT count(*) FROM outbox", 3);
        world.sql_on(&mut user, "COMMIT");
        world.await_empty();
        for (topic, rows) in [(&world.topic, 3), (&small, 2)] {
            let mut consumer = match is_once {
                true => Consumer::committed(&world, topic),
                false => Consumer::new(&world, topic),
            };
            assert_eq!(consumer.drain().len(), rows, "{test}");
        }
        assert!(relay.stop().success());
    }
}

#[test]
fn rows_whose_time_a_trigger_changes_at_their_delete_are_sent_twice_at_most() {
    for (test, is_once) in [("touched", false), ("touchedonce", true)] {
        let mut world = World::new(test);
        create_topic(&world, &world.topic, 1, &[]);
        let receipts = world.topic.replace("outbox", "receipts");
        world.will_delete(&receipts);
        let mut flags = vec!["--sweep", "300ms"];
        if is_once {
            flags.extend(["--delivery", "exactly-once", "--receipts", &receipts]);
        }
        world.sql(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.type = 'good' THEN RETURN OLD; END IF; \
             UPDATE public.outbox SET created_at = clock_timestamp() WHERE id = OLD.id; RETURN NULL; END $$; \
             CREATE TRIGGER touch BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION touch(); \
             INSERT INTO outbox (type, payload) SELECT 'touched', n::text FROM generate_series(1, 5) n; \
             INSERT INTO outbox (type, payload) SELECT 'good', n::text FROM generate_series(1, 50) n",
        );
        let relay = Relay::leading(&world, &flags);
        relay.await_log("others deleted or changed rows");
        relay.await_log("a trigger changes created_at");
        let swept = relay.count_log("swept rows=");
        for round in 1..=10 {
            world.sql("INSERT INTO outbox (type, payload) VALUES ('good', 'more')");
            relay.await_log_times("swept rows=", swept + round);
        }
        world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
        assert_eq!(world.number("SELECT count(*) FROM outbox"), 5);
        world.sql("DROP TRIGGER touch ON outbox");
        world.await_empty();
        let mut consumer = match is_once {
            true => Consumer::committed(&world, &world.topic),
            false => Consumer::new(&world, &world.topic),
        };
        let received = consumer.drain().iter().map(|it| it.header("type"));
        let (good, touched): (Vec<_>, Vec<_>) = received.partition(|it| *it == "good");
        assert_eq!(good.len(), 60, "{test}");
        assert!((5..=10).contains(&touched.len()), "{test}: {touched:?}");
        assert!(relay.stop().success());
    }
}
