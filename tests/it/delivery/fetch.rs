//! The bounds of one fetch.

use doorbell::test_support::{Batch, FetchRequest, Reader, Server, Session, Table};
use doorbell::{DatabaseUrl, Outbox, TableName};

use crate::support::World;

/// What the fetches return, one after another.
fn fetch(world: &World, asks: &[FetchRequest<'_>]) -> Vec<Batch> {
    let url = DatabaseUrl::parse(&world.database_url).expect("a database URL");
    world.block_on(async {
        let server = Server::find(&url).await.expect("a server");
        let mut session = Session::open(&server, "test").await.expect("a session");
        let table = Table::find(&mut session, &Outbox::default())
            .await
            .expect("the outbox");
        session.configure().await.expect("settings");
        let mut reader = Reader::new(session, &table).await.expect("a reader");
        let mut batches = Vec::new();
        for ask in asks {
            batches.push(reader.fetch(ask).await.expect("a batch"));
        }
        batches
    })
}

/// Fetches within bounds of rows and bytes, and compares the ids.
#[track_caller]
fn expect(
    world: &World,
    (after, gaps): (i64, &[(i64, i64)]),
    expected: &[((usize, usize), &[i64])],
) {
    let asks: Vec<FetchRequest<'_>> = expected
        .iter()
        .map(|&((rows, bytes), _)| FetchRequest {
            after,
            gaps,
            rows,
            bytes,
        })
        .collect();
    for (batch, (bounds, ids)) in fetch(world, &asks).iter().zip(expected) {
        let fetched: Vec<i64> = batch.rows().map(|row| row.id).collect();
        assert_eq!(fetched, *ids, "{bounds:?}");
    }
}

#[test]
fn a_fetch_ends_with_the_row_that_reaches_the_bytes_of_all_columns() {
    for (kind, value) in [
        ("text", "repeat('x', 80)"),
        ("bytea", "repeat('x', 80)::bytea"),
    ] {
        let mut world = World::new("bound");
        world.sql(&format!(
            "ALTER TABLE outbox ALTER payload TYPE {kind} USING NULL; \
             INSERT INTO outbox (type, payload, key, topic) SELECT 'type', {value}, 'key 4567', 'topic678' FROM generate_series(1, 20)"
        ));
        let all: Vec<i64> = (6..=20).collect();
        // Each row has 4 bytes of type, 80 of payload, 8 of key and 8 of topic.
        expect(
            &world,
            (5, &[]),
            &[
                ((100, 1501), &all),
                ((100, 1500), &all),
                ((100, 1401), &all),
                ((100, 1400), &all[..14]),
                ((100, 301), &all[..4]),
                ((100, 300), &all[..3]),
                ((3, 1_000_000), &all[..3]),
                ((3, 300), &all[..3]),
                // One row is always fetched, however large.
                ((100, 1), &all[..1]),
            ],
        );
        let ask = FetchRequest {
            after: 19,
            gaps: &[],
            rows: 2,
            bytes: 1_000_000,
        };
        let sizes: Vec<usize> = fetch(&world, &[ask])[0].sizes().collect();
        assert_eq!(sizes, [100], "{kind}");
    }
}

#[test]
fn a_fetch_of_documents_ends_soon_after_the_bytes_however_well_they_compress() {
    // Stored in about 2 kB, a few bytes, and as many bytes as the text.
    for value in [
        "to_jsonb(repeat('x', 100000))",
        "to_jsonb(array(SELECT '1e1000'::numeric FROM generate_series(1, 100)))",
        "to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 3000) n))",
    ] {
        let mut world = World::new("documents");
        world.sql(&format!(
            "ALTER TABLE outbox ALTER payload TYPE jsonb USING NULL; \
             INSERT INTO outbox (type, payload) SELECT 't', d FROM (SELECT {value} AS d OFFSET 0) v, generate_series(1, 200)"
        ));
        let ask = |after, rows, bytes| FetchRequest {
            after,
            gaps: &[],
            rows,
            bytes,
        };
        let asks = [ask(0, 200, 1_000_000), ask(0, 200, 1), ask(199, 9, 1)];
        let batches = fetch(&world, &asks);
        let sizes: Vec<Vec<usize>> = batches.iter().map(|it| it.sizes().collect()).collect();
        let bytes: usize = sizes[0].iter().sum();
        assert!(bytes < 2_200_000 && sizes[0].len() > 1, "{bytes}: {value}");
        let ids: Vec<i64> = batches[0].rows().map(|row| row.id).collect();
        assert!(ids.iter().copied().eq(1..=ids.len() as i64), "{ids:?}");
        assert_eq!((sizes[1].len(), sizes[2].len()), (1, 1), "{value}");
    }
}

#[test]
fn a_table_and_columns_may_have_the_names_that_the_statement_uses() {
    let mut world = World::new("aliases");
    for name in ["g", "r", "doorbell_o", "doorbell_gap", "doorbell_total"] {
        world.sql(&format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, low bigint DEFAULT 9, high bigint DEFAULT 0, size int, before int, \
             first text, rows int, fits boolean, s1 text, type text, payload text, created_at timestamptz DEFAULT now()); \
             INSERT INTO {name} (id, type, payload) SELECT n, 't', repeat('x', 100) FROM generate_series(1, 4) n; \
             SELECT doorbell.create_outbox('{name}')"
        ));
        let url = DatabaseUrl::parse(&world.database_url).expect("a database URL");
        let ids = world.block_on(async {
            let server = Server::find(&url).await.expect("a server");
            let mut session = Session::open(&server, "test").await.expect("a session");
            let outbox = Outbox {
                table: TableName::parse(name).expect("a name"),
                ..Outbox::default()
            };
            let table = Table::find(&mut session, &outbox).await;
            let table = table.expect("the outbox");
            session.configure().await.expect("settings");
            let mut reader = Reader::new(session, &table).await.expect("a reader");
            let mut ids = Vec::new();
            for bytes in [1_000, 250] {
                let ask = FetchRequest {
                    after: 3,
                    gaps: &[(1, 2)],
                    rows: 9,
                    bytes,
                };
                let batch = reader.fetch(&ask).await.expect("a batch");
                ids.push(batch.rows().map(|row| row.id).collect::<Vec<_>>());
            }
            ids
        });
        assert_eq!(ids, [vec![1, 2, 4], vec![1, 2, 4]], "{name}");
    }
}

#[test]
fn rows_in_gaps_come_first_and_count_within_the_same_bounds() {
    let mut world = World::new("gap_bound");
    world.sql("INSERT INTO outbox (type, payload) SELECT 't', repeat('x', 100) FROM generate_series(1, 20)");
    let all = [2, 3, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
    expect(
        &world,
        (10, &[(2, 3), (7, 8)]),
        &[
            ((100, 1_000_000), &all),
            ((6, 1_000_000), &all[..6]),
            ((3, 1_000_000), &all[..3]),
            ((100, 606), &all[..6]),
            ((100, 203), &all[..3]),
            ((100, 1), &all[..1]),
        ],
    );
}

#[test]
fn null_and_empty_columns_stay_apart_and_a_row_without_bytes_is_fetched() {
    let mut world = World::new("fields");
    world.sql("INSERT INTO outbox (type, payload, key, topic) VALUES ('a', NULL, '', NULL), ('', '', NULL, ''), ('c', 'p', 'k', 't')");
    let ask = FetchRequest {
        after: i64::MIN,
        gaps: &[],
        rows: 10,
        bytes: 1_000,
    };
    let text =
        |field: Option<&[u8]>| field.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let shown: Vec<[Option<String>; 5]> = fetch(&world, &[ask])[0]
        .events()
        .map(|e| [Some(e.event_type), e.payload, e.key, e.topic, e.headers].map(text))
        .collect();
    let row = |fields: [Option<&str>; 5]| fields.map(|field| field.map(str::to_owned));
    assert_eq!(
        shown,
        [
            row([Some("a"), None, Some(""), None, None]),
            row([Some(""), Some(""), None, Some(""), None]),
            row([Some("c"), Some("p"), Some("k"), Some("t"), None]),
        ]
    );
}
