//! The bounds of one fetch.

use doorbell::config::{Columns, DatabaseUrl, TableName};
use doorbell::postgres::{Ask, Batch, Reader, Server, Session, Table};

use crate::support::World;

/// What fetches bring, one after another.
fn fetch(world: &World, asks: &[Ask<'_>]) -> Vec<Batch> {
    let url = DatabaseUrl::parse(&world.database_url).expect("a database URL");
    world.block_on(async {
        let server = Server::find(&url).await.expect("a server");
        let mut session = Session::open(&server, "test").await.expect("a session");
        let table = Table::find(&mut session, &TableName::default(), &Columns::default())
            .await
            .expect("the outbox");
        let mut reader = Reader::new(session, &table).await.expect("a reader");
        let mut batches = Vec::new();
        for ask in asks {
            batches.push(reader.fetch(ask).await.expect("a batch"));
        }
        batches
    })
}

/// Fetches within bounds, rows and bytes, and compares the ids.
#[track_caller]
fn expect(
    world: &World,
    (after, gaps): (i64, &[(i64, i64)]),
    expected: &[((usize, usize), &[i64])],
) {
    let asks: Vec<Ask<'_>> = expected
        .iter()
        .map(|&((rows, bytes), _)| Ask {
            after,
            gaps,
            rows,
            bytes,
        })
        .collect();
    for (batch, (bounds, ids)) in fetch(world, &asks).iter().zip(expected) {
        let fetched: Vec<i64> = batch.heads().map(|row| row.id).collect();
        assert_eq!(fetched, *ids, "{bounds:?}");
    }
}

#[test]
fn a_fetch_ends_with_the_row_that_reaches_the_bytes_whatever_the_payload_is_made_of() {
    for (kind, value) in [
        ("text", "to_json(repeat('x', 78))::text"),
        ("json", "to_json(repeat('x', 78))"),
        ("jsonb", "to_jsonb(repeat('x', 78))"),
        ("bytea", "repeat('x', 80)::bytea"),
    ] {
        let mut world = World::new("bound");
        world.sql(&format!(
            "ALTER TABLE outbox ALTER payload TYPE {kind} USING NULL; \
             INSERT INTO outbox (type, payload, key, headers) SELECT 't', {value}, 'key 4567', '{{\"a\": \"567\"}}' FROM generate_series(1, 20)"
        ));
        let all: Vec<i64> = (6..=20).collect();
        // Each row has 80 bytes of payload, 8 of key and 12 of headers.
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
                // One row goes, however large.
                ((100, 1), &all[..1]),
            ],
        );
        let ask = Ask {
            after: 19,
            gaps: &[],
            rows: 2,
            bytes: 1_000_000,
        };
        let sizes: Vec<usize> = fetch(&world, &[ask])[0]
            .heads()
            .map(|row| row.bytes)
            .collect();
        assert_eq!(sizes, [100], "{kind}");
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
            ((100, 600), &all[..6]),
            ((100, 201), &all[..3]),
            ((100, 1), &all[..1]),
        ],
    );
}

#[test]
fn null_and_empty_columns_stay_apart_and_a_row_without_bytes_is_fetched() {
    let mut world = World::new("fields");
    world.sql("INSERT INTO outbox (type, payload, key, topic) VALUES ('a', NULL, '', NULL), ('', '', NULL, ''), ('c', 'p', 'k', 't')");
    let ask = Ask {
        after: i64::MIN,
        gaps: &[],
        rows: 10,
        bytes: 1,
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
