//! Topics that take no record: their rows wait or are refused, and all others keep their speed.

use crate::support::{
    Consumer, Guarded, On, Received, Relay, Right, World, create_topic, eventually, metrics,
};

/// A relay whose producer creates no topics and waits for one so many milliseconds.
fn configured(world: &World, patience: u32, more: &str) -> (tempfile::NamedTempFile, Relay) {
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[kafka]\nbrokers = '{}'\n[kafka.properties]\n\"allow.auto.create.topics\" = false\n\
         \"topic.metadata.propagation.max.ms\" = {patience}\n[[outbox]]\nsweep = '1h'\ntopic = '{}'\n{more}",
        world.services.kafka_brokers, world.topic
    );
    std::fs::write(config.path(), text).expect("room");
    let path = config.path().to_str().expect("a path").to_owned();
    let flags = ["--config", &path, "--listen", "127.0.0.1:0"];
    (config, Relay::leading(world, &flags))
}

fn once(world: &World) -> String {
    let receipts = world.topic.replace("outbox", "receipts");
    world.will_delete(&receipts);
    format!("delivery = 'exactly-once'\nreceipts = '{receipts}'\n")
}

fn texts(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .map(Received::text)
        .map(Into::into)
        .collect()
}

/// Rows for topics that do not exist, among 20,000 that can go.
fn missing(test: &str, is_once: bool) {
    let mut world = World::new(test);
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 'bad', n::text, repeat('x', 100000), 'no.such.topic.' || n % 20 FROM generate_series(1, 40) n; \
         INSERT INTO outbox (type, key, payload) SELECT 'good', n::text, n::text FROM generate_series(1, 20000) n",
    );
    let more = if is_once { once(&world) } else { String::new() };
    let (_config, relay) = configured(&world, 15_000, &more);
    world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 40, "they wait");
    assert_eq!(relay.count_log("a batch was refused"), 0);
    world.await_empty();
    let dead = "SELECT count(*) FROM doorbell.dead WHERE code LIKE 'UnknownTopic%' AND reason LIKE '%create it%' AND attempts = 1";
    assert_eq!(world.number(dead), 40);
    let lines = relay.log();
    let refused = lines
        .iter()
        .filter(|line| line.contains("ERROR") && line.contains("Kafka cannot take this row"));
    assert_eq!(refused.count(), 1, "one line, and the others are counted");
    assert!(relay.stop().success());
    let mut consumer = match is_once {
        true => Consumer::committed(&world, &world.topic),
        false => Consumer::new(&world, &world.topic),
    };
    assert_eq!(consumer.drain().len(), 20_000, "each good one once");
}

#[test]
fn rows_for_missing_topics_wait_in_the_table_and_leave_the_others_their_speed() {
    missing("missingtopics", false);
}

#[test]
fn rows_for_missing_topics_stop_no_transaction() {
    missing("missingonce", true);
}

/// Rows for as many topics that do not exist, before 20,000 that can go.
fn missing_many(test: &str, is_once: bool) {
    const TOPICS: i64 = 2_000;
    let mut world = World::new(test);
    create_topic(&world, &world.topic, 1, &[]);
    let late = format!("{}.late", world.topic);
    world.sql(&format!(
        "INSERT INTO outbox (type, payload, topic) SELECT 'bad', n::text, 'no.such.topic.' || n FROM generate_series(1, {TOPICS}) n; \
         INSERT INTO outbox (type, key, payload) SELECT 'good', n::text, n::text FROM generate_series(1, 20000) n"
    ));
    let more = if is_once { once(&world) } else { String::new() };
    let (_config, relay) = configured(&world, 600_000, &more);
    world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
    let asked = relay.count_log("asked a broker about a topic");
    assert!(
        asked < TOPICS as usize / 2,
        "{asked} questions before the good rows"
    );
    // One that exists is not taken for one of them.
    create_topic(&world, &late, 1, &[]);
    world.sql(&format!(
        "INSERT INTO outbox (type, payload, topic) VALUES ('good', 'late', '{late}')"
    ));
    world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
    assert_eq!(world.number("SELECT count(*) FROM outbox"), TOPICS);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert_eq!(relay.count_log("Kafka cannot take this row"), 0);
    assert!(relay.stop().success());
}

#[test]
fn rows_for_thousands_of_missing_topics_leave_the_others_their_speed() {
    missing_many("manymissing", false);
}

#[test]
fn rows_for_thousands_of_missing_topics_stop_no_transaction() {
    missing_many("manymissingonce", true);
}

#[test]
fn a_topic_that_is_made_in_time_gets_its_rows_in_order() {
    let mut world = World::new("madeintime");
    create_topic(&world, &world.topic, 1, &[]);
    let late = format!("{}.late", world.topic);
    let (_config, relay) = configured(&world, 600_000, "");
    let insert = |from: usize| {
        format!(
            "INSERT INTO outbox (type, key, payload, topic) SELECT 'x', 'k', n::text, '{late}' FROM generate_series({from}, {from} + 99) n"
        )
    };
    world.sql(&insert(1));
    relay.await_log("a topic is missing: its rows wait in the table");
    world.sql(&insert(101));
    create_topic(&world, &late, 1, &[]);
    world.sql(&insert(201));
    world.await_empty();
    let expected: Vec<String> = (1..=300).map(|n| n.to_string()).collect();
    assert_eq!(texts(Consumer::new(&world, &late).drain()), expected);
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 0);
    assert!(relay.stop().success());
}

#[test]
fn after_many_refused_rows_of_a_topic_the_others_wait_until_it_takes_one() {
    let mut world = World::new("breaker");
    create_topic(&world, &world.topic, 1, &[]);
    let late = format!("{}.late", world.topic);
    let (_config, relay) = configured(&world, 200, "poison_breaker = 5\n");
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic) SELECT 'bad', 'k', n::text, '{late}' FROM generate_series(1, 500) n; \
         INSERT INTO outbox (type, payload) VALUES ('good', 'good')"
    ));
    world.await_number("SELECT count(*) FROM doorbell.dead", 5);
    relay.await_log("Kafka refuses row after row of a topic");
    world.await_number("SELECT count(*) FROM outbox WHERE type = 'good'", 0);
    eventually("the metric counts the topic", || {
        metrics(&relay)
            .contains("doorbell_held_keys{outbox=\"outbox\"} 1")
            .then_some(())
    });
    assert_eq!(world.number("SELECT count(*) FROM outbox"), 495);
    create_topic(&world, &late, 1, &[]);
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 5);
    let expected: Vec<String> = (6..=500).map(|n| n.to_string()).collect();
    assert_eq!(texts(Consumer::new(&world, &late).drain()), expected);
    relay.assert_logged("Kafka refuses row after row of a topic", 1);
    assert!(relay.stop().success());
}

#[test]
fn rows_go_to_no_topic_that_is_not_listed_and_never_to_receipts() {
    let mut world = World::new("listed");
    create_topic(&world, &world.topic, 1, &[]);
    let [listed, other] = ["a.listed", "other"].map(|name| format!("{}.{name}", world.topic));
    create_topic(&world, &listed, 1, &[]);
    create_topic(&world, &other, 1, &[]);
    let list = format!("topics = ['{}', '*.listed']\n", world.topic);
    let more = format!("{list}{}", once(&world));
    let (_config, relay) = configured(&world, 600_000, &more);
    let receipts = world.topic.replace("outbox", "receipts");
    world.sql(&format!(
        "INSERT INTO outbox (type, payload, topic) VALUES ('x', 'yes', NULL), ('x', 'no', '{other}'), ('x', 'yes', '{listed}'), \
         ('x', 'no', '{receipts}'), ('x', 'no', 'doorbell.receipts.of_another'), ('x', 'no', '__transaction_state')"
    ));
    world.await_empty();
    assert_eq!(
        world.texts("SELECT reason FROM doorbell.dead ORDER BY row_id"),
        [
            format!("its topic {other} is not among `topics` in [[outbox]]"),
            format!("its topic {receipts} is for receipts of the relay"),
            "its topic doorbell.receipts.of_another is for receipts of the relay".to_owned(),
            "its topic __transaction_state is Kafka's own".to_owned(),
        ]
    );
    for topic in [&world.topic, &listed] {
        assert_eq!(texts(Consumer::committed(&world, topic).drain()), ["yes"]);
    }
    assert_eq!(Consumer::new(&world, &other).drain().len(), 0);
    assert!(relay.stop().success());
    // The policy of the topic decides.
    let (_config, relay) = configured(&world, 600_000, &format!("{list}poison = 'hold-key'\n"));
    world.sql(&format!(
        "INSERT INTO outbox (type, key, payload, topic) VALUES ('x', 'k', 'no', '{other}'), ('x', 'k', 'behind', NULL), ('x', 'l', 'yes', NULL)"
    ));
    world.await_number("SELECT count(*) FROM outbox", 2);
    assert!(relay.stop().success());
}

#[test]
fn what_a_topic_cannot_take_is_known_beforehand() {
    let mut world = World::new("foreseen");
    create_topic(&world, &world.topic, 1, &[]);
    let [compacted, recent] = ["compacted", "recent"].map(|name| format!("{}.{name}", world.topic));
    create_topic(&world, &compacted, 1, &[("cleanup.policy", "compact")]);
    let bound = [("message.timestamp.before.max.ms", "3600000")];
    create_topic(&world, &recent, 1, &bound);
    let (_config, relay) = configured(&world, 600_000, "");
    let insert = format!(
        "INSERT INTO outbox (type, key, payload, topic, created_at) \
         SELECT 'x', CASE WHEN n <> 50 THEN 'k' END, n::text, '{compacted}', now() FROM generate_series(1, 100) n UNION ALL \
         SELECT 'x', 'k', n::text, '{recent}', now() - CASE n WHEN 50 THEN '2 hours' ELSE '0' END::interval FROM generate_series(1, 100) n"
    );
    world.sql(&insert);
    world.await_empty();
    let codes = "SELECT code FROM doorbell.dead WHERE payload = '50' ORDER BY row_id";
    assert_eq!(world.texts(codes), ["InvalidRecord", "InvalidTimestamp"]);
    assert_eq!(relay.count_log("a batch was refused"), 0);
    let others: Vec<String> = (1..=100)
        .filter(|n| *n != 50)
        .map(|n| n.to_string())
        .collect();
    for topic in [&compacted, &recent] {
        assert_eq!(texts(Consumer::new(&world, topic).drain()), others);
    }
    assert!(relay.stop().success());
    // Sent with the time of sending, the old one can go.
    let (_config, relay) = configured(&world, 600_000, "timestamp = 'sent'\n");
    world.sql("UPDATE doorbell.dead SET key = 'k'");
    assert!(world.doorbell(&["dead", "retry", "--all"]).status.success());
    world.await_empty();
    // What is left of a retried letter is the count of its attempts.
    assert_eq!(
        world.number("SELECT count(*) FROM doorbell.dead WHERE payload IS NOT NULL"),
        0
    );
    let mut consumer = Consumer::new(&world, &recent);
    let last = consumer.drain().last().expect("a record").clone();
    let before = world.number("SELECT (extract(epoch FROM now()) * 1000)::bigint - 600000");
    assert_eq!(last.text(), "50");
    assert!(last.timestamp.is_some_and(|at| at > before), "{last:?}");
    assert!(relay.stop().success());
}

#[test]
fn a_small_limit_that_the_brokers_do_not_tell_is_learnt_once() {
    let guarded = Guarded::shared();
    let mut world = World::on("untoldlimit", guarded.services());
    create_topic(&world, &world.topic, 1, &[("max.message.bytes", "20000")]);
    guarded.grant(On::Topic(&world.topic), &[Right::Write]);
    let config = guarded.config("untoldlimit", &format!("topic = '{}'\n", world.topic));
    let path = config.to_str().expect("a path");
    world.sql(
        "INSERT INTO outbox (type, key, payload) SELECT 'x', (n % 100)::text, rpad(n::text, 200) FROM generate_series(1, 20000) n",
    );
    let login = guarded.login();
    let relay = Relay::leading(&world, &["--config", path, "--kafka-brokers", &login]);
    world.await_empty();
    world.sql("INSERT INTO outbox (type, payload) VALUES ('x', repeat('x', 30000)), ('x', 'last')");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM doorbell.dead"), 1);
    assert_eq!(Consumer::new(&world, &world.topic).drain().len(), 20_001);
    relay.assert_logged("smaller batches: a batch was refused for its size", 2);
    assert!(relay.count_log("a batch was refused: its rows") <= 1);
    assert!(relay.stop().success());
}
