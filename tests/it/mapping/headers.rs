//! Headers that have columns of their own.

use super::{MODES, Mapped, header};
use crate::support::refused;

const SETTINGS: &str = "[outbox.headers_from]
tenant = 'tenant'
trace = 'raw'
at = 'made at'
n = 'n'
kind = 'type'
[outbox.fixed_headers]
source = 'shop'
";

const COLUMNS: &str = "ALTER TABLE outbox ADD tenant varchar(40), ADD raw bytea, ADD \"made at\" timestamptz, ADD n numeric NOT NULL DEFAULT 1";

#[test]
fn columns_become_headers_in_the_order_of_the_file_and_null_leaves_one_out() {
    for mode in MODES {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(COLUMNS);
        let relay = mapped.relay();
        mapped.world.sql(
            r#"INSERT INTO outbox (type, payload, headers, tenant, raw, "made at", n) VALUES
               ('a', '1', '{"tenant": "forged", "own": "o"}', 'Zoë', '\x00ff', '2024-02-29 12:00+02', 1.50), ('b', '2', NULL, NULL, NULL, NULL, 7)"#,
        );
        let mut consumer = mapped.consumer();
        let mut received = consumer.await_records(2).to_vec();
        received.sort_by_key(crate::support::Received::seq);
        let raw = ("trace".to_owned(), Some(vec![0, 255]));
        let expected = [
            header("tenant", "Zoë"),
            raw,
            header("at", "2024-02-29 10:00:00+00"),
            header("n", "1.50"),
            header("kind", "a"),
            header("source", "shop"),
            header("own", "o"),
        ];
        assert_eq!(received[0].headers[3..], expected, "{mode}");
        let expected = [
            header("n", "7"),
            header("kind", "b"),
            header("source", "shop"),
        ];
        assert_eq!(received[1].headers[3..], expected, "{mode}");
        relay.await_log("a row has headers of names that the relay sets");
        mapped.world.await_empty();
        assert!(relay.stop().success());
    }
}

#[test]
fn a_dead_letter_keeps_the_columns_of_headers_and_goes_back_with_them() {
    for mode in MODES {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(COLUMNS);
        let relay = mapped.relay();
        mapped.world.sql(
            r"INSERT INTO outbox (type, payload, headers, tenant, raw, n) VALUES ('a', 'bad', '[]', 'x\y ''z', '\x00ff', 2.0)",
        );
        mapped
            .world
            .await_number("SELECT count(*) FROM doorbell.dead", 1);
        let shown = mapped.doorbell(&["dead", "show", "1"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(r#"\"raw\": \"\\\\x00ff\""#), "{shown}");
        mapped.world.sql("UPDATE doorbell.dead SET headers = NULL");
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        let mut consumer = mapped.consumer();
        let expected = [
            header("tenant", r"x\y 'z"),
            ("trace".to_owned(), Some(vec![0, 255])),
            header("n", "2.0"),
            header("kind", "a"),
            header("source", "shop"),
        ];
        assert_eq!(consumer.await_records(1)[0].headers[3..], expected);
        assert_eq!(
            mapped.world.number("SELECT count(*) FROM doorbell.dead WHERE columns IS NULL AND retried_at IS NOT NULL"),
            1
        );
        assert!(relay.stop().success());
    }
}

#[test]
fn headers_may_be_json_text_or_pairs_and_others_are_that_rows_fault() {
    let good = r#"{"a": "é", "n": 1.50, "none": null, "raw": {"$base64": "AQID"}}"#;
    let shown = vec![
        header("a", "é"),
        header("n", "1.50"),
        ("none".to_owned(), None),
        ("raw".to_owned(), Some(vec![1, 2, 3])),
    ];
    let pairs = vec![
        header("a", r#"x"\y"#),
        ("none".to_owned(), None),
        header("z", ""),
    ];
    let cases = [
        ("json", good, "[1]", &shown),
        ("text", good, "{a", &shown),
        ("varchar(200)", good, "", &shown),
        (
            "text[]",
            r#"{"z","","a","x\"\\y",none,NULL}"#,
            "{a}",
            &pairs,
        ),
        (
            "varchar(20)[]",
            r#"{{z,""},{a,"x\"\\y"},{none,NULL}}"#,
            "{a,b,c}",
            &pairs,
        ),
    ];
    for (n, (kind, good, bad, expected)) in cases.into_iter().enumerate() {
        let mut mapped = Mapped::new(MODES[n % 2], "");
        mapped.world.sql(&format!(
            "ALTER TABLE outbox ALTER headers DROP DEFAULT, ALTER headers TYPE {kind} USING NULL"
        ));
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, payload, headers) VALUES ('t', 'good', $$ {good} $$), ('t', 'bad', $${bad}$$), ('t', 'none', NULL)"
        ).replace("$$ ", "$$").replace(" $$", "$$"));
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        let mut received = consumer.await_records(2).to_vec();
        received.sort_by_key(crate::support::Received::seq);
        assert_eq!(received[0].headers[3..], expected[..], "{kind}");
        assert_eq!(received[1].headers.len(), 3, "{kind}");
        mapped.world.await_empty();
        let shown = mapped.doorbell(&["dead", "show", "1"]);
        assert!(shown.status.success(), "{shown:?}");
        assert!(relay.stop().success());
        // It goes back as it was.
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{kind}: {retry:?}");
        let back = mapped
            .world
            .texts("SELECT headers::text FROM outbox WHERE payload = 'bad'");
        assert_eq!(back, [bad], "{kind}");
        let flags = mapped.flags(&[]);
        let checkup = crate::support::Checkup::of(&mapped.world, &flags);
        checkup.lacks(&["table-unfit"]);
    }
}

#[test]
fn large_values_and_documents_are_bounded_together() {
    let mut mapped = Mapped::new(MODES[0], "[outbox.headers_from]\ntenant = 'tenant'\n");
    mapped.world.sql("ALTER TABLE outbox ADD tenant text");
    mapped.world.sql(
        "INSERT INTO outbox (type, payload, headers, tenant) SELECT 't', n::text, CASE WHEN n = 3 THEN jsonb_build_object('x', repeat('é', 4000000)) \
         ELSE '{}' END, CASE n WHEN 5 THEN repeat('x', 5000000) ELSE 'small' END FROM generate_series(1, 6) n",
    );
    let relay = mapped.relay();
    let mut consumer = mapped.consumer();
    let mut texts: Vec<_> = consumer.await_records(4).to_vec();
    texts.sort_by_key(crate::support::Received::seq);
    let texts: Vec<_> = texts.iter().map(|it| it.text().to_owned()).collect();
    assert_eq!(texts, ["1", "2", "4", "6"]);
    mapped.world.await_empty();
    let codes = mapped.world.texts(
        "SELECT code || ' ' || octet_length(columns ->> 'tenant') FROM doorbell.dead ORDER BY row_id",
    );
    assert_eq!(
        codes,
        ["MessageSizeTooLarge 5", "MessageSizeTooLarge 5000000"]
    );
    assert!(relay.stop().success());
}

#[test]
fn a_column_that_is_not_there_and_a_schema_of_an_earlier_version_are_refused() {
    let mut mapped = Mapped::new(MODES[0], SETTINGS);
    let said = mapped.doorbell(&["run"]);
    let words = ["has no column \"tenant\"", "[outbox.headers_from]"];
    refused(&said, 1, &words);
    let checked = mapped.doorbell(&["check"]);
    let stdout = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(stdout.contains(words[0]), "{stdout}");
    mapped.world.sql(COLUMNS);
    mapped
        .world
        .sql("ALTER TABLE doorbell.dead DROP columns, DROP own_id");
    let said = mapped.doorbell(&["run"]);
    refused(&said, 1, &["earlier version", "doorbell migrate"]);
    mapped.world.migrate(&[]);
    let relay = mapped.relay();
    assert!(relay.stop().success());
}
