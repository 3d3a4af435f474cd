//! What cannot be adopted is refused in one line, and stays as it is.

use super::{DEBEZIUM, adopt, adoptable, catalogue};
use crate::support::{World, refused};

#[test]
fn what_is_no_plain_table_is_refused_in_one_line() {
    let mut world = adoptable("adoptplain", DEBEZIUM);
    world.sql(
        "CREATE VIEW v AS SELECT * FROM outboxevent; CREATE MATERIALIZED VIEW m AS SELECT * FROM outboxevent; CREATE SEQUENCE s; \
         CREATE TABLE p (LIKE outboxevent) PARTITION BY LIST (type); CREATE TABLE part PARTITION OF p DEFAULT; \
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER elsewhere FOREIGN DATA WRAPPER w; \
         CREATE FOREIGN TABLE f (id uuid) SERVER elsewhere",
    );
    for (name, words) in [
        ("v", "is a view"),
        ("m", "is a view"),
        ("f", "a foreign table"),
        ("p", "a partitioned table"),
        ("part", "is a partition"),
        ("s", "no table"),
        ("absent", "does not exist"),
    ] {
        for flags in [&[][..], &["--apply"], &["--undo", "--apply"]] {
            let said = world.doorbell(&[&["adopt", name], flags].concat());
            refused(&said, 1, &[name, words]);
        }
    }
    for (arguments, words) in [
        (&["a.b.c"][..], "too many parts"),
        (&["outboxevent", "--from", "sequin"], "sequin"),
        (&["outboxevent", "--undo", "--from", "debezium"], "--from"),
        (&[], "TABLE"),
    ] {
        refused(
            &world.doorbell(&[&["adopt"], arguments].concat()),
            2,
            &[words],
        );
    }
}

#[test]
fn an_unknown_table_or_a_clash_of_names_is_refused_and_nothing_is_changed() {
    let mut world = adoptable("adoptclash", DEBEZIUM);
    world.sql("CREATE TABLE mine (id bigint PRIMARY KEY, body text)");
    let said = world.doorbell(&["adopt", "mine", "--apply"]);
    refused(
        &said,
        2,
        &[
            "--from",
            "debezium, open-outbox, eventferry or tomorrow-one",
        ],
    );
    let said = world.doorbell(&["adopt", "mine", "--apply", "--from", "debezium"]);
    refused(
        &said,
        1,
        &["no column", "aggregateid", "nothing was changed"],
    );
    for (make, take_back, words) in [
        (
            "ALTER TABLE outboxevent ADD seq bigint",
            "ALTER TABLE outboxevent DROP seq",
            "has a column seq already",
        ),
        (
            "CREATE TABLE outboxevent_seq_seq ()",
            "DROP TABLE outboxevent_seq_seq",
            "outboxevent_seq_seq of the sequence is taken",
        ),
        (
            "CREATE VIEW outboxevent_seq_key AS SELECT 1",
            "DROP VIEW outboxevent_seq_key",
            "outboxevent_seq_key of the index is taken",
        ),
    ] {
        world.sql(make);
        let before = catalogue(&mut world, "outboxevent");
        for flags in [&[][..], &["--apply"]] {
            let said = world.doorbell(&[&["adopt", "outboxevent"], flags].concat());
            refused(&said, 1, &[words, "othing was changed"]);
        }
        assert_eq!(catalogue(&mut world, "outboxevent"), before);
        world.sql(take_back);
    }
    adopt(&world, &["outboxevent", "--apply"]);
}

#[test]
fn without_the_owner_s_rights_nothing_is_changed_and_a_superuser_leaves_all_to_the_owner() {
    let mut world = adoptable("adoptrights", DEBEZIUM);
    let owner = format!("{}_o", world.name());
    world.sql(&format!("CREATE ROLE {owner} LOGIN PASSWORD 'p'"));
    let as_owner = world.url_as(&owner);
    let before = catalogue(&mut world, "outboxevent");
    let run = |world: &World| {
        world.doorbell(&[
            "adopt",
            "outboxevent",
            "--apply",
            "--database-url",
            &as_owner,
        ])
    };
    refused(
        &run(&world),
        1,
        &["permission denied", &owner, "does not own"],
    );
    assert_eq!(catalogue(&mut world, "outboxevent"), before);
    world.sql(&format!(
        "ALTER TABLE outboxevent OWNER TO {owner}; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    ));
    refused(
        &run(&world),
        1,
        &["permission denied", "may not create a sequence"],
    );
    // The world's role is a superuser.
    adopt(&world, &["outboxevent", "--apply"]);
    let owned = world.texts(
        "SELECT relowner::regrole::text FROM pg_class WHERE relname LIKE 'outboxevent_seq_%'",
    );
    assert_eq!(owned, [owner.as_str(), &owner]);
    world.sql(&format!("GRANT CREATE ON SCHEMA public TO {owner}; SET ROLE {owner}; INSERT INTO outboxevent VALUES (DEFAULT, 'a', 'b', 'c'); RESET ROLE"));
    assert!(run(&world).status.success());
    world.sql(&format!("DROP OWNED BY {owner}; DROP ROLE {owner}"));
}

#[test]
fn an_outbox_is_left_alone_and_one_that_was_adopted_is_undone_after_its_migration() {
    let mut world = adoptable("adoptoutbox", DEBEZIUM);
    world.migrate(&[]);
    for flags in [&[][..], &["--apply"], &["--undo"]] {
        let said = adopt(&world, &[&["outbox"], flags].concat());
        assert!(said.contains("is an outbox already"), "{said}");
    }
    let plan = adopt(&world, &["outboxevent", "--apply"]);
    let file = super::printed_config(&plan, "events", "");
    world.migrate(&["--config", super::path(&file)]);
    let said = world.doorbell(&["adopt", "outboxevent", "--undo", "--apply"]);
    refused(&said, 1, &["still an outbox", "migrate --undo"]);
    assert!(adopt(&world, &["outboxevent", "--apply"]).contains("is adopted already"));
    let undone = world.doorbell(&["migrate", "--undo", "--config", super::path(&file)]);
    assert!(undone.status.success(), "{undone:?}");
    adopt(&world, &["outboxevent", "--undo", "--apply"]);
    // Without its index the nullable column is not read.
    adopt(&world, &["outboxevent", "--apply"]);
    world.sql("DROP INDEX outboxevent_seq_key; CREATE INDEX ON outboxevent (seq)");
    let said = world.doorbell(&["migrate", "--config", super::path(&file)]);
    refused(&said, 1, &["may be NULL"]);
}
