//! The SQL of docs/adopt.md, run as the page shows it.

use crate::support::World;

const PAGE: &str = include_str!("../../../docs/adopt.md");

/// The SQL of a section.
fn sample(heading: &str) -> &'static str {
    let (_, section) = PAGE
        .split_once(&format!("{heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let (_, sql) = section.split_once("```sql\n").expect("a sample");
    sql.split("\n```").next().expect("its end")
}

struct Mirror {
    heading: &'static str,
    /// The library's table, as it makes it.
    create: &'static str,
    table: &'static str,
    /// Inserts two rows.
    insert: &'static str,
    into: &'static str,
    /// The rows of the outbox, without id and time.
    expected: [&'static str; 2],
}

const MIRRORS: [Mirror; 5] = [
    Mirror {
        heading: "### namastack-outbox",
        create: "CREATE TABLE outbox_record (id varchar(255) PRIMARY KEY, status varchar(20) NOT NULL, record_key varchar(255) NOT NULL, \
            record_type varchar(255) NOT NULL, payload text NOT NULL, context text, created_at timestamptz NOT NULL, completed_at timestamptz, \
            failure_count int NOT NULL, failure_reason varchar(1000), next_retry_at timestamptz NOT NULL, partition_no integer NOT NULL, handler_id varchar(1000) NOT NULL)",
        table: "outbox_record",
        insert: "INSERT INTO outbox_record (id, status, record_key, record_type, payload, created_at, failure_count, next_retry_at, partition_no, handler_id) \
            SELECT 'r' || n, 'NEW', 'k', 'Placed', '{\"n\": ' || n || '}', now() - n * interval '1 s', 0, now(), 1, 'h' FROM generate_series(1, 2) n",
        into: "outbox",
        expected: [
            "Placed|k||{\"n\": 2}|{\"record-id\": \"r2\"}",
            "Placed|k||{\"n\": 1}|{\"record-id\": \"r1\"}",
        ],
    },
    Mirror {
        heading: "### watermill-sql",
        create: "CREATE TABLE watermill_orders (\"offset\" bigserial, uuid varchar(36) NOT NULL, created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, \
            payload json, metadata json, transaction_id xid8 NOT NULL, PRIMARY KEY (transaction_id, \"offset\"))",
        table: "watermill_orders",
        insert: "INSERT INTO watermill_orders (uuid, payload, metadata, transaction_id) VALUES ('u1', '{\"n\" : 1}', '{\"name\": \"Placed\"}', pg_current_xact_id()), \
            ('u2', '{}', NULL, pg_current_xact_id())",
        into: "outbox",
        expected: [
            "Placed||orders|{\"n\" : 1}|{\"name\": \"Placed\", \"_watermill_message_uuid\": \"u1\"}",
            "||orders|{}|{\"_watermill_message_uuid\": \"u2\"}",
        ],
    },
    Mirror {
        heading: "### Eventuate Tram",
        create: "CREATE SCHEMA eventuate; CREATE TABLE eventuate.message (id varchar(1000) PRIMARY KEY, destination text NOT NULL, headers text NOT NULL, \
            payload text NOT NULL, published smallint DEFAULT 0, creation_time bigint)",
        table: "eventuate.message",
        insert: "INSERT INTO eventuate.message (id, destination, headers, payload, creation_time) VALUES \
            ('m2', 'Order', '{\"event-type\": \"Placed\"}', '{}', 2), ('m1', 'Order', '{\"PARTITION_ID\":\"7\"}', '{\"n\": 1}', 1)",
        into: "outbox",
        expected: [
            "|7|Order|{\"payload\" : \"{\\\"n\\\": 1}\", \"headers\" : {\"PARTITION_ID\":\"7\"}}|",
            "Placed|m2|Order|{\"payload\" : \"{}\", \"headers\" : {\"event-type\": \"Placed\"}}|",
        ],
    },
    Mirror {
        heading: "### django-outbox-pattern",
        create: "CREATE TABLE published (id uuid PRIMARY KEY, version varchar(100), destination varchar(255) NOT NULL, body jsonb NOT NULL, added timestamptz NOT NULL, \
            expires_at timestamptz NOT NULL, retry integer NOT NULL, status integer NOT NULL, headers jsonb NOT NULL)",
        table: "published",
        insert: "INSERT INTO published SELECT gen_random_uuid(), NULL, '/topic/shop orders.v' || n, jsonb_build_object('n', n), now() + n * interval '1 s', now(), 0, 1, \
            '{\"dop-msg-id\": \"x\"}' FROM generate_series(1, 2) n",
        into: "outbox",
        expected: [
            "||topic.shop.orders.v1|{\"n\": 1}|{\"dop-msg-id\": \"x\"}",
            "||topic.shop.orders.v2|{\"n\": 2}|{\"dop-msg-id\": \"x\"}",
        ],
    },
    Mirror {
        heading: "### sbmt-outbox",
        create: "CREATE TABLE order_outbox_items (id bigserial PRIMARY KEY, uuid uuid NOT NULL, event_key varchar NOT NULL, bucket integer NOT NULL, \
            status integer NOT NULL DEFAULT 0, options jsonb, payload bytea NOT NULL, errors_count integer NOT NULL DEFAULT 0, error_log text, processed_at timestamp, \
            created_at timestamp NOT NULL, updated_at timestamp NOT NULL)",
        table: "order_outbox_items",
        insert: "INSERT INTO order_outbox_items (uuid, event_key, bucket, options, payload, created_at, updated_at) VALUES \
            ('0f0e0d0c-0b0a-4908-8706-000000000001', 'k', 1, NULL, '\\x00ff', '2026-01-02 03:04:05.678', now()), \
            ('0f0e0d0c-0b0a-4908-8706-000000000002', 'k', 1, '{\"headers\": {\"own\": \"o\"}}', '\\x', '2026-01-02 03:04:05', now())",
        into: "outbox_bytes",
        expected: [
            "|k|orders|\\x00ff|{\"Created-At\": \"2026-01-02T03:04:05.678000+00:00\", \"Sequence-ID\": \"1\", \"Idempotency-Key\": \"0f0e0d0c-0b0a-4908-8706-000000000001\"}",
            "|k|orders|\\x|{\"own\": \"o\", \"Created-At\": \"2026-01-02T03:04:05.000000+00:00\", \"Sequence-ID\": \"2\", \"Idempotency-Key\": \"0f0e0d0c-0b0a-4908-8706-000000000002\"}",
        ],
    },
];

#[test]
fn each_mirror_copies_rows_in_order_for_a_role_that_may_only_insert() {
    for mirror in MIRRORS {
        let mut world = World::new("mirror");
        world.sql(mirror.create);
        world.sql(sample(mirror.heading));
        if mirror.into != "outbox" {
            world.migrate(&["--table", mirror.into]);
        }
        let role = format!("{}_w", world.name());
        world.sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT INSERT ON {} TO {role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}; \
             DO $$ BEGIN IF to_regnamespace('eventuate') IS NOT NULL THEN GRANT USAGE ON SCHEMA eventuate TO {role}; END IF; END $$",
            mirror.table
        ));
        let mut writer = world.connect_to(&world.url_as(&role));
        world.sql_on(&mut writer, mirror.insert);
        let rows = world.texts(&format!(
            "SELECT concat_ws('|', type, coalesce(key, ''), coalesce(topic, ''), payload::text, coalesce(headers::text, '')) FROM {} ORDER BY id",
            mirror.into
        ));
        assert_eq!(rows, mirror.expected, "{}", mirror.heading);
        // A row may be deleted in the transaction that inserts it.
        let (table, insert) = (mirror.table, mirror.insert);
        world.sql(&format!(
            "BEGIN; DELETE FROM {table}; {insert}; DELETE FROM {table}; COMMIT"
        ));
        let count = format!("SELECT count(*) FROM {}", mirror.into);
        assert_eq!(world.number(&count), 4, "{}", mirror.heading);
        world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

#[test]
fn the_cut_gives_each_event_to_one_of_the_two() {
    let mut world = super::adopt::adoptable("cut", super::adopt::DEBEZIUM);
    world.sql("CREATE PUBLICATION dbz_publication FOR TABLE outboxevent");
    super::adopt::adopt(&world, &["outboxevent", "--apply"]);
    let slot = world.name().to_owned();
    world.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    let insert = |kind: &str, rows: u32| {
        format!(
            "INSERT INTO outboxevent (aggregatetype, aggregateid, type) SELECT 'order', n::text, '{kind}' FROM generate_series(1, {rows}) n"
        )
    };
    world.sql(&insert("Before", 7));
    // A writer in progress is waited for, and is Debezium's.
    let mut writer = world.connect();
    world.sql_on(&mut writer, &format!("BEGIN; {}", insert("Open", 1)));
    let mut cutting = world.connect();
    let cut = sample("   last record that Debezium sends.");
    let refused = world.try_sql_on(&mut cutting, cut);
    assert!(refused.is_err_and(|it| it.to_string().contains("lock timeout")));
    world.sql_on(&mut cutting, "ROLLBACK");
    world.sql_on(&mut writer, "COMMIT");
    world.sql_on(&mut cutting, cut);
    world.sql(&insert("After", 5));

    // Debezium's: seven, the writer's, and the marker as the last.
    let inserts = world.texts(&format!(
        "SELECT encode(data, 'escape') FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, 'proto_version', '1', 'publication_names', 'dbz_publication') \
         WHERE get_byte(data, 0) = ascii('I')"
    ));
    assert_eq!(inserts.len(), 9, "{inserts:#?}");
    assert!(inserts[8].contains("Switched"), "{inserts:#?}");
    assert!(
        !inserts.iter().any(|it| it.contains("After")),
        "{inserts:#?}"
    );
    // The relay's.
    let ours = world
        .texts("SELECT type || aggregateid FROM outboxevent WHERE seq IS NOT NULL ORDER BY seq");
    assert_eq!(ours, ["After1", "After2", "After3", "After4", "After5"]);
    world.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
}
