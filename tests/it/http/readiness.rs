//! Each state of readiness, caused on purpose and read from /readyz.

use std::time::Duration;

use crate::support::{
    Answer, Instance, Proxy, Relay, World, create_topic, eventually, get, metrics, within,
};

/// Any free port, and short time limits.
const ANY: &[&str] = &["--listen", "127.0.0.1:0", "--stuck-after", "1s"];

/// Waits until /readyz answers this.
#[track_caller]
fn await_readiness(relay: &Relay, code: u16, words: &[&str]) -> Answer {
    let mut last = None;
    eventually(&format!("{code} {words:?}"), || {
        let answer = get(relay, "/readyz");
        let says = words.iter().all(|word| answer.body.contains(word));
        let is_it = answer.code == code && says;
        if last.as_ref() != Some(&answer.body) {
            eprintln!("{} {}", answer.code, answer.body);
            last = Some(answer.body.clone());
        }
        is_it.then_some(answer)
    })
}

/// Waits until the relay reports this problem, by the name that `/status.json` has for it.
#[track_caller]
fn await_ailment(relay: &Relay, ailment: &str) {
    eventually(ailment, || {
        let status: serde_json::Value =
            serde_json::from_str(&get(relay, "/status.json").body).expect("JSON");
        let troubles = status["outboxes"][0]["troubles"].as_array()?;
        troubles
            .iter()
            .any(|it| it["ailment"] == ailment)
            .then_some(())
    });
}

#[test]
fn a_relay_that_is_not_answered_is_starting() {
    let world = World::new("starting");
    // Accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let url = format!("postgres://u@127.0.0.1:{port}/x");
    let relay = Relay::spawn(&world, &[ANY, &["--database-url", &url]].concat());
    await_readiness(&relay, 503, &["not ready", "starting (for 0s)"]);
}

#[test]
fn a_relay_that_cannot_begin_is_not_ready_and_says_why() {
    let world = World::new("unready");
    create_topic(&world, &world.topic, 1, &[]);
    let nowhere = ["--database-url", "postgres://u@127.0.0.1:1/x"];
    let relay = Relay::spawn(&world, &[ANY, &nowhere].concat());
    await_readiness(&relay, 503, &["not ready", "127.0.0.1:1", "unreachable"]);
    await_ailment(&relay, "start");
    assert_eq!(get(&relay, "/healthz").code, 200, "the process is well");
    let relay = Relay::spawn(&world, &[ANY, &["--kafka-brokers", "127.0.0.1:1"]].concat());
    await_readiness(&relay, 503, &["Kafka at 127.0.0.1:1 does not answer"]);
}

#[test]
fn leader_and_standby_are_ready_and_a_pause_a_stranger_and_a_lost_table_are_not() {
    let mut world = World::new("ready");
    create_topic(&world, &world.topic, 1, &[]);
    let leader = Relay::leading(&world, ANY);
    await_readiness(&leader, 200, &["outbox: ready: leading for"]);
    let standby = Relay::spawn(&world, ANY);
    await_readiness(
        &standby,
        200,
        &["outbox: ready: standby", "another relay leads"],
    );

    world.doorbell(&["pause", "--by", "ann", "--reason", "the broker moves"]);
    await_readiness(
        &leader,
        503,
        &["paused by ann: the broker moves", "doorbell resume"],
    );
    await_ailment(&leader, "pause");
    world.doorbell(&["resume"]);
    await_readiness(&leader, 200, &["leading"]);

    world.sql("BEGIN; INSERT INTO outbox (type, payload) VALUES ('x', '1'); ALTER TABLE outbox RENAME TO away; COMMIT");
    await_readiness(&leader, 503, &["does not exist"]);
    world.sql("ALTER TABLE away RENAME TO outbox");
    world.await_empty();
    eventually("one of them leads again", || {
        let leads = |relay: &Relay| get(relay, "/readyz").body.contains("ready: leading");
        (leads(&leader) || leads(&standby)).then_some(())
    });
    assert!(leader.stop().success());
    await_readiness(&standby, 200, &["leading"]);
    assert!(standby.stop().success());

    let mut stranger = world.connect();
    let lock = format!(
        "SELECT pg_advisory_lock({}, 'outbox'::regclass::oid::int4)",
        0x646f_6f72
    );
    world.sql_on(&mut stranger, &lock);
    let relay = Relay::spawn(&world, ANY);
    await_readiness(
        &relay,
        503,
        &["the leader lock is held by a session that is not a relay"],
    );
    await_ailment(&relay, "stranger");
    world.sql_on(&mut stranger, "SELECT pg_advisory_unlock_all()");
    await_readiness(&relay, 200, &["leading"]);
    assert!(relay.stop().success());
    world.sql_on(
        &mut stranger,
        "BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE",
    );
    let relay = Relay::spawn(&world, ANY);
    await_ailment(&relay, "locked");
    world.sql_on(&mut stranger, "ROLLBACK");
    await_readiness(&relay, 200, &["leading"]);
}

#[test]
fn kafka_that_is_silent_makes_the_pipe_stuck_and_kafka_that_goes_away_is_said_at_once() {
    let mut kafka = Instance::start("readiness", &["kafka"]);
    let mut world = World::on("readiness", kafka.services());
    create_topic(&world, &world.topic, 1, &[]);
    let proxy = Proxy::start(
        kafka.variable("KAFKA_PROXIES"),
        kafka.variable("KAFKA_PROXIED"),
    );
    let address = proxy.address().to_string();
    let flags = [
        "--kafka-brokers",
        &address,
        "--in-flight-rows",
        "10",
        "--sweep",
        "300ms",
    ];
    let relay = Relay::leading(&world, &[ANY, &flags].concat());
    await_readiness(&relay, 200, &["leading"]);

    proxy.stall();
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 40)");
    await_readiness(
        &relay,
        503,
        &["stuck: 10 rows wait for Kafka, and none was acknowledged for"],
    );
    // Counted although nothing can be fetched: ten in flight, and those behind them.
    let backlog = eventually("the rows behind are counted", || {
        let status: serde_json::Value =
            serde_json::from_str(&get(&relay, "/status.json").body).expect("JSON");
        let backlog = status["outboxes"][0]["backlog"].clone();
        (backlog["rows"] == 40).then_some(backlog)
    });
    assert_eq!(backlog["is_more"], false);
    assert!(
        backlog["oldest_seconds"]
            .as_f64()
            .is_some_and(|it| it >= 1.0),
        "{backlog}"
    );
    world.sql("INSERT INTO outbox (type, payload) SELECT 'x', 'x' FROM generate_series(1, 5)");
    eventually("they are counted again when a sweep is due", || {
        let body = metrics(&relay);
        body.contains("doorbell_backlog_rows{outbox=\"outbox\"} 45.0\n")
            .then_some(())
    });
    proxy.pass();
    world.await_empty();
    await_readiness(&relay, 200, &["leading"]);

    // No row tells the relay anything: there is none, neither now nor when the server returns.
    kafka.kill("kafka");
    await_readiness(
        &relay,
        503,
        &[
            "Kafka is unreachable",
            "; rows wait in the table. Is a broker down, its disk full, or the network cut? `doorbell check` looks further",
        ],
    );
    kafka.again();
    await_readiness(&relay, 200, &["leading"]);
}

#[test]
fn deletes_that_fail_and_a_table_that_nobody_may_read_make_the_pipe_stuck() {
    let mut world = World::new("stucktable");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
         CREATE TRIGGER no BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let relay = Relay::leading(&world, &[ANY, &["--sweep", "300ms"]].concat());
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '1')");
    let answer = await_readiness(
        &relay,
        503,
        &["stuck: 1 acknowledged row waits to be deleted, and none was for "],
    );
    await_ailment(&relay, "delete");
    assert!(
        answer
            .body
            .contains("warning: acknowledged rows cannot be deleted: PostgreSQL: not now"),
        "{answer:?}"
    );
    world.sql("DROP TRIGGER no ON outbox");
    world.await_empty();
    eventually("it is ready, and the warning is over", || {
        let answer = get(&relay, "/readyz");
        (answer.code == 200 && !answer.body.contains("warning")).then_some(())
    });

    world.await_asleep();
    let mut user = world.connect();
    world.sql_on(&mut user, "BEGIN; LOCK TABLE outbox");
    await_readiness(
        &relay,
        503,
        &["stuck: no look into the table has ended for"],
    );
    world.sql_on(&mut user, "ROLLBACK");
    await_readiness(&relay, 200, &["leading"]);
}

#[test]
fn what_only_delays_rows_is_a_warning() {
    let mut world = World::new("warned");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql("ALTER TABLE outbox DISABLE TRIGGER doorbell_ring");
    let relay = Relay::leading(&world, &[ANY, &["--sweep", "300ms"]].concat());
    await_readiness(
        &relay,
        200,
        &["warning: the trigger doorbell_ring is disabled"],
    );
    await_ailment(&relay, "trigger");
    let swept = "the sweep found rows without a notification";
    // A relay that is awake reads rows without the trigger.
    eventually("a row waits for the sweep", || {
        world.await_asleep();
        world.sql("INSERT INTO outbox (type, payload) VALUES ('x', '1')");
        world.await_empty();
        within(Duration::from_secs(10), || {
            (relay.count_log(swept) > 0).then_some(())
        })
    });
    await_ailment(&relay, "unannounced");
    // The next sweep that finds no such row clears it.
    eventually("the warning is over", || {
        let body = get(&relay, "/readyz").body;
        (!body.contains(swept)).then_some(())
    });
    let body = metrics(&relay);
    assert!(
        body.contains("doorbell_rows_swept_total{outbox=\"outbox\"} 1\n"),
        "{body}"
    );
    assert!(relay.stop().success());
}

#[test]
fn refused_rows_that_cannot_be_parked_and_keys_that_wait_are_warnings() {
    let mut world = World::new("heldwarned");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
         CREATE TRIGGER no BEFORE INSERT ON doorbell.dead FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let bad = "INSERT INTO outbox (type, key, headers) VALUES ('t', 'k', '[]')";
    let relay = Relay::leading(&world, ANY);
    world.sql(bad);
    await_readiness(&relay, 200, &["warning: ", "not now"]);
    await_ailment(&relay, "park");
    world.sql("DROP TRIGGER no ON doorbell.dead");
    world.await_empty();
    eventually("the warning is over", || {
        let body = get(&relay, "/readyz").body;
        (!body.contains("not now")).then_some(())
    });
    assert!(relay.stop().success());

    let relay = Relay::leading(&world, &[ANY, &["--poison", "hold-key"]].concat());
    world.sql(bad);
    let waits =
        "1 key waits behind a row that Kafka cannot take; `doorbell held list` names rows and keys";
    await_readiness(&relay, 200, &["warning: ", waits]);
    world.sql("DELETE FROM outbox");
    eventually("no key waits", || {
        let body = get(&relay, "/readyz").body;
        (!body.contains(waits)).then_some(())
    });
    assert!(relay.stop().success());
}
