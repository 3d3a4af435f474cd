//! Ids that events have of their own.

use super::{MODES, Mapped};
use crate::support::{Checkup, Received, eventually, get};

const SETTINGS: &str =
    "[outbox.columns]\nevent_id = 'event id'\n[outbox.headers_from]\ncopy = 'event id'\n";
const UUID: &str = "ALTER TABLE outbox ADD \"event id\" uuid UNIQUE DEFAULT gen_random_uuid()";
const TEXT: &str = "ALTER TABLE outbox ADD \"event id\" varchar(50)";

fn id(n: u32) -> String {
    format!("0f0e0d0c-0b0a-4908-8706-{n:012}")
}

#[test]
fn the_id_of_a_uuid_or_a_text_is_the_header_and_null_or_another_text_is_that_rows_fault() {
    for (mode, column) in MODES.into_iter().zip([UUID, TEXT]) {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(column);
        let relay = mapped.relay();
        let other = if column == TEXT { "'order 7'" } else { "NULL" };
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, payload, \"event id\") VALUES ('a', '1', '{}'), ('a', 'bad', NULL), ('a', 'bad', {other}), ('a', '2', '{}')",
            id(1), id(2)
        ));
        let mut received = mapped.consumer().await_records(2).to_vec();
        received.sort_by_key(Received::seq);
        for (record, n) in received.iter().zip([1, 2]) {
            assert_eq!(record.header("id"), id(n), "{mode}");
            assert_eq!(record.header("copy"), id(n), "{mode}");
        }
        mapped.world.await_empty();
        let dead = mapped
            .world
            .texts("SELECT code || ': ' || reason FROM doorbell.dead ORDER BY id");
        let no = "InvalidEventId: its event_id is NULL";
        let second = if column == TEXT {
            "InvalidEventId: its event_id is not a UUID"
        } else {
            no
        };
        assert!(dead[0].starts_with(no), "{dead:?}");
        assert!(dead[1].starts_with(second), "{dead:?}");
        assert!(relay.stop().success());
    }
}

#[test]
fn verify_dead_letters_replay_and_emit_know_the_id_that_an_event_has() {
    for mode in MODES {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(UUID);
        let relay = mapped.relay();
        let emitted = mapped.doorbell(&["emit", "--type", "x", "{}"]);
        assert!(emitted.status.success(), "{emitted:?}");
        mapped.consumer().await_records(1);
        mapped.world.await_empty();
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, headers, \"event id\") VALUES ('x', '[]', '{}')",
            id(7)
        ));
        mapped.world.await_number(
            &format!(
                "SELECT count(*) FROM doorbell.dead WHERE own_id = '{}'",
                id(7)
            ),
            1,
        );
        assert!(relay.stop().success());
        mapped
            .world
            .sql("INSERT INTO outbox (type) VALUES ('waits')");
        let verified = |mapped: &Mapped| -> serde_json::Value {
            let said = mapped.doorbell(&["verify", "--committed", "--json"]);
            assert!(said.status.success(), "{said:?}");
            serde_json::from_slice(&said.stdout).expect("JSON")
        };
        let found = verified(&mapped);
        for (name, count) in [
            ("events", 1),
            ("parked", 1),
            ("waiting", 1),
            ("sent_but_in_table", 0),
        ] {
            assert_eq!(found[name], count, "{name} {found}");
        }
        mapped.world.sql("UPDATE doorbell.dead SET headers = NULL");
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        let relay = mapped.relay();
        let mut consumer = mapped.consumer();
        let received = consumer.await_records(3);
        assert!(received.iter().any(|it| it.header("id") == id(7)));
        mapped.world.await_empty();
        assert!(relay.stop().success());
        let found = verified(&mapped);
        assert_eq!(
            (&found["events"], &found["parked"]),
            (&3.into(), &0.into()),
            "{found}"
        );
    }
}

#[test]
fn where_an_event_is_is_asked_by_the_id_that_it_has() {
    for column in [UUID, TEXT] {
        let mut mapped = Mapped::new(MODES[0], &format!("poison = 'hold-key'\n{SETTINGS}"));
        mapped.world.sql(column);
        let flags = mapped.flags(&["--listen", "127.0.0.1:0"]);
        let relay = crate::support::Relay::leading(&mapped.world, &flags);
        let state = |n: u32, wait: &str| {
            let answer = get(&relay, &format!("/delivered?id={}&wait={wait}", id(n)));
            assert_eq!(answer.code, 200, "{answer:?}");
            let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            answer["state"].as_str().expect("a state").to_owned()
        };
        let insert = |n: u32, headers: &str| {
            format!(
                "INSERT INTO outbox (type, key, headers, \"event id\") VALUES ('x', 'k', '{headers}', '{}')",
                id(n)
            )
        };
        assert_eq!(state(1, "0s"), "gone");
        let first = insert(1, "{}");
        let mut session = mapped.world.connect();
        mapped.world.sql_on(&mut session, &first);
        assert_eq!(state(1, "30s"), "sent");
        assert_eq!(state(1, "0s"), "sent");
        mapped.world.sql_on(&mut session, &insert(2, "[]"));
        mapped.world.sql_on(&mut session, &insert(3, "{}"));
        eventually("the key is held", || {
            (state(3, "0s") == "held").then_some(())
        });
        assert_eq!(state(2, "0s"), "held");
        assert!(relay.stop().success());
    }
}

#[test]
fn check_finds_an_event_id_that_may_repeat_and_one_of_another_type_is_refused() {
    for more in [&[][..], &["second", "third"]] {
        let mut mapped = Mapped::new(MODES[0], SETTINGS);
        mapped.configure_beside(MODES[0], SETTINGS, more);
        mapped.world.sql(UUID);
        let migrated = mapped.doorbell(&["migrate"]);
        assert!(migrated.status.success(), "{migrated:?}");
        let check = |mapped: &Mapped| Checkup::of(&mapped.world, &mapped.flags(&[]));
        check(&mapped).lacks(&["id-not-unique", "table-unfit", "column-required"]);
        let drop = "ALTER TABLE outbox DROP CONSTRAINT \"outbox_event id_key\"";
        mapped.world.sql(drop);
        let words = ["event_id", "event id"];
        let remedy = check(&mapped).finds("warning", "id-not-unique", &words);
        mapped.world.sql(&remedy);
        check(&mapped).lacks(&["id-not-unique"]);
        let change =
            "ALTER TABLE outbox DROP \"event id\"; ALTER TABLE outbox ADD \"event id\" bigint";
        mapped.world.sql(change);
        let run = mapped.doorbell(&["run"]);
        let words = ["int8", "event_id", "uuid"];
        match more {
            [] => crate::support::refused(&run, 1, &words),
            _ => assert!(String::from_utf8_lossy(&run.stderr).contains(words[0])),
        }
    }
}
