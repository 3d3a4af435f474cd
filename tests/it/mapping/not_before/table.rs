//! The column and its indexes: what makes them, and what is said without them.

use super::{MODES, Mapped, SETTINGS, migrate, scheduled};
use crate::support::{Checkup, refused};

const INDEXES: &str = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'outbox'::regclass AND indpred IS NOT NULL AND indisvalid ORDER BY 1";

#[test]
fn migrate_makes_the_indexes_once_and_again_where_one_is_invalid() {
    let mut mapped = scheduled(MODES[0], SETTINGS);
    let made = mapped.world.texts(INDEXES);
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made[0].ends_with("(send_at, id) WHERE (send_at IS NOT NULL)"));
    assert!(made[1].ends_with("(id) WHERE (send_at IS NULL)"));
    migrate(&mapped);
    assert_eq!(mapped.world.texts(INDEXES), made);
    // As a build leaves it that was interrupted.
    mapped.world.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'outbox_due_idx'::regclass",
    );
    let checkup = |mapped: &Mapped| Checkup::of(&mapped.world, &mapped.flags(&[]));
    checkup(&mapped).finds("warning", "not-before-index", &["send_at"]);
    migrate(&mapped);
    assert_eq!(mapped.world.texts(INDEXES), made);
    checkup(&mapped).lacks(&["not-before-index"]);
    mapped.world.sql("DROP INDEX outbox_undelayed_idx");
    checkup(&mapped).finds("warning", "not-before-index", &["send_at"]);
    let fixed = mapped.doorbell(&["check", "--fix", "--yes"]);
    assert_eq!(mapped.world.texts(INDEXES), made, "{fixed:?}");
}

#[test]
fn migrate_makes_the_indexes_of_a_partitioned_table() {
    let mut mapped = Mapped::new(MODES[0], SETTINGS);
    mapped.world.sql(
        "DROP TABLE outbox; CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), \
         type text NOT NULL, key text, payload text, topic text, headers jsonb, send_at timestamptz) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF outbox FOR VALUES FROM (0) TO (1000)",
    );
    migrate(&mapped);
    assert_eq!(mapped.world.texts(INDEXES).len(), 2);
    migrate(&mapped);
    assert_eq!(mapped.world.texts(INDEXES).len(), 2);
    let relay = mapped.relay();
    super::insert(&mut mapped, "k", 500);
    assert_eq!(mapped.consumer().await_records(1).len(), 1);
    mapped.world.await_empty();
    assert!(relay.stop().success());
}

#[test]
fn a_column_that_is_missing_or_no_time_with_a_zone_is_refused() {
    let mut mapped = Mapped::new(MODES[0], SETTINGS);
    refused(&mapped.doorbell(&["run"]), 1, &["has no column", "send_at"]);
    mapped.world.sql("ALTER TABLE outbox ADD send_at timestamp");
    for command in ["run", "migrate"] {
        let words = ["send_at", "not_before", "use one of: timestamptz"];
        refused(&mapped.doorbell(&[command]), 1, &words);
    }
}

#[test]
fn the_printed_migration_makes_the_indexes_too() {
    for flags in [
        &["migrate", "--dry-run"][..],
        &["migrate", "--dry-run", "--no-transaction"],
    ] {
        let mut mapped = Mapped::new(MODES[0], SETTINGS);
        mapped
            .world
            .sql("ALTER TABLE outbox ADD send_at timestamptz");
        let printed = mapped.doorbell(flags);
        let printed = String::from_utf8(printed.stdout).expect("text");
        let (migration, indexes) = printed
            .split_once("-- For rows that are not sent before a time.")
            .expect("the indexes");
        mapped.world.sql(migration);
        indexes.split(";\n").for_each(|sql| mapped.world.sql(sql));
        let made = mapped.world.texts(INDEXES);
        migrate(&mapped);
        assert_eq!(mapped.world.texts(INDEXES), made);
        assert_eq!(made.len(), 2);
    }
}

/// Each statement of the fetch uses the index for its kind of rows, whatever is known of the table.
#[test]
fn no_statement_of_the_fetch_filters_out_the_rows_that_wait() {
    let mut mapped = scheduled(MODES[0], SETTINGS);
    for (rows, analyzed) in [
        (0, ""),
        (1_000, ""),
        (99_000, "ANALYZE outbox"),
        (0, "VACUUM ANALYZE outbox"),
    ] {
        mapped.world.sql(&format!(
            "INSERT INTO outbox (type, payload, send_at) SELECT 't', 'x', now() + interval '1 day' FROM generate_series(1, {rows})"
        ));
        if !analyzed.is_empty() {
            mapped.world.sql(analyzed);
        }
        mapped
            .world
            .sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x')");
        for (plan, index) in plans(&mut mapped) {
            let removed = plan
                .iter()
                .any(|line| line.contains("Rows Removed") || line.contains("Seq Scan"));
            let uses = plan.iter().any(|line| line.contains(index));
            assert!(uses && !removed, "{rows} {analyzed}\n{}", plan.join("\n"));
        }
        mapped.world.sql("DELETE FROM outbox WHERE send_at IS NULL");
    }
}

/// The plans of the conditions of a fetch, with the settings of the session that fetches.
fn plans(mapped: &mut Mapped) -> Vec<(Vec<String>, &'static str)> {
    const SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan";
    const ABOVE: &str = "SELECT id, payload FROM outbox WHERE id > $1 AND \"send_at\" IS NULL ORDER BY id LIMIT 4000";
    const DUE: &str = "SELECT id, created_at FROM outbox WHERE \"send_at\" <= statement_timestamp() AND id IS NOT NULL \
         AND (\"send_at\", id) >= ($1, $2) ORDER BY \"send_at\", id LIMIT 10000";
    const NEXT: &str = "SELECT send_at FROM outbox WHERE \"send_at\" > statement_timestamp() AND id IS NOT NULL AND send_at < 'infinity' ORDER BY send_at, id LIMIT 1";
    mapped.world.sql(SETTINGS);
    mapped.world.sql(&format!(
        "PREPARE above (bigint) AS {ABOVE}; PREPARE due (timestamptz, bigint) AS {DUE}; PREPARE next AS {NEXT}"
    ));
    let mut explain = |execute: &str| {
        mapped
            .world
            .texts(&format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE {execute}"))
    };
    let plans = vec![
        (explain("above (0)"), "outbox_undelayed_idx"),
        (
            explain("due ('-infinity', -9223372036854775808)"),
            "outbox_due_idx",
        ),
        (explain("next"), "outbox_due_idx"),
    ];
    mapped
        .world
        .sql("DEALLOCATE above; DEALLOCATE due; DEALLOCATE next");
    plans
}
