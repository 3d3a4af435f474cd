//! Leaders that are killed, frozen, or lead too many outboxes: who takes over, and what the former
//! leader does.

use crate::support::{
    Checkup, Consumer, Load, Received, Relay, Roles, Services, Transaction, World, create_topic,
    eventually,
};

/// Standbys take a leader for frozen after this time; a live one shows activity twice as often.
const TIMEOUT: &[&str] = &["--leader-timeout", "4s"];
const FROZEN: &str = "leader unresponsive for leader_timeout";
const LOST: &str = "a session with PostgreSQL was lost";

fn leader_and_standby(world: &World) -> (Relay, Relay) {
    let leader = Relay::leading(world, TIMEOUT);
    let standby = Relay::spawn(world, TIMEOUT);
    standby.await_log("standby");
    (leader, standby)
}

/// Sessions of the relay that the server knows.
fn sessions(relay: &Relay) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'doorbell % {}'",
        relay.pid()
    )
}

#[test]
fn three_relays_share_one_key_without_doubles() {
    let mut world = World::new("three");
    create_topic(&world, &world.topic, 3, &[]);
    let relays: Vec<_> = (0..3).map(|_| Relay::spawn(&world, &[])).collect();
    let count = |text: &str| -> usize { relays.iter().map(|it| it.count_log(text)).sum() };
    eventually("one leads and two stand by", || {
        (count("leading") == 1 && count("standby") == 2).then_some(())
    });
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 'x', 'k', g::text FROM generate_series(1, 1000) g",
    );
    world.await_empty();
    let mut consumer = Consumer::new(&world, &world.topic);
    let arrived: Vec<_> = consumer.drain().iter().map(|it| it.seq()).collect();
    assert_eq!(arrived, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(count("leading"), 1);
}

#[test]
fn a_leader_that_is_frozen_under_load_is_replaced_and_steps_down_when_it_thaws() {
    let mut world = World::new("frozen");
    create_topic(&world, &world.topic, 3, &[]);
    let (first, second) = leader_and_standby(&world);
    let load = Load::start(&world);
    load.await_rows(500);
    first.freeze();
    second.await_log(FROZEN);
    second.await_log("leading");
    world.await_number(&sessions(&first), 0);
    load.await_rows(500);
    first.thaw();
    first.await_log(LOST);
    first.await_log("standby");
    load.await_rows(500);
    assert!(second.stop().success());
    first.await_log_times("leading", 2);
    load.await_rows(500);
    let written = load.stop();
    world.await_empty();
    // At most, what the frozen relay had in flight is sent again.
    let duplicates = written.check(Consumer::new(&world, &world.topic).drain());
    assert!(duplicates <= 20_000, "{duplicates}");
    assert!(first.stop().success());
}

#[test]
fn a_leader_that_is_frozen_asleep_is_replaced_and_one_that_lives_is_not() {
    let mut world = World::new("asleep");
    create_topic(&world, &world.topic, 1, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    let (first, second) = leader_and_standby(&world);
    world.await_asleep();
    // Idle for twice the timeout, it has shown activity and is left alone.
    world.sql("CREATE TABLE moment AS SELECT clock_timestamp() AS at");
    world.await_number(
        &format!(
            "SELECT count(*) FROM pg_stat_activity, moment WHERE application_name LIKE 'doorbell % leader {}' AND state_change > at + interval '8 s'",
            first.pid()
        ),
        1,
    );
    assert_eq!(second.count_log(FROZEN), 0, "{:#?}", second.log());

    first.freeze();
    let insert = "INSERT INTO outbox (type, payload) VALUES ('x', ";
    world.sql(&format!("{insert}'rung for a frozen relay')"));
    assert_eq!(
        consumer.await_records(1)[0].text(),
        "rung for a frozen relay"
    );
    second.await_log("leading");
    second.assert_logged(FROZEN, 1);
    // The frozen relay held the wake lock: the new leader can sleep, and hears the bell.
    world.await_number(&sessions(&first), 0);
    world.await_asleep();
    world.sql(&format!("{insert}'rung for the new leader')"));
    assert_eq!(
        consumer.await_records(2)[1].text(),
        "rung for the new leader"
    );
    first.thaw();
    first.await_log("standby");
    first.assert_logged("leading", 1);
    world.await_empty();
    assert_eq!(consumer.drain().len(), 2);
}

#[test]
fn a_transaction_that_a_leader_left_open_does_not_hold_its_successor_up() {
    let mut world = World::new("left_open");
    create_topic(&world, &world.topic, 1, &[]);
    let receipts = world.topic.replace("outbox", "receipts");
    world.will_delete(&receipts);
    let mode = ["--delivery", "exactly-once", "--receipts", &receipts];
    let flags = [&mode[..], &["--transactional-id", &world.topic]].concat();
    let leader = Relay::leading(&world, &flags);
    let standby = Relay::spawn(&world, &flags);
    standby.await_log("standby");
    // As with a leader that is killed in the middle of a transaction.
    leader.freeze();
    let records = [Received::of("open")];
    let open = Transaction::begin(&world, &world.topic, &world.topic, &records);
    leader.kill();
    standby.await_log("this producer cannot begin at once: the next one tries");
    standby.await_log("leading");
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', 'after it')");
    world.await_empty();
    let mut consumer = Consumer::committed(&world, &world.topic);
    let arrived = consumer.drain();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].text(), "after it");
    assert_eq!(standby.count_log("fenced this one"), 0);
    assert!(standby.stop().success());
    drop(open);
}

/// A configuration file of six outboxes, and how many of them a relay leads.
fn six(world: &World) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let outbox = |number| {
        let topic = world.topic.replace("outbox", "o");
        format!("[[outbox]]\ntable = \"o{number}\"\ntopic = \"{topic}{number}\"\nsweep = \"1h\"\n")
    };
    let text: String = (1..=6).map(outbox).collect();
    std::fs::write(file.path(), text).expect("a file");
    file
}

fn leads(relay: &Relay) -> String {
    locks(relay, "l.granted")
}

/// The log says `standby` a moment before the session waits.
fn waits(relay: &Relay) -> String {
    locks(relay, "NOT l.granted")
}

fn locks(relay: &Relay, which: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.classid = 1685024626 AND {which} \
         AND a.datname = current_database() AND a.application_name LIKE 'doorbell % leader {}'",
        relay.pid()
    )
}

#[test]
fn six_outboxes_are_spread_over_three_processes_and_again_when_one_is_killed() {
    let mut world = World::empty("spread", Services::shared().clone());
    let file = six(&world);
    let config = ["--config", file.path().to_str().expect("a path")];
    world.migrate(&config);
    // All outboxes become free at the same moment, and all three processes compete.
    let mut by_hand = world.connect();
    world.sql_on(
        &mut by_hand,
        "SELECT pg_advisory_lock(1685024626, ('o' || n)::regclass::oid::int) FROM generate_series(1, 6) n",
    );
    let spawn = |world: &mut World| {
        let relay = Relay::spawn(world, &config);
        world.await_number(&waits(&relay), 6);
        relay
    };
    let (first, second, third) = (spawn(&mut world), spawn(&mut world), spawn(&mut world));
    world.sql_on(&mut by_hand, "SELECT pg_advisory_unlock_all()");
    for relay in [&first, &second, &third] {
        relay.await_log_times("leading", 2);
        world.await_number(&leads(relay), 2);
    }
    first.kill();
    world.await_number(&leads(&second), 3);
    world.await_number(&leads(&third), 3);
    // It takes no outbox from another relay, and is the first to be given one.
    let again = spawn(&mut world);
    third.kill();
    again.await_log_times("leading", 3);
    world.await_number(&leads(&again), 3);
    world.await_number(&leads(&second), 3);
    assert!(second.stop().success());
    again.await_log_times("leading", 6);
    assert!(again.stop().success());
}

#[test]
fn processes_that_start_together_share_the_outboxes() {
    let world = World::empty("together", Services::shared().clone());
    let file = six(&world);
    let config = ["--config", file.path().to_str().expect("a path")];
    world.migrate(&config);
    let relays: Vec<_> = (0..3).map(|_| Relay::spawn(&world, &config)).collect();
    let leading = |relay: &Relay| relay.count_log("leading");
    eventually("all are led", || {
        (relays.iter().map(leading).sum::<usize>() == 6).then_some(())
    });
    // A busy machine may delay some of the starts, but no relay may take all.
    let most = relays.iter().map(leading).max();
    assert!(most < Some(6), "{most:?}");
}

#[test]
fn a_frozen_leader_is_replaced_also_where_its_role_takes_another() {
    let mut world = World::new("takenrole");
    create_topic(&world, &world.topic, 1, &[]);
    let roles = Roles::new(&mut world);
    let login = format!("{}_login", world.name());
    world.sql(&format!(
        "CREATE ROLE {login} LOGIN IN ROLE {relay}; ALTER ROLE {login} SET role = {relay}",
        relay = roles.relay
    ));
    let url = world.url_as(&login);
    let flags = ["--database-url", &url, "--leader-timeout", "2s"];
    let first = Relay::leading(&world, &flags);
    let second = Relay::spawn(&world, &flags);
    second.await_log("standby");
    Checkup::of(&world, &flags[..2]).lacks(&["frozen-takeover"]);
    first.freeze();
    second.await_log("leader unresponsive for leader_timeout");
    second.await_log("leading");
    first.thaw();
    world.sql("INSERT INTO outbox (type) VALUES ('x')");
    world.await_empty();
    assert!(first.stop().success());
    assert!(second.stop().success());
    world.sql(&format!("DROP ROLE {login}"));
    roles.drop(&mut world);
}

#[test]
fn a_leader_that_is_busy_in_one_long_statement_is_not_deposed() {
    let mut world = World::new("busyleader");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(6); RETURN NULL; END'; \
         CREATE TRIGGER slow BEFORE DELETE ON outbox EXECUTE FUNCTION slow()",
    );
    let flags = ["--leader-timeout", "2s"];
    let first = Relay::leading(&world, &flags);
    let second = Relay::spawn(&world, &flags);
    second.await_log("standby");
    world.sql("INSERT INTO outbox (type) VALUES ('x')");
    world.await_empty();
    assert_eq!(second.count_log(FROZEN), 0);
    assert_eq!(first.count_log(LOST), 0);
    world.sql("DROP TRIGGER slow ON outbox");
    assert!(second.stop().success());
    assert!(first.stop().success());
}
