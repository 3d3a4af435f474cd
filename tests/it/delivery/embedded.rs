//! A program that embeds the relay, without the command line: examples/rust/embed.rs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use doorbell::{Observer, Settings, Step};
use tokio_util::sync::CancellationToken;

use crate::support::{Consumer, World, create_topic};

#[expect(dead_code, reason = "this test takes the place of its `main`")]
#[path = "../../../examples/rust/embed.rs"]
mod embed;

/// The ids that passed each step.
#[derive(Default)]
struct Passed(Mutex<Vec<(Step, i64)>>);

impl Observer for Passed {
    fn passed(&self, step: Step, rows: &mut dyn Iterator<Item = i64>, _at: Instant) {
        let mut passed = self.0.lock().expect("no panic holds the list");
        passed.extend(rows.map(|id| (step, id)));
    }
}

#[test]
fn a_program_embeds_the_relay_and_observes_its_rows() {
    let mut world = World::new("embedded");
    create_topic(&world, &world.topic, 3, &[]);
    let text = format!("[[outbox]]\nsweep = '1h'\ntopic = '{}'\n", world.topic);
    let settings = Settings::from_toml(&text, &|name| match name {
        "DATABASE_URL" => Some(world.database_url.clone()),
        "KAFKA_BROKERS" => Some(world.services.kafka_brokers.clone()),
        _ => None,
    });
    let settings = settings.expect("it is complete");
    let passed = Arc::new(Passed::default());
    let stop = CancellationToken::new();
    let relaying = thread::spawn({
        let work = embed::relay(settings, passed.clone(), stop.clone());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        move || runtime.block_on(work)
    });

    world
        .sql("INSERT INTO outbox (type, payload) SELECT 'x', g::text FROM generate_series(1, 3) g");
    Consumer::new(&world, &world.topic).await_records(3);
    world.await_empty();
    stop.cancel();
    let ended = relaying.join().expect("no panic").expect("an orderly stop");
    assert_eq!(ended[0].rows.deleted, 3);
    let passed = passed.0.lock().expect("no panic holds the list");
    for step in [Step::Fetched, Step::Acknowledged, Step::Deleted] {
        let ids = passed.iter().filter(|(it, _)| *it == step);
        // Partitions acknowledge independently.
        let ids: BTreeSet<i64> = ids.map(|(_, id)| *id).collect();
        assert_eq!(ids, BTreeSet::from([1, 2, 3]), "{step:?}: {passed:?}");
    }
}
