//! Clients that write as fast as they can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::fixture::{Fixture, Ringing, Writer, Writers};
use crate::report::figures::Samples;
use crate::sides::{Running, Side, Start};

/// How often the relay of the baseline polls, so that its work is on both sides.
pub(super) const POLL: &str = "5ms";

/// Empties the outbox and starts a relay, which polls where no trigger rings.
pub(super) async fn relay_beside(
    fixture: &mut Fixture,
    topic: &str,
    ringing: Ringing,
) -> anyhow::Result<Running> {
    fixture.scratch.empty().await?;
    fixture.scratch.ring_by(ringing).await?;
    let polls = ringing == Ringing::None;
    let start = Start {
        flags: if polls { &["--poll", POLL] } else { &[] },
        ..Start::default()
    };
    Running::start(Side::Relay, fixture, topic, start).await
}

/// What was written from the end of the warm-up on.
#[derive(Default)]
pub(super) struct Written {
    /// When each commit had returned since the start, in order.
    pub(super) returned: Vec<Duration>,
    /// From the first statement of a transaction to the return of its commit.
    pub(super) transactions: Samples,
    /// The COMMIT alone.
    pub(super) commits: Samples,
}

/// All begin at the same moment and write one transaction after the other; what comes in the
/// warm-up is not counted.
pub(super) async fn write(
    writers: &mut Writers,
    warm_up: Duration,
    duration: Duration,
) -> anyhow::Result<Written> {
    let barrier = Arc::new(Barrier::new(writers.count()));
    let until = warm_up + duration;
    let all = writers.work(|_, mut writer| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            let written = write_alone(&mut writer, warm_up, until).await;
            written.map(|written| (writer, written))
        }
    });
    let mut sum = Written::default();
    for written in all.await? {
        let returned = written.returned.into_iter();
        let counted = returned.filter(|at| (warm_up..until).contains(at));
        sum.returned.extend(counted);
        sum.transactions.extend(&written.transactions);
        sum.commits.extend(&written.commits);
    }
    sum.returned.sort_unstable();
    Ok(sum)
}

async fn write_alone(
    writer: &mut Writer,
    from: Duration,
    until: Duration,
) -> anyhow::Result<Written> {
    let begun = Instant::now();
    let mut written = Written::default();
    let mut started = Duration::ZERO;
    while started < until {
        let commit = writer.transact().await?;
        let ended = begun.elapsed();
        if started >= from {
            written.transactions.add(ended.saturating_sub(started));
            written.commits.add(commit);
        }
        written.returned.push(ended);
        started = ended;
    }
    Ok(written)
}
