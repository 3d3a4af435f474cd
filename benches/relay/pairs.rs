//! The relay in two situations, pair by pair.

use std::fmt;

use anyhow::Context;
use doorbell::app::bench::figures::{Spread, thousands};
use serde::Serialize;

use crate::drain::{Beside, Run, table};
use crate::side::Side;
use crate::stage::Stage;

/// What a drain finds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Situation {
    rows: i64,
    beside: Beside,
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// What may slow it, and what it is held against.
    pair: [Situation; 2],
    rounds: Vec<Pair>,
    ratio: Spread,
}

#[derive(Debug, Serialize)]
struct Pair {
    harder: Run,
    easier: Run,
    /// The rate of the harder over that of the easier.
    ratio: f64,
}

/// A backlog of `rows`, against a hundredth of it.
pub(crate) async fn scale(stage: &mut Stage, rows: i64, rounds: u32) -> anyhow::Result<Results> {
    let of = |rows| Situation {
        rows,
        beside: Beside::Nothing,
    };
    measure(stage, [of(rows), of((rows / 100).max(1))], rounds).await
}

/// A snapshot that is held all the while, against none.
pub(crate) async fn xmin(stage: &mut Stage, rows: i64, rounds: u32) -> anyhow::Result<Results> {
    let of = |beside| Situation { rows, beside };
    measure(
        stage,
        [of(Beside::IdleSnapshot), of(Beside::Nothing)],
        rounds,
    )
    .await
}

async fn measure(stage: &mut Stage, pair: [Situation; 2], rounds: u32) -> anyhow::Result<Results> {
    let [harder, easier] = pair;
    let mut measured: Vec<Pair> = Vec::new();
    for round in 0..rounds {
        eprintln!("drain {}/{rounds}: relay, {harder} and {easier}", round + 1);
        let (harder, easier) = if round % 2 == 0 {
            let first = run(stage, harder).await?;
            (first, run(stage, easier).await?)
        } else {
            let first = run(stage, easier).await?;
            (run(stage, harder).await?, first)
        };
        let ratio = harder.rows_per_second / easier.rows_per_second;
        measured.push(Pair {
            harder,
            easier,
            ratio,
        });
    }
    Ok(Results {
        pair: [harder, easier],
        ratio: Spread::of(measured.iter().map(|pair| pair.ratio))
            .context("nothing was measured")?,
        rounds: measured,
    })
}

async fn run(stage: &mut Stage, situation: Situation) -> anyhow::Result<Run> {
    table(stage, Side::Relay, situation.rows, situation.beside).await
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let ([harder, easier], Spread { min, median, max }) = (self.pair, self.ratio);
        format!("drain, {harder} / {easier}: {median:.2} ({min:.2} to {max:.2})")
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", thousands(self.rows as f64))?;
        match self.beside {
            Beside::Nothing => Ok(()),
            Beside::IdleSnapshot => write!(f, " with a held snapshot"),
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [harder, easier] = self.pair;
        writeln!(f, "the relay alone, rows/s\n")?;
        writeln!(
            f,
            "| round | {harder} | {easier} | ratio | peak memory, MiB | |"
        )?;
        writeln!(f, "|{}", "---|".repeat(6))?;
        for (number, pair) in self.rounds.iter().enumerate() {
            writeln!(
                f,
                "| {} | {} | {} | {:.2} | {:.0} | {:.0} |",
                number + 1,
                thousands(pair.harder.rows_per_second),
                thousands(pair.easier.rows_per_second),
                pair.ratio,
                pair.harder.peak_memory_mib.unwrap_or_default(),
                pair.easier.peak_memory_mib.unwrap_or_default(),
            )?;
        }
        writeln!(f, "| median | | | {:.2} | | |", self.ratio.median)
    }
}
