//! Tables without a type and without a time of creation.

use super::{MODES, Mapped, header};
use crate::support::{Checkup, refused};

const SETTINGS: &str =
    "[outbox.columns]\ntype = 'none'\ncreated_at = 'none'\n[outbox.headers_from]\ntype = 'kind'\n";
const BARE: &str =
    "ALTER TABLE outbox DROP type, DROP created_at; ALTER TABLE outbox ADD kind text";

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as i64
}

#[test]
fn rows_without_type_and_time_are_sent_parked_retried_and_verified() {
    for mode in MODES {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(BARE);
        let begun = now_ms();
        let relay = mapped.relay();
        mapped.world.sql(
            "INSERT INTO outbox (key, payload, headers, kind) VALUES ('k', '1', '{\"own\": \"o\"}', 'Paid'), ('k', 'bad', '[]', 'Sent')",
        );
        let mut consumer = mapped.consumer();
        let received = consumer.await_records(1)[0].clone();
        let expected = [
            header("seq", "1"),
            header("type", "Paid"),
            header("own", "o"),
        ];
        assert_eq!(received.headers[1..], expected, "{mode}");
        let at = received.timestamp.expect("a timestamp");
        assert!((begun..=now_ms()).contains(&at), "{at}");
        mapped.world.await_empty();
        let shown = mapped.doorbell(&["dead", "show", "1"]);
        assert!(shown.status.success(), "{shown:?}");
        mapped.world.sql("UPDATE doorbell.dead SET headers = NULL");
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        let second = consumer.await_records(2)[1].clone();
        assert_eq!(
            second.headers[1..],
            [header("seq", "2"), header("type", "Sent")]
        );
        mapped.world.await_empty();
        let emitted = mapped.doorbell(&["emit", "--key", "k", "{}"]);
        assert!(emitted.status.success(), "{emitted:?}");
        refused(
            &mapped.doorbell(&["emit", "--type", "x", "{}"]),
            2,
            &["--type"],
        );
        consumer.await_records(3);
        mapped.world.await_empty();
        assert!(relay.stop().success());

        mapped.world.sql("INSERT INTO outbox (key) VALUES ('k')");
        for command in [
            &["status"][..],
            &["tail", "--pending", "k"],
            &["verify", "--committed"],
        ] {
            let said = mapped.doorbell(command);
            assert!(said.status.success(), "{said:?}");
        }
        let flags = mapped.flags(&[]);
        let checkup = Checkup::of(&mapped.world, &flags);
        checkup.finds("error", "no-leader", &["1 row waits"]);
        checkup.lacks(&["created-at", "column-required", "table-unfit"]);
    }
}

#[test]
fn without_a_time_the_id_must_be_unique() {
    for more in [&[][..], &["second", "third"]] {
        let mut mapped = Mapped::new(MODES[0], SETTINGS);
        mapped.configure_beside(MODES[0], SETTINGS, more);
        mapped.world.sql(BARE);
        let migrated = mapped.doorbell(&["migrate"]);
        assert!(migrated.status.success(), "{migrated:?}");
        mapped.world.sql(
            "ALTER TABLE outbox DROP CONSTRAINT outbox_pkey; CREATE INDEX by_id ON outbox (id, kind)",
        );
        let words = ["no unique index", "created_at", "ADD UNIQUE"];
        let run = mapped.doorbell(&["run"]);
        match more {
            [] => refused(&run, 1, &words),
            _ => assert!(String::from_utf8_lossy(&run.stderr).contains(words[0])),
        }
        let flags = mapped.flags(&[]);
        let unfit = Checkup::of(&mapped.world, &flags);
        let remedy = unfit.finds("error", "table-unfit", &["no unique index"]);
        let (statement, _) = remedy.split_once(", or").expect("another way");
        mapped.world.sql(statement);
        let relay = mapped.relay();
        relay.await_log_times("leading", more.len() + 1);
        assert!(relay.stop().success());
    }
}
