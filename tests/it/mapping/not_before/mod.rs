//! Rows that are not sent before a time. The sweep is an hour away, unless a test is about it.

mod failures;
mod shown;
mod table;
mod timer;

use super::{MODES, Mapped};
use crate::support::Received;

/// The time of a record is that of its sending.
const SETTINGS: &str =
    "sweep = '1h'\ntimestamp = 'sent'\n[outbox.columns]\nnot_before = 'send_at'\n";

/// A migrated outbox whose rows have such a time.
fn scheduled(mode: &str, settings: &str) -> Mapped {
    let mut mapped = Mapped::new(mode, settings);
    mapped
        .world
        .sql("ALTER TABLE outbox ADD send_at timestamptz");
    migrate(&mapped);
    mapped
}

fn migrate(mapped: &Mapped) {
    let migrated = mapped.doorbell(&["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
}

/// Inserts a row of this key that is due after so many milliseconds. Its payload is that time, in
/// milliseconds since the Unix epoch.
fn insert(mapped: &mut Mapped, key: &str, millis: i64) -> i64 {
    mapped.world.number(&format!(
        "INSERT INTO outbox (type, key, payload, send_at) SELECT 't', '{key}', ceil(EXTRACT(epoch FROM at) * 1000)::bigint, at \
         FROM (SELECT clock_timestamp() + {millis} * interval '1 ms' AS at) t RETURNING id"
    ))
}

/// How many milliseconds after its time a record was sent.
fn lateness(record: &Received) -> i64 {
    let due: i64 = record.text().parse().expect("a time");
    record.timestamp.expect("a time") - due
}

/// Asserts that a record was sent neither before its time, which a record has without its fraction
/// of a millisecond, nor long after it.
#[track_caller]
fn assert_in_time(record: &Received) {
    let late = lateness(record);
    assert!((-1..2_000).contains(&late), "{late} ms");
}
