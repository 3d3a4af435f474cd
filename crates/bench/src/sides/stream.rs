//! Rows that come by the clock, through one side, to a consumer that waits for them.

use std::time::{Duration, Instant};

use super::{Running, Side, Start};
use crate::fixture::consumer::{Arrival, Consumer};
use crate::fixture::{Fixture, Writers};
use crate::report::figures::Samples;

/// A side at work on an outbox that was empty, with writers before it and a consumer behind it.
pub(crate) struct Stream {
    pub(crate) running: Running,
    writers: Writers,
    consumer: Consumer,
    side: Side,
    /// The number of the next row.
    next: i64,
}

/// When the commit of a row had returned, and its arrival.
pub(crate) type Passage = (Instant, Arrival);

impl Stream {
    pub(crate) async fn start(
        fixture: &mut Fixture,
        side: Side,
        (purpose, sessions): (&str, u32),
        start: Start<'_>,
    ) -> anyhow::Result<Self> {
        let topic = fixture.topics.make(purpose).await?;
        fixture.scratch.empty().await?;
        let writers = Writers::connect(&fixture.scratch, sessions, None).await?;
        let running = Running::start(side, fixture, &topic, start).await?;
        let consumer = Consumer::start(&fixture.topics, &topic)?;
        let next = running.warmed + 1;
        Ok(Self {
            running,
            writers,
            consumer,
            side,
            next,
        })
    }

    /// Has so many commits come, each of so many rows and so long after the one before, and waits
    /// until the consumer has all rows.
    pub(crate) async fn carry(
        &mut self,
        (commits, rows_a_commit): (u32, u32),
        gap: Duration,
    ) -> anyhow::Result<Vec<Passage>> {
        let (first, rows) = (self.next, self.side.rows());
        self.next += i64::from(commits) * i64::from(rows_a_commit);
        let committed = self
            .writers
            .paced(rows, first, (commits, rows_a_commit), gap);
        let mut passages = Vec::new();
        for (number, committed) in committed.await? {
            let arrival = tokio::select! {
                arrival = self.consumer.arrival(number) => arrival?,
                failure = self.running.failure() => return Err(failure),
            };
            passages.push((committed, arrival));
        }
        Ok(passages)
    }
}

pub(crate) fn samples(passages: &[Passage]) -> Samples {
    let mut samples = Samples::default();
    for (committed, arrival) in passages {
        samples.between(*committed, arrival.at);
    }
    samples
}

/// Rows a second that were written, from a moment on.
pub(crate) fn written_a_second(passages: &[Passage], begun: Instant) -> f64 {
    let last = passages.iter().map(|(committed, _)| *committed).max();
    let took = last.map_or(Duration::ZERO, |last| last - begun);
    passages.len() as f64 / took.as_secs_f64()
}
