//! Routes: topics that follow from what is in a row, and rows that are dropped.

use std::collections::BTreeMap;

use super::{MODES, Mapped};
use crate::support::{Checkup, Consumer, Relay, create_topic, metrics, refused};

const COLUMNS: &str = "ALTER TABLE outbox ADD kind text, ADD n int, ADD tenant text";

/// An outbox with these routes, in which `{T}` stands for its topic, and with these topics besides.
fn routed(mode: &str, routes: &str, more_topics: &[&str]) -> Mapped {
    let mut mapped = Mapped::new(mode, "");
    let topic = mapped.world.topic.clone();
    for more in more_topics {
        create_topic(&mapped.world, &format!("{topic}.{more}"), 1, &[]);
    }
    let settings = routes.replace("{T}", &topic);
    let has_topic = settings.starts_with("topic = ");
    let usual = format!("topic = '{topic}'\n");
    mapped.configure(
        mode,
        &if has_topic {
            settings
        } else {
            format!("{usual}{settings}")
        },
    );
    mapped.world.sql(COLUMNS);
    mapped
}

fn relay(mapped: &Mapped) -> Relay {
    let flags = mapped.flags(&["--listen", "127.0.0.1:0"]);
    Relay::leading(&mapped.world, &flags)
}

/// The payloads that a topic has, sorted, once there are so many.
fn payloads(mapped: &Mapped, topic: &str, count: usize) -> Vec<String> {
    let topic = format!("{}{topic}", mapped.world.topic);
    let mut consumer = Consumer::committed(&mapped.world, &topic);
    consumer.await_records(count);
    let mut texts: Vec<_> = consumer
        .drain()
        .iter()
        .map(|it| it.text().to_owned())
        .collect();
    texts.sort();
    texts
}

const ROUTES: &str = r"
[[outbox.route]]
column = 'kind'
match = '^order-(?<which>[a-z]+)(-x)?$'
topic = '{T}.{which}{2}'
[[outbox.route]]
column = 'header.region'
match = '^eu'
topic = '{T}.eu'
[[outbox.route]]
column = 'kind'
match = '^noise'
drop = true
[[outbox.route]]
column = 'n'
match = '^1(\d)$'
topic = '{T}.{type}.{tenant}{1}'
[[outbox.route]]
column = 'kind'
match = '^bad:(.*)'
topic = '{T}.{1}'
";

#[test]
fn the_first_route_that_takes_a_row_counts_and_a_topic_of_its_own_comes_before() {
    for mode in MODES {
        let topics = ["paid", "paid-x", "own", "eu", "late.y5", "late.7"];
        let mut mapped = routed(mode, ROUTES, &topics);
        let topic = mapped.world.topic.clone();
        let relay = relay(&mapped);
        mapped.world.sql(&format!(
            r#"INSERT INTO outbox (type, payload, kind, n, tenant, topic, headers) VALUES
               ('t', '1', 'order-paid', 15, 'y', NULL, '{{"region": "eu-west"}}'), ('t', '2', 'order-paid-x', NULL, NULL, NULL, NULL),
               ('t', '3', 'noise', 15, 'y', '{topic}.own', NULL), ('t', '4', 'noise', 15, 'y', NULL, '{{"region": "eu"}}'),
               ('t', '5', 'noise', 15, 'y', NULL, '{{"region": "us"}}'), ('late', '6', NULL, 15, 'y', NULL, '{{"region": null}}'),
               ('late', '7', 'Order-paid', 17, NULL, NULL, NULL), ('t', '8', NULL, NULL, NULL, NULL, NULL),
               ('t', '9', '', 150, NULL, NULL, '{{"region": 5}}'), ('t', '10', 'bad:a b', NULL, NULL, NULL, NULL),
               ('t', '11', 'noise too', NULL, NULL, NULL, '[]')"#
        ));
        mapped.world.await_empty();
        for (topic, expected) in [
            (".paid", &["1"][..]),
            (".paid-x", &["2"]),
            (".own", &["3"]),
            (".eu", &["4"]),
            (".late.y5", &["6"]),
            (".late.7", &["7"]),
            ("", &["8", "9"]),
        ] {
            let found = payloads(&mapped, topic, expected.len());
            assert_eq!(found, expected, "{mode} {topic}");
        }
        let dead = mapped.world.texts(
            "SELECT payload || ' ' || code || ' ' || routed_to || ' ' || coalesce(topic, '-') FROM doorbell.dead ORDER BY row_id",
        );
        let illegal = format!("10 InvalidTopic {topic}.a b -");
        assert_eq!(dead, [illegal], "{mode}");
        assert!(metrics(&relay).contains("doorbell_rows_dropped_total{outbox=\"outbox\"} 2\n"));
        mapped.world.await_number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% drops 2'",
            1,
        );
        let status = mapped.doorbell(&["status"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("dropped  2 rows by routes"), "{status}");
        assert!(relay.stop().success());
    }
}

#[test]
fn a_dead_letter_keeps_what_its_route_follows_from() {
    for mode in MODES {
        let mut mapped = routed(mode, ROUTES, &["paid", "late.y3"]);
        let relay = relay(&mapped);
        mapped.world.sql(
            "INSERT INTO outbox (type, payload, kind, n, tenant, headers) VALUES ('t', '1', 'order-paid', NULL, NULL, '[]'), \
             ('late', '2', NULL, 13, 'y', '[]'), ('t', '3', 'bad:a b', NULL, NULL, NULL)",
        );
        mapped
            .world
            .await_number("SELECT count(*) FROM doorbell.dead", 3);
        mapped.world.await_empty();
        let topic = &mapped.world.topic;
        let expected = ["paid", "late.y3", "a b"].map(|it| format!("{topic}.{it}"));
        let routed = mapped
            .world
            .texts("SELECT routed_to FROM doorbell.dead ORDER BY row_id");
        assert_eq!(routed, expected, "{mode}");
        mapped.world.sql(
            "UPDATE doorbell.dead SET headers = NULL; UPDATE doorbell.dead SET columns = columns || '{\"kind\": \"order-paid\"}' WHERE payload = '3'",
        );
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        assert_eq!(payloads(&mapped, ".paid", 2), ["1", "3"], "{mode}");
        assert_eq!(payloads(&mapped, ".late.y3", 1), ["2"], "{mode}");
        assert!(relay.stop().success());
    }
}

#[test]
fn a_header_may_be_in_any_column_of_headers_and_one_that_is_no_text_matches_nothing() {
    const BY_HEADER: &str = "
[[outbox.route]]
column = 'header.a'
match = '^(x|1\\.50|true|\\{.*)$'
topic = '{T}.a'
";
    for (n, (kind, rows)) in [
        (
            "json",
            [
                r#"{"a": "x"}"#,
                r#"{"a": 1.50}"#,
                r#"{"a": {"$base64": "/w=="}}"#,
            ],
        ),
        (
            "text",
            [r#"{"a": "x"}"#, r#"{"a": true}"#, r#"{"a": null}"#],
        ),
        ("varchar(90)[]", ["{a,x}", "{b,y,a,1.50}", "{a,NULL}"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut mapped = routed(MODES[n % 2], BY_HEADER, &["a"]);
        mapped.world.sql(&format!(
            "ALTER TABLE outbox ALTER headers DROP DEFAULT, ALTER headers TYPE {kind} USING NULL"
        ));
        let relay = relay(&mapped);
        for (n, headers) in rows.iter().enumerate() {
            mapped.world.sql(&format!(
                "INSERT INTO outbox (type, payload, headers) VALUES ('t', '{n}', $${headers}$$)"
            ));
        }
        assert_eq!(payloads(&mapped, ".a", 2), ["0", "1"], "{kind}");
        assert_eq!(payloads(&mapped, "", 1), ["2"], "{kind}");
        mapped.world.await_empty();
        assert!(relay.stop().success());
    }
}

const NOISE: &str = "
[[outbox.route]]
column = 'kind'
match = '^noise$'
drop = true
[[outbox.route]]
column = 'kind'
match = '^other$'
topic = '{T}.other'
";

#[test]
fn kills_send_no_dropped_row_and_keep_none() {
    const ROWS: usize = 30_000;
    for mode in MODES {
        let mut mapped = routed(mode, NOISE, &["other"]);
        let topic = mapped.world.topic.clone();
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, key, payload, kind) SELECT 't', (n % 5)::text, n::text, CASE n % 3 WHEN 0 THEN 'noise' WHEN 1 THEN 'other' END \
             FROM generate_series(1, {ROWS}) n"
        ));
        let mut user = mapped.world.connect();
        mapped.world.sql_on(
            &mut user,
            "BEGIN; SELECT FROM outbox WHERE payload IN ('3', '9000') FOR UPDATE",
        );
        let mut others = Consumer::committed(&mapped.world, &format!("{topic}.other"));
        for few in [1, 3_000, 6_000] {
            let relay = relay(&mapped);
            others.await_records(few);
            relay.kill();
        }
        let relay = relay(&mapped);
        mapped.world.await_number(
            "SELECT count(*) FROM outbox WHERE payload NOT IN ('3', '9000')",
            0,
        );
        mapped.world.sql_on(&mut user, "COMMIT");
        mapped.world.await_empty();
        assert!(relay.stop().success());
        let mut usual = mapped.consumer();
        for (received, rest) in [(usual.drain(), 2_usize), (others.drain(), 1)] {
            let mut times: BTreeMap<usize, usize> = BTreeMap::new();
            let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
            for record in received {
                let number = record.text().parse().expect("a number");
                *times.entry(number).or_default() += 1;
                let key = record.key.as_deref().expect("a key");
                let before = last.insert(key, record.seq());
                let is_later = before.is_none_or(|it| it < record.seq());
                assert!(
                    is_later || mode == MODES[0],
                    "{mode} {before:?} {}",
                    record.seq()
                );
            }
            let expected: Vec<usize> = (1..=ROWS).filter(|n| n % 3 == rest).collect();
            assert!(times.keys().eq(&expected), "{mode} {rest}: {}", times.len());
            let once = times.values().all(|it| *it == 1);
            assert!(once || mode == MODES[0], "{mode} {rest}");
        }
    }
}

#[test]
fn dropped_rows_stop_no_other_however_many_or_large_they_are() {
    for mode in MODES {
        let mut mapped = routed(mode, &format!("in_flight_rows = 10\n{NOISE}"), &["other"]);
        mapped.world.sql(
            "INSERT INTO outbox (type, payload, kind) SELECT 't', n::text, 'noise' FROM generate_series(1, 2000) n; \
             INSERT INTO outbox (type, payload, kind, headers) VALUES ('t', repeat('x', 9000000), 'noise', '{}'), ('t', 'x', 'noise', jsonb_build_object('x', repeat('y', 9000000))), \
             ('t', repeat('x', 9000000), 'other', '{}'), ('t', 'good', NULL, '{}')",
        );
        let relay = relay(&mapped);
        assert_eq!(payloads(&mapped, "", 1), ["good"], "{mode}");
        mapped.world.await_empty();
        let topic = &mapped.world.topic;
        let expected = [format!("MessageSizeTooLarge {topic}.other")];
        let dead = mapped
            .world
            .texts("SELECT code || ' ' || routed_to FROM doorbell.dead");
        assert_eq!(dead, expected, "{mode}");
        let counted = "doorbell_rows_dropped_total{outbox=\"outbox\"} 2002\n";
        assert!(metrics(&relay).contains(counted), "{mode}");
        assert!(relay.stop().success());
        let more =
            "INSERT INTO outbox (type, kind) SELECT 't', 'noise' FROM generate_series(1, 100)";
        mapped.world.sql(more);
        let drained = mapped.doorbell(&["drain"]);
        assert!(drained.status.success(), "{mode} {drained:?}");
        assert_eq!(
            mapped.world.number("SELECT count(*) FROM outbox"),
            0,
            "{mode}"
        );
    }
}

#[test]
fn a_dropped_row_waits_for_no_key_and_a_held_row_that_is_dropped_frees_its_key() {
    for mode in MODES {
        let mut mapped = routed(mode, &format!("poison = 'hold-key'\n{NOISE}"), &["other"]);
        let relay = relay(&mapped);
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, headers, kind) VALUES ('t', 'k', '1', '[]', NULL), ('t', 'k', '2', '{}', 'noise'), ('t', 'k', '3', '{}', 'other')",
        );
        mapped
            .world
            .await_number("SELECT count(*) FROM outbox WHERE payload = '2'", 0);
        relay.await_log("Kafka cannot take this row");
        assert_eq!(
            mapped.world.number("SELECT count(*) FROM outbox"),
            2,
            "{mode}"
        );
        mapped
            .world
            .sql("UPDATE outbox SET kind = 'noise' WHERE payload = '1'");
        assert_eq!(payloads(&mapped, ".other", 1), ["3"], "{mode}");
        mapped.world.await_empty();
        assert!(relay.stop().success());
        assert!(mapped.consumer().drain().is_empty(), "{mode}");
    }
}

#[test]
fn commands_know_the_routes() {
    let mut mapped = routed(MODES[0], NOISE, &[]);
    let topic = mapped.world.topic.clone();
    let other = format!("{topic}.other");
    mapped.world.sql(
        "INSERT INTO outbox (type, payload, kind) VALUES ('t', '1', 'noise'), ('t', '2', 'other'), ('t', '3', NULL)",
    );
    let flags = mapped.flags(&[]);
    Checkup::of(&mapped.world, &flags).finds("warning", "topic-missing", &[&other]);
    create_topic(&mapped.world, &other, 1, &[]);
    let checkup = Checkup::of(&mapped.world, &flags);
    checkup.lacks(&["topic-missing", "topics-by-type", "table-unfit"]);
    let said = mapped.doorbell(&["preview", "--json"]);
    let said = String::from_utf8(said.stdout).expect("text");
    let rows: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows[0]["dropped"], true, "{said}");
    assert_eq!(
        (&rows[1]["topic"], &rows[2]["topic"]),
        (&other.as_str().into(), &topic.as_str().into())
    );
    let said = mapped.doorbell(&["preview"]);
    let said = String::from_utf8(said.stdout).expect("text");
    assert!(
        said.contains("row 1  dropped: a route deletes it unsent\n"),
        "{said}"
    );
    let relay = relay(&mapped);
    mapped.world.await_empty();
    relay.await_log(&format!("topic=\"{topic} and 2 routes\""));
    assert!(relay.stop().success());
    let said = mapped.doorbell(&["verify", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(found["events"], 2, "both topics are read: {found}");
    let shown = mapped.doorbell(&["config"]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(
        shown.contains("[[outbox.route]]\ncolumn = \"kind\""),
        "{shown}"
    );
    assert!(shown.contains("match = \"^other$\""), "{shown}");
    mapped.configure(MODES[0], &ROUTES.replace("{T}", &topic));
    let flags = mapped.flags(&[]);
    let template = format!("{topic}.{{which}}{{2}}");
    Checkup::of(&mapped.world, &flags).finds("note", "topics-by-type", &[&template]);
    refused(
        &mapped.doorbell(&["verify"]),
        2,
        &["more than one topic", "--topic"],
    );
}

#[test]
fn a_route_that_cannot_be_is_refused_before_anything_is_opened() {
    let mut mapped = routed(MODES[0], NOISE, &[]);
    mapped.configure(
        MODES[0],
        &NOISE.replace("^noise$", "^noise(").replace("{T}", "t"),
    );
    for command in ["run", "check", "config", "preview"] {
        let words = [
            "the pattern of a route is not a regular expression",
            "unclosed group",
        ];
        refused(&mapped.doorbell(&[command]), 2, &words);
    }
}

#[test]
fn a_route_that_the_table_does_not_fit_is_refused() {
    let by = |column: &str, topic: &str| {
        format!(
            "topic = '{{T}}'\n[[outbox.route]]\ncolumn = '{column}'\nmatch = 'x(?<a>.)'\ntopic = '{topic}'\n"
        )
    };
    for (settings, words) in [
        (
            by("kindd", "t"),
            ["has no column \"kindd\"", "did you mean `kind`?"],
        ),
        (
            by("kind", "{other}"),
            ["has no column \"other\"", "known are table, type, "],
        ),
        (
            "topic = '{T}.{tabel}'\n".to_owned(),
            ["has no column \"tabel\"", "did you mean `table`?"],
        ),
        (
            by("header.a", "t") + "[outbox.columns]\ntopic = 'topic'\n",
            ["has no column for headers", "header.a"],
        ),
    ] {
        let mut mapped = routed(MODES[0], &settings, &[]);
        if settings.contains("header.a") {
            mapped.world.sql("ALTER TABLE outbox DROP headers");
        }
        refused(&mapped.doorbell(&["run"]), 1, &words);
    }
}
