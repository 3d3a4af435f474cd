//! `sql/inbox.sql`.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row};

use super::{assert_refused, query, side_by_side};
use crate::support::{PATIENCE, World, create_topic};

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

/// Consumers of a topic with two partitions.
struct Group {
    brokers: String,
    topic: String,
    database: String,
    name: &'static str,
}

impl Group {
    /// Returns a consumer that begins with what the group has not committed.
    fn consumer(&self) -> BaseConsumer {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", format!("{}.{}", self.topic, self.name))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, 1);
        let committed = consumer.committed_offsets(list, PATIENCE);
        let committed = committed.expect("offsets");
        for partition in 0..2 {
            let mut it = committed
                .find_partition(&self.topic, partition)
                .expect("it");
            if it.offset() == Offset::Invalid {
                it.set_offset(Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&committed).expect("an assignment");
        consumer
    }

    /// Handles records, and is killed after so many steps of the loop. Returns whether it came to
    /// the end of the topic before.
    async fn consume(&self, mut steps: usize) -> bool {
        let consumer = self.consumer();
        let session = PgConnection::connect(&self.database).await;
        let mut session = session.expect("a session");
        let (mut ends, mut last) = (0, Instant::now());
        while ends < 2 {
            assert!(last.elapsed() < PATIENCE, "no end of the topic");
            let record = match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => record,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    ends += 1;
                    continue;
                }
                _ => continue,
            };
            last = Instant::now();
            let headers = record.headers().expect("headers");
            let id = headers.iter().find(|it| it.key == "id").expect("an id");
            let id = std::str::from_utf8(id.value.expect("a value")).expect("text");
            let claim = format!("SELECT doorbell.first_time('totals', '{id}')");
            let effect = format!("INSERT INTO effect VALUES ('{id}')");
            let mut is_first = false;
            for step in ["BEGIN", &claim, &effect, "COMMIT", "the offset"] {
                // The session and the consumer end as they do when the process is killed.
                if steps == 0 {
                    return false;
                }
                steps -= 1;
                if step == "the offset" {
                    let done = consumer.commit_message(&record, CommitMode::Sync);
                    done.expect("the offset is committed");
                } else if step != effect || is_first {
                    let rows = query(&mut session, step).await.expect(step);
                    is_first |= step == claim && rows[0].get::<bool, _>(0);
                }
            }
        }
        true
    }
}

#[test]
fn consumers_that_are_killed_at_each_point_of_their_loop_apply_each_event_once() {
    let mut world = world("inboxkilled");
    world.sql("CREATE TABLE effect (event_id uuid)");
    create_topic(&world, &world.topic, 2, &[]);
    world.sql("INSERT INTO outbox (type, key) SELECT 'x', n::text FROM generate_series(1, 20) n");
    let topic = world.topic.clone();
    // Each record is in the topic twice.
    for command in [
        &["drain", "--topic", &topic][..],
        &["replay", "--from", &topic, "--to", &topic, "--same-topic"],
    ] {
        let output = world.doorbell(command);
        assert!(output.status.success(), "{output:?}");
    }
    let groups = ["one", "other"].map(|name| Group {
        brokers: world.services.kafka_brokers.clone(),
        topic: topic.clone(),
        database: world.database_url.clone(),
        name,
    });
    // Two of them at the same time, and each has one step more than the one that was killed before.
    let consumers = groups.map(|group| {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            (1..).find(|steps| runtime.block_on(group.consume(*steps)))
        })
    });
    for consumer in consumers {
        let steps = consumer.join().expect("no panic").expect("an end");
        assert!(steps > 10, "killed {steps} times");
    }
    let all = "SELECT count(*) FROM effect";
    assert_eq!(world.number(all), 20);
    let events = "SELECT count(DISTINCT event_id) FROM effect";
    assert_eq!(world.number(events), 20);
}
