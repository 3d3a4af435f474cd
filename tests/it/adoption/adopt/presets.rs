//! Tables of other relays, and the records that they become.

use super::{adopt, adoptable, path, printed_config, printed_sql};
use crate::support::{Consumer, Received, Relay, create_topic};

/// As Open Outbox Relay has it.
const OPEN_OUTBOX: &str = "CREATE TABLE openoutbox_events (event_id uuid PRIMARY KEY, event_type text NOT NULL, partition_key text, payload bytea NOT NULL, \
    headers jsonb NOT NULL DEFAULT '{}', status text NOT NULL DEFAULT 'PENDING', attempts int NOT NULL DEFAULT 0, last_error text, \
    available_at timestamptz NOT NULL DEFAULT now(), locked_by text, locked_at timestamptz, delivered_at timestamptz, \
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())";

/// As eventferry has it.
const EVENTFERRY: &str = "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE, \
    aggregate_type varchar(255) NOT NULL, aggregate_id varchar(255) NOT NULL, topic varchar(255) NOT NULL, \"key\" text, payload jsonb NOT NULL, \
    headers jsonb NOT NULL DEFAULT '{}', trace_id varchar(64), status smallint NOT NULL DEFAULT 0, attempts int NOT NULL DEFAULT 0, \
    next_retry_at timestamptz, claimed_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(), processed_at timestamptz)";

/// As Tomorrow's transactional-outbox has it.
const TOMORROW_ONE: &str = "CREATE SEQUENCE outbox_kafka_id_seq; CREATE TABLE outbox_kafka (id bigint PRIMARY KEY DEFAULT nextval('outbox_kafka_id_seq'), \
    created timestamp NOT NULL, processed timestamp, topic varchar(128) NOT NULL, key varchar(128), value bytea NOT NULL, headers jsonb)";

struct Kind {
    preset: &'static str,
    table: &'static str,
    create: &'static str,
    /// Inserts rows `n` of which the first is sent and the others are not. `TOPIC` stands for it.
    insert: &'static str,
    sent: &'static str,
    /// Headers of the third row.
    headers: &'static [(&'static str, &'static str)],
    payload: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        preset: "open-outbox",
        table: "openoutbox_events",
        create: OPEN_OUTBOX,
        insert: "INSERT INTO openoutbox_events (event_id, event_type, partition_key, payload, headers, created_at) \
            SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'TOPIC', 'k', convert_to(n::text, 'UTF8'), '{\"own\": \"o\"}', now() + n * interval '1 ms'",
        sent: "UPDATE openoutbox_events SET status = 'DELIVERED', delivered_at = now() WHERE payload = '1'",
        headers: &[
            ("X-Event-ID", "00000000-0000-4000-8000-000000000003"),
            ("own", "o"),
        ],
        payload: "3",
    },
    Kind {
        preset: "eventferry",
        table: "outbox",
        create: EVENTFERRY,
        insert: "INSERT INTO outbox (message_id, aggregate_type, aggregate_id, topic, \"key\", payload, headers, trace_id) \
            SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'Order', 'a', 'TOPIC', 'k', jsonb_build_object('n', n), '{\"own\": \"o\"}', NULL",
        sent: "UPDATE outbox SET status = 2, processed_at = now() WHERE id = 1",
        headers: &[
            ("message-id", "00000000-0000-4000-8000-000000000003"),
            ("aggregate-type", "Order"),
            ("aggregate-id", "a"),
            ("content-type", "application/json"),
            ("own", "o"),
        ],
        payload: "{\"n\": 3}",
    },
    Kind {
        preset: "tomorrow-one",
        table: "outbox_kafka",
        create: TOMORROW_ONE,
        insert: "INSERT INTO outbox_kafka (created, topic, key, value, headers) SELECT now() AT TIME ZONE 'UTC', 'TOPIC', 'k', convert_to(n::text, 'UTF8'), '{\"own\": \"o\"}'",
        sent: "UPDATE outbox_kafka SET processed = created WHERE id = 1",
        headers: &[("seq", "-1"), ("own", "o")],
        payload: "3",
    },
];

/// The headers but those that the relay makes of the outbox's identity.
fn headers(record: &Received) -> Vec<(&str, &str)> {
    let all = record.headers.iter();
    let all = all.map(|(name, _)| (name.as_str(), record.header(name)));
    all.filter(|(name, _)| *name != "id").collect()
}

#[test]
fn rows_that_the_earlier_relay_has_not_sent_come_first_and_no_other_old_row_is_sent() {
    for kind in KINDS {
        let mut world = adoptable("adoptkinds", kind.create);
        let topic = world.topic.clone();
        create_topic(&world, &topic, 1, &[]);
        let insert = kind.insert.replace("TOPIC", &topic);
        world.sql(&format!("{insert} FROM generate_series(1, 3) n"));
        world.sql(kind.sent);
        let plan = adopt(&world, &[kind.table]);
        assert_eq!(plan, adopt(&world, &[kind.table, "--from", kind.preset]));
        for sql in printed_sql(&plan) {
            world.sql(&sql);
        }
        world.sql(&format!("{insert} FROM generate_series(4, 5) n"));
        // The statement of the plan that numbers what is left.
        let update = plan
            .lines()
            .find_map(|line| line.split_once(": UPDATE public."));
        let (_, update) = update.expect("a statement");
        world.sql(&format!("UPDATE public.{update}"));
        let file = printed_config(&plan, "none", "");
        let config = ["--config", path(&file)];
        world.migrate(&config);
        let relay = Relay::leading(&world, &config);
        let mut consumer = Consumer::new(&world, &topic);
        let received = consumer.await_records(4).to_vec();
        let third = &received[1];
        assert_eq!(third.text(), kind.payload, "{}", kind.preset);
        assert_eq!(headers(third), kind.headers, "{}", kind.preset);
        assert_eq!(third.key.as_deref(), Some(&b"k"[..]));
        let numbers: Vec<_> = received
            .iter()
            .map(|it| {
                it.text()
                    .chars()
                    .filter(char::is_ascii_digit)
                    .collect::<String>()
            })
            .collect();
        assert_eq!(numbers, ["2", "3", "4", "5"], "{}", kind.preset);
        world.await_number(
            &format!("SELECT count(*) FROM {} WHERE seq IS NOT NULL", kind.table),
            0,
        );
        assert_eq!(
            world.number(&format!("SELECT count(*) FROM {}", kind.table)),
            1
        );
        assert!(relay.stop().success());
        assert_eq!(consumer.drain().len(), 4, "{}", kind.preset);
    }
}

#[test]
fn a_row_of_open_outbox_that_is_not_available_yet_waits_and_old_rows_stay() {
    let mut world = adoptable("adoptlater", OPEN_OUTBOX);
    let topic = world.topic.clone();
    create_topic(&world, &topic, 1, &[]);
    let insert = |time: &str, of: &str| {
        format!(
            "INSERT INTO openoutbox_events (event_id, event_type, partition_key, payload, available_at) \
             SELECT gen_random_uuid(), '{topic}', 'k', convert_to(ceil(EXTRACT(epoch FROM t) * 1000)::text, 'UTF8'), t \
             FROM (SELECT {time} AS t FROM {of}) r"
        )
    };
    world.sql(&insert("now()", "generate_series(1, 1000)"));
    let plan = adopt(&world, &["openoutbox_events", "--apply"]);
    assert_eq!(printed_sql(&adopt(&world, &["openoutbox_events"])), [""; 0]);
    let file = printed_config(&plan, "none", "sweep = '1h'\ntimestamp = 'sent'\n");
    let config = ["--config", path(&file)];
    world.migrate(&config);
    let relay = Relay::leading(&world, &config);
    for millis in [2_000, 1_000, 0] {
        let time = format!("clock_timestamp() + {millis} * interval '1 ms'");
        world.sql(&insert(&time, "generate_series(1, 1)"));
    }
    let mut consumer = Consumer::new(&world, &topic);
    let received = consumer.await_records(3).to_vec();
    let due: Vec<i64> = received
        .iter()
        .map(|it| it.text().parse().expect("a time"))
        .collect();
    assert!(due.is_sorted(), "{due:?}");
    for (record, due) in received.iter().zip(due) {
        let late = record.timestamp.expect("a time") - due;
        assert!((-1..2_000).contains(&late), "{late} ms");
    }
    world.await_number("SELECT count(*) FROM openoutbox_events", 1_000);
    assert!(relay.stop().success());
    assert_eq!(consumer.drain().len(), 3);
}
