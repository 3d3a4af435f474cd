//! `sql/inbox.sql`.

use sqlx::Row;

use super::{assert_refused, query, side_by_side};
use crate::support::World;

const INBOX: &str = include_str!("../../../sql/inbox.sql");

fn world(test: &str) -> World {
    let mut world = World::new(test);
    // Twice, because it can be run again.
    world.sql(INBOX);
    world.sql(INBOX);
    world
}

/// The ids of so many events.
fn ids(count: usize) -> Vec<String> {
    let ids = (0..count).map(|n| format!("00000000-0000-7000-8000-{n:012}"));
    ids.collect()
}

#[test]
fn an_event_that_many_transactions_claim_at_once_takes_effect_once() {
    let mut world = world("inboxonce");
    world.sql("CREATE TABLE effect (event_id uuid)");
    let ids = ids(50);
    side_by_side(&world, 8, async |consumer, mut session| {
        for (n, id) in ids.iter().enumerate() {
            query(&mut session, "BEGIN").await.expect("a transaction");
            let effect = format!(
                "INSERT INTO effect SELECT '{id}' WHERE doorbell.first_time('totals', '{id}')"
            );
            query(&mut session, &effect).await.expect("an effect");
            // A consumer that fails takes its claim back.
            let end = if (n + consumer) % 3 == 0 {
                "ROLLBACK"
            } else {
                "COMMIT"
            };
            query(&mut session, end).await.expect("an end");
        }
    });
    let counts =
        "SELECT count(*) FROM (SELECT event_id FROM effect GROUP BY 1 HAVING count(*) = 1) e";
    assert_eq!(world.number(counts), 50);
    assert_eq!(world.number("SELECT count(*) FROM effect"), 50);
    // Each consumer has its own effect.
    let other = format!(
        "SELECT doorbell.first_time('mails', '{}')::int::bigint",
        ids[0]
    );
    assert_eq!(world.number(&other), 1);
}

#[test]
fn batches_with_duplicates_are_claimed_in_any_order_at_once() {
    let mut world = world("inboxbatch");
    let ids = ids(200);
    let claimed = side_by_side(&world, 4, async |consumer, mut session| {
        let mut claimed = 0;
        for turn in 0..10 {
            let mut batch: Vec<String> = ids[turn * 20..][..20].to_vec();
            batch.rotate_left(consumer * 5);
            batch.push(batch[0].clone());
            let claim = format!(
                "SELECT doorbell.first_times('totals', '{{{}}}')",
                batch.join(",")
            );
            claimed += query(&mut session, &claim).await.expect("claims").len();
        }
        claimed
    });
    assert_eq!(claimed.iter().sum::<usize>(), 200);
    let left = world.rows("SELECT doorbell.first_times('totals', '{}')");
    assert_eq!(left.len(), 0);
}

#[test]
fn claims_are_forgotten_in_batches() {
    let mut world = world("inboxforget");
    world.sql("INSERT INTO doorbell.inbox SELECT gen_random_uuid(), 'totals', now() - interval '1 day' * n FROM generate_series(1, 60) n");
    let forget = "SELECT doorbell.forget_claims('30 days', 20)";
    let batches: Vec<i64> = (0..3).map(|_| world.rows(forget)[0].get(0)).collect();
    assert_eq!(batches, [20, 11, 0]);
}

#[test]
fn a_claim_of_nothing_is_refused() {
    let world = world("inboxnull");
    assert_refused(
        &world,
        &[
            ("SELECT doorbell.first_time('c', NULL)", "22004"),
            (
                "SELECT doorbell.first_time(NULL, gen_random_uuid())",
                "22004",
            ),
            (
                "SELECT doorbell.first_times('c', ARRAY[NULL]::uuid[])",
                "22004",
            ),
            ("SELECT doorbell.first_times('c', NULL)", "22004"),
            ("SELECT doorbell.forget_claims(NULL)", "22023"),
            ("SELECT doorbell.forget_claims('1 day', 0)", "22023"),
            ("SELECT doorbell.forget_claims('-1 second')", "22023"),
        ],
    );
}
