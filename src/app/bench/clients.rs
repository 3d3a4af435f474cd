//! Clients that write at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::figures::Durations;
use crate::postgres::{Scratch, Writer};

/// Sessions that are kept from one measurement to the next.
pub(super) struct Clients {
    writers: Vec<Writer>,
}

/// What was written from the end of the warm-up on.
#[derive(Default)]
pub(super) struct Written {
    /// Commits a second.
    pub(super) rate: f64,
    /// From the first statement of a transaction to the return of its commit.
    pub(super) transactions: Durations,
    /// The COMMIT alone.
    pub(super) commits: Durations,
}

/// One client's part.
struct Share {
    writer: Writer,
    transactions: Durations,
    commits: Durations,
    /// When each commit had returned, since the start.
    returned: Vec<Duration>,
}

impl Clients {
    pub(super) async fn connect(
        scratch: &Scratch,
        count: u32,
        commit_delay: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let mut writers = Vec::new();
        for number in 0..count {
            let writer = Writer::open(scratch, number, commit_delay).await;
            writers.push(
                writer.with_context(|| format!("of {count} clients, {number} could connect"))?,
            );
        }
        Ok(Self { writers })
    }

    /// Has each write one transaction and take it back, so that none of them begins slowly.
    pub(super) async fn rehearse(&mut self) -> anyhow::Result<()> {
        for writer in &mut self.writers {
            writer.rehearse().await?;
        }
        Ok(())
    }

    /// All write, one transaction after the other, as fast as they can; what comes in the warm-up is not counted.
    pub(super) async fn write(
        &mut self,
        warm_up: Duration,
        duration: Duration,
    ) -> anyhow::Result<Written> {
        let shares = self.all(warm_up, warm_up + duration).await?;
        let mut written = Written::default();
        let mut commits = 0;
        for share in &shares {
            written.transactions.merge(&share.transactions);
            written.commits.merge(&share.commits);
            let counted = warm_up..warm_up + duration;
            commits += share
                .returned
                .iter()
                .filter(|at| counted.contains(at))
                .count();
        }
        written.rate = commits as f64 / duration.as_secs_f64();
        self.writers = shares.into_iter().map(|share| share.writer).collect();
        Ok(written)
    }

    /// All begin at the same moment; when each commit had returned, since then.
    pub(super) async fn burst(&mut self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        let shares = self.all(Duration::ZERO, duration).await?;
        let mut returned: Vec<Duration> = Vec::new();
        self.writers.clear();
        for share in shares {
            returned.extend(share.returned);
            self.writers.push(share.writer);
        }
        returned.sort_unstable();
        Ok(returned)
    }

    async fn all(&mut self, from: Duration, until: Duration) -> anyhow::Result<Vec<Share>> {
        let barrier = Arc::new(Barrier::new(self.writers.len()));
        let mut tasks = JoinSet::new();
        for writer in self.writers.drain(..) {
            let barrier = Arc::clone(&barrier);
            tasks.spawn(async move {
                barrier.wait().await;
                one(writer, from, until).await
            });
        }
        let mut shares = Vec::new();
        while let Some(share) = tasks.join_next().await {
            shares.push(share??);
        }
        Ok(shares)
    }
}

async fn one(mut writer: Writer, from: Duration, until: Duration) -> anyhow::Result<Share> {
    let begun = Instant::now();
    let (mut transactions, mut commits) = (Durations::default(), Durations::default());
    let mut returned = Vec::new();
    let mut started = Duration::ZERO;
    while started < until {
        let commit = writer.transact().await?;
        let ended = begun.elapsed();
        if started >= from {
            transactions.add(ended.saturating_sub(started));
            commits.add(commit);
        }
        returned.push(ended);
        started = ended;
    }
    Ok(Share {
        writer,
        transactions,
        commits,
        returned,
    })
}
