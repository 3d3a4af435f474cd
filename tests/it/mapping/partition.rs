//! Partitions that rows choose.

use std::collections::BTreeMap;

use super::{MODES, Mapped, header};
use crate::support::refused;

const SETTINGS: &str = "[outbox.columns]\nevent_id = 'eid'\npartition = 'part'\n[outbox.headers_from]\npart = 'part'\n";

#[test]
fn a_row_goes_to_its_partition_and_one_that_is_not_there_is_that_rows_fault() {
    for mode in MODES {
        let mut mapped = Mapped::new(mode, SETTINGS);
        mapped.world.sql(
            "ALTER TABLE outbox ADD part int, ADD eid uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()",
        );
        let relay = mapped.relay();
        mapped.world.sql(
            "INSERT INTO outbox (type, key, payload, part) VALUES ('t', 'k', '0', 0), ('t', 'k', '1', 1), ('t', 'k', '2', 2), ('t', 'k', 'key', NULL), \
             ('t', 'k', 'high', 3), ('t', 'k', 'low', -1), ('t', 'k', 'key too', NULL)",
        );
        let mut consumer = mapped.consumer();
        let received: BTreeMap<_, _> = consumer
            .await_records(5)
            .iter()
            .map(|it| (it.text().to_owned(), it.clone()))
            .collect();
        for n in ["0", "1", "2"] {
            assert_eq!(received[n].partition.to_string(), n, "{mode}");
            assert_eq!(received[n].headers[3..], [header("part", n)], "{mode}");
        }
        assert_eq!(received["key"].partition, received["key too"].partition);
        assert_eq!(received["key"].headers.len(), 3);
        mapped.world.await_empty();
        let dead = mapped
            .world
            .texts("SELECT payload || ' ' || code FROM doorbell.dead ORDER BY row_id");
        assert_eq!(
            dead,
            ["high UnknownPartition", "low UnknownPartition"],
            "{mode}"
        );
        mapped
            .world
            .sql("UPDATE doorbell.dead SET columns = columns || '{\"part\": \"2\"}'");
        let retry = mapped.doorbell(&["dead", "retry", "--all"]);
        assert!(retry.status.success(), "{retry:?}");
        let received = consumer.await_records(7);
        assert!(received[5..].iter().all(|it| it.partition == 2), "{mode}");
        assert!(relay.stop().success());
    }
}

#[test]
fn a_partition_of_another_type_is_refused() {
    let mut mapped = Mapped::new(MODES[0], SETTINGS);
    mapped
        .world
        .sql("ALTER TABLE outbox ADD part text, ADD eid uuid");
    refused(&mapped.doorbell(&["run"]), 1, &["partition", "integer"]);
}
